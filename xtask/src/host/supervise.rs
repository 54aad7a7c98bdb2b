//! The loop of PID 1: reap, start again, answer.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signal_hook::consts::SIGCHLD;

use super::HOST_DIR;
use super::boot::{self, HostSpec};
use super::control::{Reply, Request, serve};
use super::daemon::Daemon;
use super::debian;
use crate::clock;
use crate::cluster::spec::Start;
use crate::command::{command, run};

/// Runs as PID 1 of `host` until it is killed.
///
/// # Errors
/// When the host cannot boot; the reason is on stderr, which is the host's `init.log`.
pub(crate) fn init(state: &Path, host: &str) -> Result<()> {
    if std::process::id() != 1 {
        bail!("host-init is for `cluster up`: it runs as PID 1 of a host");
    }
    let spec = boot::spec(state, host)?;
    if spec.start == Start::Fresh {
        return debian::start(state, host, &spec);
    }
    boot::boot(state, host, &spec)?;
    // Before the first child, so that no end of one is missed.
    let (signals, sender) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, sender)?;
    first_boot(&spec)?;
    let mut daemons: Vec<_> = spec.daemons.into_iter().map(Daemon::new).collect();
    for daemon in &mut daemons {
        daemon.start(clock::now());
    }
    let socket = PathBuf::from(HOST_DIR).join("control.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).context("control socket")?;
    supervise(&mut daemons, &listener, &signals)
}

/// Configures the host as an administrator would, once.
fn first_boot(spec: &HostSpec) -> Result<()> {
    let mark = PathBuf::from(HOST_DIR).join("configured");
    if mark.exists() {
        return Ok(());
    }
    for words in &spec.first_boot {
        run(command(words).stdin(Stdio::null()))?;
    }
    Ok(std::fs::write(mark, "")?)
}

fn supervise(
    daemons: &mut [Daemon],
    listener: &UnixListener,
    mut signals: &UnixStream,
) -> Result<()> {
    loop {
        let due = daemons.iter().filter_map(Daemon::due).min();
        let wait = due.map(|due| due.saturating_duration_since(clock::now()));
        wait_any(listener, signals, wait)?;
        // The bytes only woke us up; how many there are says nothing.
        let mut drain = [0; 64];
        while matches!(signals.read(&mut drain), Ok(read) if read > 0) {}
        reap(daemons);
        for daemon in daemons.iter_mut() {
            daemon.tick(clock::now());
        }
        listener.set_nonblocking(true)?;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            if let Err(error) = serve(stream, |request| answer(daemons, request)) {
                eprintln!("control socket: {error:#}");
            }
        }
    }
}

fn wait_any(listener: &UnixListener, signals: &UnixStream, wait: Option<Duration>) -> Result<()> {
    // Rounded up, so that a daemon is due when the wait is over.
    let millis = wait.map(|wait| wait.as_millis() + 1);
    let timeout = millis.map_or(PollTimeout::NONE, |millis| {
        PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
    });
    let mut fds = [listener.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("poll"),
    }
}

/// Collects everything that ended: daemons, and the orphans that PID 1 inherits.
fn reap(daemons: &mut [Daemon]) {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        // Without a pid nothing more has ended.
        let Some(pid) = status.pid() else { return };
        let code = if let WaitStatus::Exited(_, code) = status { Some(code) } else { None };
        let now = clock::now();
        daemons.iter_mut().any(|daemon| daemon.ended(pid.as_raw(), code, now));
    }
}

fn answer(daemons: &mut [Daemon], request: Request) -> Reply {
    let error = act(daemons, request).err().map(|error| format!("{error:#}"));
    let now = clock::now();
    Reply { error, daemons: daemons.iter().map(|daemon| daemon.status(now)).collect() }
}

fn act(daemons: &mut [Daemon], request: Request) -> Result<()> {
    match request {
        Request::Status => {}
        Request::Start(name) => all(daemons, &name)?.for_each(|daemon| daemon.start(clock::now())),
        Request::Stop(name) => all(daemons, &name)?.for_each(Daemon::stop),
        Request::Kill(name) => all(daemons, &name)?.for_each(Daemon::kill),
        Request::Signal(name, number) => {
            let signal = Signal::try_from(number).context("signal number")?;
            named(daemons, &name)?.signal(signal)?;
        }
    }
    Ok(())
}

/// A daemon and what goes with it, as its unit says.
fn all<'a>(daemons: &'a mut [Daemon], name: &str) -> Result<impl Iterator<Item = &'a mut Daemon>> {
    named(daemons, name)?;
    let also = if name == "vsmagent" { "vsm-agent-net" } else { "" };
    let name = name.to_owned();
    Ok(daemons.iter_mut().filter(move |daemon| daemon.name() == name || daemon.name() == also))
}

fn named<'a>(daemons: &'a mut [Daemon], name: &str) -> Result<&'a mut Daemon> {
    let known = daemons.iter_mut().find(|daemon| daemon.name() == name);
    known.with_context(|| format!("no daemon {name:?} on this host"))
}
