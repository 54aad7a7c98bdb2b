//! What it takes to move pictures of a desktop to a viewer: over the X server's own socket, or by way of `vsm-login` as
//! sshd runs it. The viewer asks for the whole desktop without compression again and again, and looks at nothing.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::Serialize;
use vsm_daemon::clock;

use crate::{
    bare, millis,
    rfb::{Viewer, Wire},
};

/// The clock of `/proc/PID/stat`.
const TICK_MS: f64 = 10.0;

/// How much, and which way.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Bytes of pictures, in MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Go by way of this `vsm-login`
    #[arg(long)]
    by: Option<PathBuf>,
}

/// What it took.
#[derive(Debug, Serialize)]
pub(crate) struct Frames {
    bytes: u64,
    /// Until the last byte was there.
    all_ms: f64,
    /// CPU time of everything on the way: viewer, X server, and `vsm-login` where there is one.
    cpu_ms: f64,
    /// CPU time of `vsm-login` alone.
    login_ms: f64,
    /// Bytes that `vsm-login` took into its own memory, or gave out of it.
    copied: u64,
}

/// Views the one desktop that runs on this host: as its user.
pub(crate) async fn run(options: &Options) -> Result<Frames> {
    let (pid, socket) = bare::running()?;
    let (stream, child) = match &options.by {
        None => (UnixStream::connect(&socket).with_context(|| socket.display().to_string())?, None),
        Some(login) => by_login(login, &socket).map(|(stream, child)| (stream, Some(child)))?,
    };
    stream.set_nonblocking(true)?;
    let mut viewer = Viewer::greet(Wire::Socket(stream.try_into()?)).await?;
    let before = (server_ms(pid)?, own_ms(UsageWho::RUSAGE_SELF)?);
    let from = clock::now();
    let mut bytes = 0;
    while bytes < options.mib << 20 {
        bytes += viewer.picture().await?;
    }
    let all_ms = millis(from, clock::now());
    let own = own_ms(UsageWho::RUSAGE_SELF)? - before.1;
    let server = server_ms(pid)? - before.0;
    let copied = child.as_ref().map_or(Ok(0), |child| copied(child.id()))?;
    drop(viewer);
    if let Some(mut child) = child {
        child.wait()?;
    }
    let login_ms = own_ms(UsageWho::RUSAGE_CHILDREN)?;
    Ok(Frames { bytes, all_ms, cpu_ms: own + server + login_ms, login_ms, copied })
}

/// `vsm-login` with a socket for its standard input and output, as sshd gives it one.
fn by_login(login: &Path, socket: &Path) -> Result<(UnixStream, Child)> {
    // SESSION/user/rfb.sock
    let session = socket.ancestors().nth(2).and_then(Path::file_name).context("its folder")?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let (input, output) = (OwnedFd::from(theirs.try_clone()?), OwnedFd::from(theirs));
    let child = Command::new(login).stdin(input).stdout(output).spawn();
    let child = child.with_context(|| login.display().to_string())?;
    writeln!(ours, "vsm/1 session {}", session.display())?;
    let mut answer = [0; 3];
    ours.read_exact(&mut answer)?;
    if &answer != b"ok\n" {
        let mut why = String::new();
        ours.read_to_string(&mut why)?;
        bail!("vsm-login refuses: {}{why}", String::from_utf8_lossy(&answer));
    }
    Ok((ours, child))
}

/// User and system time of the X server.
fn server_ms(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the X server")?;
    // The name may hold blanks: what counts comes behind it.
    let (_, fields) = stat.rsplit_once(") ").context("stat")?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<f64>);
    let mut next = || ticks.next().context("stat")?.context("stat");
    Ok((next()? + next()?) * TICK_MS)
}

/// What a process has read and written so far, by `/proc/PID/io`, which counts what is copied and not what is spliced.
fn copied(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).context("vsm-login")?;
    let of =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    let both = of("rchar:").zip(of("wchar:")).map(|(read, written): (u64, u64)| read + written);
    both.context("/proc/PID/io")
}

/// User and system time of this process, or of its children that have ended.
fn own_ms(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who)?;
    let spent = usage.user_time() + usage.system_time();
    let spent = Duration::from_micros(u64::try_from(spent.num_microseconds())?);
    Ok(spent.as_secs_f64() * 1000.0)
}
