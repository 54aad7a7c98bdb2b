//! Logs: one line per event on stderr, which systemd or the supervisor keeps.

use std::{io::IsTerminal, sync::OnceLock};

use tracing_subscriber::{EnvFilter, fmt};

/// Puts another filter in place.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

static CHANGE: OnceLock<Change> = OnceLock::new();

/// Starts logging; `level` is the least serious level that is shown (`error` … `trace`, or a filter as in
/// `info,vsm_broker::login=debug`). The variable `VSM_LOG` overrides it. A filter that cannot be read is told and
/// replaced by `info`: a daemon without logs would be worse.
pub fn init(level: &str) {
    let wanted = std::env::var("VSM_LOG").unwrap_or_else(|_| level.to_owned());
    let (filter, bad) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    // Both fail only where a test has set one already.
    if tracing::subscriber::set_global_default(builder.finish()).is_ok() {
        let change = move |filter| handle.reload(filter).unwrap_or_default();
        drop(CHANGE.set(Box::new(change)));
    }
    if let Some(error) = bad {
        tracing::warn!(filter = wanted, %error, "bad log filter; logging at info");
    }
}

/// Shows another level from now on, unless `VSM_LOG` decides.
pub fn set_level(level: &str) {
    if std::env::var_os("VSM_LOG").is_some() {
        return;
    }
    if let (Some(change), Ok(filter)) = (CHANGE.get(), EnvFilter::try_new(level)) {
        change(filter);
    }
}
