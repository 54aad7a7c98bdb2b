//! A mail, given to the program that root's configuration names.

use std::{io, path::Path, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};
use vsm_config::{Config, keys};
use vsm_daemon::program;

use crate::message::Answer;

/// How long the mail program may take.
pub(crate) const SEND_MAX: Duration = Duration::from_secs(60);

/// Sends it.
pub(crate) async fn send(config: &Config, text: &str) -> Answer {
    let program = config.get(&keys::vsmserver::MAIL_PROGRAM);
    match post(&program, text).await {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(error.to_string()),
    }
}

async fn post(path: &Path, text: &str) -> io::Result<()> {
    program::check(path).map_err(io::Error::other)?;
    let mut command = Command::new(path);
    command.args(["-t", "-oi"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let sent = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            match input.write_all(text.as_bytes()).await {
                // It does not read to the end: how it ends says whether that was meant.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        child.wait().await
    };
    match tokio::time::timeout(SEND_MAX, sent).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(io::Error::other(status.to_string())),
        Ok(Err(error)) => Err(error),
        Err(late) => Err(late.into()),
    }
}
