//! How long a daemon takes from its start until it says that it is ready, as systemd would be told.

use std::{
    io::Read,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use vsm_daemon::clock;

use crate::millis;

/// A daemon that takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(60);
/// What systemd is told first.
const READY: &str = "READY=1";

/// What to start.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Count the lines of its log that contain this
    #[arg(long)]
    count: String,
    /// The daemon and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    words: Vec<String>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    ready_ms: f64,
    counted: usize,
}

/// Starts it, waits until it is ready, and ends it.
pub(crate) fn run(options: &Options) -> Result<Ready> {
    let (program, arguments) = options.words.split_first().context("no program")?;
    let path = PathBuf::from(format!("/run/vsm-bench-notify.{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let from = clock::now();
    let child = Command::new(program)
        .args(arguments)
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.clone())?;
    let mut buffer = [0; 4096];
    let told = socket.recv(&mut buffer);
    let to = clock::now();
    std::fs::remove_file(&path)?;
    let log = end(child)?;
    let told = String::from_utf8_lossy(&buffer[..told.context(program.clone())?]).into_owned();
    ensure!(told.lines().any(|line| line == READY), "{program} told {told:?}, and logged {log}");
    let counted = log.lines().filter(|line| line.contains(&options.count)).count();
    Ok(Ready { ready_ms: millis(from, to), counted })
}

/// Ends it in good order; what it has logged.
fn end(mut child: Child) -> Result<String> {
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let mut log = Vec::new();
    child.stderr.take().context("its log")?.read_to_end(&mut log)?;
    child.wait()?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}
