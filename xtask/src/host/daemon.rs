//! One daemon under PID 1: start, stop, start again after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::HOST_DIR;
use super::control::{DaemonState, DaemonStatus};
use crate::command::command;

/// The first wait before a daemon that died is started again, and the longest.
const RESTART_MIN: Duration = Duration::from_millis(300);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// A daemon that ran this long was well: its next wait is the first one again.
const WELL_AFTER: Duration = Duration::from_secs(5);
/// Bad configuration: starting again would not help.
const EXIT_CONFIG: i32 = 78;

/// A library that tells a program another time of day, from Debian's package of this name.
pub(crate) const LIBFAKETIME: &str = if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"
} else {
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
};
/// The file in the host's state directory with the step of its clock; daemons that start while it
/// is there follow it at once.
pub(crate) const CLOCK_FILE: &str = "clock";

/// What has a daemon read the step anew whenever it asks for the time of day, and nothing else.
fn clock_environment() -> [(&'static str, String); 5] {
    [
        ("LD_PRELOAD", LIBFAKETIME.to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", format!("{HOST_DIR}/{CLOCK_FILE}")),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // A step of the wall clock moves no timer, and no file's time.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
}

/// A daemon of a host, in `host.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DaemonSpec {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    /// The file that tells keepalived whether this daemon's host may have the resource address.
    pub(crate) health: Option<PathBuf>,
}

/// What such a file says when the address must not be here.
const HEALTH_ENDED: &str = "-254\n";

/// A daemon and what is to become of it.
#[derive(Debug)]
pub(crate) struct Daemon {
    spec: DaemonSpec,
    state: State,
    restarts: u32,
    backoff: Duration,
}

/// `wanted` is gone as soon as someone stops the daemon, also while its process still ends.
#[derive(Debug, Clone, Copy)]
enum State {
    Stopped,
    Running { pid: i32, since: Instant, wanted: bool },
    Waiting { until: Instant },
    Failed,
}

impl Daemon {
    pub(crate) fn new(spec: DaemonSpec) -> Self {
        Self { spec, state: State::Stopped, restarts: 0, backoff: RESTART_MIN }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Starts it unless it runs.
    pub(crate) fn start(&mut self, now: Instant) {
        match &mut self.state {
            State::Running { wanted, .. } => *wanted = true,
            State::Stopped | State::Waiting { .. } | State::Failed => {
                // As tmpfiles.d would: keepalived does not track a file whose folder is not there.
                self.tell_health(HEALTH_ENDED);
                self.state = match self.spawn() {
                    Ok(pid) => State::Running { pid, since: now, wanted: true },
                    Err(error) => {
                        eprintln!("{}: {error:#}", self.spec.name);
                        self.tell_health(HEALTH_ENDED);
                        State::Failed
                    }
                };
            }
        }
    }

    /// Asks it to end; it is not started again.
    pub(crate) fn stop(&mut self) {
        if let State::Running { pid, wanted, .. } = &mut self.state {
            *wanted = false;
            // It may have ended a moment ago; then the reaper notices.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        } else {
            self.state = State::Stopped;
        }
    }

    /// Kills its process and those that share its process group; it is not started again.
    ///
    /// All at once: a part of keepalived that outlives the rest for a moment would clean up.
    pub(crate) fn kill(&mut self) {
        if let State::Running { pid, wanted, .. } = &mut self.state {
            *wanted = false;
            // It may have ended a moment ago; then the reaper notices.
            let _ = killpg(Pid::from_raw(*pid), Signal::SIGKILL);
        } else {
            self.state = State::Stopped;
        }
    }

    /// Sends a signal to its process alone; what it started is not touched.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let State::Running { pid, .. } = self.state else {
            anyhow::bail!("{} does not run", self.spec.name)
        };
        kill(Pid::from_raw(pid), signal).with_context(|| self.spec.name.clone())
    }

    /// Takes note of a process's end; false when it was not this daemon.
    pub(crate) fn ended(&mut self, ended: i32, code: Option<i32>, now: Instant) -> bool {
        let State::Running { pid, since, wanted } = self.state else { return false };
        if pid != ended {
            return false;
        }
        let how = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with code {code}"));
        eprintln!("{}: process {pid} ended {how}", self.spec.name);
        // As ExecStopPost in deploy/systemd/vsmserver.service: it cannot say so itself after a SIGKILL.
        self.tell_health(HEALTH_ENDED);
        self.state = if !wanted {
            State::Stopped
        } else if code == Some(EXIT_CONFIG) {
            State::Failed
        } else {
            if now - since >= WELL_AFTER {
                self.backoff = RESTART_MIN;
            }
            let until = now + self.backoff;
            self.backoff = (self.backoff * 2).min(RESTART_MAX);
            State::Waiting { until }
        };
        true
    }

    /// When it is due to be started again.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Stopped | State::Running { .. } | State::Failed => None,
        }
    }

    /// Starts it again if it is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.restarts += 1;
            self.start(now);
        }
    }

    pub(crate) fn status(&self, now: Instant) -> DaemonStatus {
        let (state, pid, uptime) = match self.state {
            State::Stopped => (DaemonState::Stopped, None, None),
            State::Running { pid, since, wanted } => {
                let state = if wanted { DaemonState::Running } else { DaemonState::Stopping };
                (state, Some(pid), Some((now - since).as_secs_f64()))
            }
            State::Waiting { .. } => (DaemonState::Waiting, None, None),
            State::Failed => (DaemonState::Failed, None, None),
        };
        let name = self.spec.name.clone();
        DaemonStatus { name, state, pid, uptime_s: uptime, restarts: self.restarts }
    }

    fn tell_health(&self, word: &str) {
        let Some(file) = &self.spec.health else { return };
        // The broker's own, which it made or was given; where it has never been there the broker is given it.
        let written = file.parent().map_or(Ok(()), fs::create_dir_all);
        let write = || match OpenOptions::new().write(true).truncate(true).open(file) {
            Ok(mut there) => there.write_all(word.as_bytes()),
            Err(_) => fs::write(file, word),
        };
        if let Err(error) = written.and_then(|()| write()) {
            eprintln!("{}: {}: {error}", self.spec.name, file.display());
        }
    }

    /// Its own session, so that no signal to PID 1's group reaches it; its log is appended to.
    fn spawn(&self) -> Result<i32> {
        let log = log(&self.spec.name)?;
        let mut daemon = command(&["setsid"]);
        daemon.args(&self.spec.argv);
        if Path::new(HOST_DIR).join(CLOCK_FILE).exists() {
            daemon.envs(clock_environment());
        }
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = &self.spec.argv[0];
        if !Path::new(program).exists() {
            anyhow::bail!("{program} is not built");
        }
        let child = daemon.spawn().with_context(|| program.clone())?;
        Ok(i32::try_from(child.id())?)
    }
}

/// Opens a daemon's log.
fn log(daemon: &str) -> Result<File> {
    let path = format!("{HOST_DIR}/log/{daemon}.log");
    OpenOptions::new().create(true).append(true).open(&path).context(path)
}
