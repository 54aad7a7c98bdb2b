//! How other commands talk to a host's PID 1: one line of JSON each way on a unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// PID 1 answers at once; more means that it hangs.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest line either way.
const LINE_MAX: u64 = 64 * 1024;

/// What PID 1 can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    Status,
    Start(String),
    Stop(String),
    Kill(String),
    Signal(String, i32),
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) error: Option<String>,
    pub(crate) daemons: Vec<DaemonStatus>,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its name, e.g. `vsmagent`.
    pub name: String,
    /// What it is doing.
    pub state: DaemonState,
    /// Its process id inside the host.
    pub pid: Option<i32>,
    /// Seconds since its process started.
    pub uptime_s: Option<f64>,
    /// How often it was started again after it died.
    pub restarts: u32,
}

/// What a daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// Stopped on request.
    Stopped,
    /// Its process lives.
    Running,
    /// Asked to stop, its process still lives.
    Stopping,
    /// It died and is about to be started again.
    Waiting,
    /// It cannot start: bad configuration, or its program is not there.
    Failed,
}

impl std::fmt::Display for DaemonState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        })
    }
}

/// Asks the PID 1 that listens on `socket`.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Vec<DaemonStatus>> {
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    send(&mut stream, request)?;
    let reply: Reply = receive(&stream)?;
    match reply.error {
        None => Ok(reply.daemons),
        Some(error) => bail!(error),
    }
}

/// Serves one connection: reads the request, sends what `answer` makes of it.
pub(crate) fn serve(mut stream: UnixStream, answer: impl FnOnce(Request) -> Reply) -> Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = receive(&stream)?;
    send(&mut stream, &answer(request))
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

fn receive<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line).context("control socket")?;
    Ok(serde_json::from_str(&line)?)
}
