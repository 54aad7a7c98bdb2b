//! Logs: one line per event on stderr, which systemd or the supervisor keeps.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

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
    let subscriber =
        fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).finish();
    // Fails only where a test has set one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(error) = bad {
        tracing::warn!(filter = wanted, %error, "bad log filter; logging at info");
    }
}
