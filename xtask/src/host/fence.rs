//! The fence agent of a host in miniature: what Pacemaker on a broker runs to have the other one's power cut. A script
//! (`cluster::pacemaker`) that only says what it is, to anybody, and leaves the rest to this.
//!
//! As every fence agent it reads `name=value` lines from standard input; the power switch outside does the deed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use super::HOST_DIR;
use crate::cluster::power_switch::SOCKET;

/// The switch may have to wait for a command that works on the cluster.
const TIMEOUT: Duration = Duration::from_secs(50);
/// Longest answer, and longest input.
const TEXT_MAX: u64 = 16 * 1024;
/// What a fence agent ends with where the outlet is off.
const IS_OFF: u8 = 2;

/// Does what standard input says.
///
/// # Errors
/// When the switch does not answer.
pub(crate) fn fence() -> Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().take(TEXT_MAX).read_to_string(&mut text)?;
    let given: BTreeMap<_, _> =
        text.lines().filter_map(|line| line.trim().split_once('=')).collect();
    let action = given.get("action").or_else(|| given.get("option")).copied().unwrap_or("reboot");
    let host = given.get("port").or_else(|| given.get("plug")).copied().unwrap_or_default();
    let socket = Path::new(HOST_DIR).join(SOCKET);
    let mut stream = UnixStream::connect(&socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    writeln!(stream, "{action} {host}")?;
    let mut answer = String::new();
    BufReader::new(stream.take(TEXT_MAX)).read_line(&mut answer).context("the power switch")?;
    Ok(match answer.trim() {
        "ok" | "on" => ExitCode::SUCCESS,
        "off" => ExitCode::from(IS_OFF),
        other => {
            eprintln!("fence_miniature: {action} {host}: {other}");
            ExitCode::FAILURE
        }
    })
}
