//! What tests and people do to a host and its daemons: stop, start, kill, cut the power.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lock::Lock;
use super::{Cluster, DaemonState, DaemonStatus, Start, cgroup, net, systemd, up};
use crate::clock::wait_for;
use crate::host::control::{Request, ask};

/// How long a daemon may take to end after SIGTERM, before SIGKILL: it gives calls 10 s to end, also where a caller is
/// frozen, logins 15 s, and the disk 3 s.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How long anything may take that needs no cooperation.
const SHORT_WAIT: Duration = Duration::from_secs(5);

impl Cluster {
    /// The daemons of a host.
    ///
    /// # Errors
    /// When the host is not known or off.
    pub fn daemons(&self, host: &str) -> Result<Vec<DaemonStatus>> {
        self.ask(host, &Request::Status)
    }

    /// One daemon of a host.
    ///
    /// # Errors
    /// When there is no such daemon.
    pub fn daemon(&self, host: &str, daemon: &str) -> Result<DaemonStatus> {
        let all = self.daemons(host)?;
        let found = all.into_iter().find(|known| known.name == daemon);
        found.with_context(|| format!("no daemon {daemon:?} on {host}"))
    }

    /// Stops a daemon and waits until its process is gone; what it started goes on.
    ///
    /// # Errors
    /// When it does not even end after SIGKILL.
    pub fn stop_daemon(&self, host: &str, daemon: &str) -> Result<()> {
        self.ask(host, &Request::Stop(daemon.to_owned()))?;
        let stopped = || match self.daemon(host, daemon) {
            Ok(status) if status.pid.is_none() => Ok(()),
            Ok(status) => Err(format!("its process {:?} still runs", status.pid)),
            Err(error) => Err(format!("{error:#}")),
        };
        let what = format!("{daemon} on {host} to stop");
        if wait_for(&what, STOP_WAIT, stopped).is_err() {
            eprintln!("{daemon} on {host} does not stop, killing it");
            // It may end at this moment; whether it has is looked at next.
            let _ = self.kill_daemon(host, daemon, Signal::SIGKILL as i32);
        }
        wait_for(&what, SHORT_WAIT, stopped)
    }

    /// Starts a daemon that was stopped or failed; one that runs is left alone.
    ///
    /// # Errors
    /// When it cannot be started; its log says more.
    pub fn start_daemon(&self, host: &str, daemon: &str) -> Result<()> {
        self.ask(host, &Request::Start(daemon.to_owned()))?;
        let status = self.daemon(host, daemon)?;
        if status.state == DaemonState::Failed {
            let log = self.daemon_log(host, "init");
            anyhow::bail!(
                "{daemon} on {host} does not start: {}",
                log.lines().last().unwrap_or("")
            );
        }
        Ok(())
    }

    /// Stops and starts a daemon.
    ///
    /// # Errors
    /// As [`Self::stop_daemon`] and [`Self::start_daemon`].
    pub fn restart_daemon(&self, host: &str, daemon: &str) -> Result<()> {
        self.stop_daemon(host, daemon)?;
        self.start_daemon(host, daemon)
    }

    /// Sends a signal to a daemon's process; one that dies of it is started again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_daemon(&self, host: &str, daemon: &str, signal: i32) -> Result<()> {
        self.ask(host, &Request::Signal(daemon.to_owned(), signal)).map(drop)
    }

    /// Kills a daemon with SIGKILL, all its processes at once; it stays dead until it is started.
    ///
    /// # Errors
    /// When there is no such daemon, or its processes do not end.
    pub fn kill_for_good(&self, host: &str, daemon: &str) -> Result<()> {
        self.ask(host, &Request::Kill(daemon.to_owned()))?;
        wait_for(&format!("{daemon} on {host} to be dead"), SHORT_WAIT, || {
            match self.daemon(host, daemon) {
                Ok(status) if status.pid.is_none() => Ok(()),
                Ok(status) => Err(format!("its process {:?} still runs", status.pid)),
                Err(error) => Err(format!("{error:#}")),
            }
        })
    }

    /// What a daemon wrote to stdout and stderr; `init` is the host's PID 1.
    #[must_use]
    pub fn daemon_log(&self, host: &str, daemon: &str) -> String {
        if self.layout.start == Start::Fresh {
            let log = self.init_pid(host).and_then(|pid| systemd::log(pid, daemon));
            return log.unwrap_or_default();
        }
        let log = fs::read(self.paths(host).log_of(daemon)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Cuts a host's power: all its processes end at once, its disks and its cable stay.
    ///
    /// # Errors
    /// When it is off already.
    pub fn power_off(&self, host: &str) -> Result<()> {
        let pid = self.init_pid(host)?;
        let lock = Lock::take(&self.layout.name)?;
        self.cut_power(host, pid, &lock)
    }

    pub(super) fn cut_power(&self, host: &str, pid: i32, lock: &Lock) -> Result<()> {
        kill(Pid::from_raw(pid), Signal::SIGKILL).context("SIGKILL")?;
        net::power_off(&self.layout, lock, self.host(host)?)?;
        cgroup::set_frozen(&self.layout.name, host, false)?;
        wait_for(&format!("{host} to be off"), SHORT_WAIT, || match self.init_pid(host) {
            Ok(pid) => Err(format!("its PID 1 ({pid}) still runs")),
            Err(_) => Ok(()),
        })
    }

    /// Boots a host that is off, with the disks as they were left.
    ///
    /// # Errors
    /// When it is on, or does not boot.
    pub fn power_on(&self, host: &str) -> Result<()> {
        if self.init_pid(host).is_ok() {
            anyhow::bail!("{host} is on");
        }
        let lock = Lock::take(&self.layout.name)?;
        up::power_on(&self.layout, self.host(host)?, &self.helper, &lock)
    }

    /// Gives a fresh host empty disks and installs Debian on them; all that it had is lost.
    pub(super) fn replace_disks(&self, host: &str, lock: &Lock) -> Result<()> {
        if let Ok(pid) = self.init_pid(host) {
            self.cut_power(host, pid, lock)?;
        }
        let dir = self.paths(host).dir;
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        up::prepare(&self.layout, self.host(host)?)?;
        up::power_on(&self.layout, self.host(host)?, &self.helper, lock)
    }

    fn ask(&self, host: &str, request: &Request) -> Result<Vec<DaemonStatus>> {
        let pid = self.init_pid(host)?;
        if cgroup::is_frozen(&self.layout.name, host) {
            anyhow::bail!("{host} is frozen");
        }
        if self.layout.start == Start::Fresh {
            return systemd::tell(pid, request).with_context(|| host.to_owned());
        }
        ask(&self.paths(host).socket(), request).with_context(|| host.to_owned())
    }
}
