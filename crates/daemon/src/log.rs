//! Logs: one line per event on stderr, which systemd or the supervisor keeps, and where the administrator wants it also
//! in a file and in the local syslog.

mod file;
mod settings;
mod syslog;

use std::{io::IsTerminal, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload};
use vsm_config::Config;

pub use settings::{LogSettings, Parts};
pub use syslog::Syslog;

use file::LogFile;
use syslog::Lines;

/// Puts another filter in place.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;
type Output = Box<dyn Layer<Registry> + Send + Sync>;

static CHANGE: OnceLock<Change> = OnceLock::new();
static FILE: OnceLock<LogFile> = OnceLock::new();

/// Starts logging. The variable `VSM_LOG` overrides the levels; it takes filters such as
/// `info,vsm_broker::sessions::login=debug`. What cannot be read, opened or reached is told and left out: a
/// daemon without logs would be worse.
pub fn init(settings: &LogSettings) {
    let wanted = std::env::var("VSM_LOG").unwrap_or_else(|_| settings.filter());
    let (filter, bad) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut outputs: Vec<Output> =
        vec![Box::new(fmt::layer().with_writer(std::io::stderr).with_ansi(colour))];
    let file = settings.file.clone().map(LogFile::open).transpose();
    if let Ok(Some(file)) = &file {
        let file = FILE.get_or_init(|| file.clone()).clone();
        outputs.push(Box::new(fmt::layer().with_writer(file).with_ansi(false)));
    }
    if let Some(target) = &settings.syslog {
        // The syslog adds the time and shows the level as it is configured to.
        let lines = fmt::layer().with_ansi(false).without_time();
        outputs.push(Box::new(lines.with_writer(Lines(Syslog::new(target.clone())))));
    }
    let (filter, handle) = reload::Layer::new(filter);
    // Both fail only where a test has set one already.
    let subscriber = Registry::default().with(outputs).with(filter);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let change = move |filter| handle.reload(filter).unwrap_or_default();
        drop(CHANGE.set(Box::new(change)));
    }
    if let Some(error) = bad {
        tracing::warn!(filter = wanted, %error, "bad log filter; logging at info");
    }
    if let Err(error) = file {
        let file = settings.file.as_ref().map(|path| path.display().to_string());
        tracing::error!(file, %error, "the log file cannot be opened; logging goes on without it");
    }
}

/// Says which files of the configuration were not read, which nobody would guess from what then happens.
pub fn unread(config: &Config) {
    for line in config.unread() {
        tracing::warn!("{line}");
    }
}

/// Takes other levels from now on, unless `VSM_LOG` decides, and opens the log file anew, which may have been moved
/// away.
pub fn reload(settings: &LogSettings) {
    if let Some(file) = FILE.get()
        && let Err(error) = file.reopen()
    {
        tracing::error!(%error, "the log file cannot be opened anew");
    }
    if std::env::var_os("VSM_LOG").is_some() {
        return;
    }
    if let (Some(change), Ok(filter)) = (CHANGE.get(), EnvFilter::try_new(settings.filter())) {
        change(filter);
    }
}
