//! A session that runs: its script is started, and it is kept to its limits until something ends it.
//!
//! It waits on everything at once and does nothing while nothing happens.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use vsm_core::EndReason;
use vsm_daemon::clock;

use super::{
    cookie,
    desktop::{Desktop, Program},
    ending::Ending,
    launch,
    limits::Enforcer,
    monitor::{End, Monitor},
    turn::{Parts, turn},
    xserver,
};
use crate::{cgroup::Cgroup, control::Phase, record::Record};

/// A script that fails within this time has not been a session.
const SCRIPT_TRIAL: Duration = Duration::from_secs(10);
/// Moving to the monitors' cgroup takes milliseconds in which no process of the host can begin or end: not while a
/// storm of logins is under way.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(3600);

/// A session that can be viewed, and whose script is about to start: `vsmagent` hears of it in between.
#[derive(Debug)]
pub(super) struct Ready {
    monitor: Monitor,
    limits: Enforcer,
}

/// A session with its script.
#[derive(Debug)]
struct Running {
    monitor: Monitor,
    limits: Enforcer,
    script: Program,
    /// When the script was started.
    since: Instant,
}

impl Ready {
    /// The time of its limits begins.
    pub(super) fn new(mut monitor: Monitor) -> Self {
        let (spec, desktop) = (&monitor.spec, &monitor.desktop);
        let (uid, cookie) = (desktop.account.uid, desktop.cookie.clone());
        let limits = Enforcer::new(spec.limits.clone(), spec.display, uid, cookie);
        let status = monitor.status(Phase::Running, limits.standing());
        monitor.peers.tell(&status);
        Self { monitor, limits }
    }

    /// The record as it is on disk.
    pub(super) const fn record(&self) -> &Record {
        &self.monitor.record
    }

    /// What an administrator should know of the start.
    pub(super) fn notes(&self) -> &[String] {
        &self.monitor.leftovers.unlimited
    }

    /// Looks after the session until something ends it.
    pub(super) fn run(self) -> Ending {
        let Self { monitor, limits } = self;
        match start_script(&monitor) {
            Ok(script) => Running { monitor, limits, script, since: clock::now() }.run(),
            Err(error) => {
                let script = monitor.spec.settings.script.display();
                let detail = format!("the session script {script} cannot be run: {error}");
                let end = End::new(EndReason::ScriptFailed, detail);
                Ending::begin(monitor, limits, None, &end)
            }
        }
    }
}

fn start_script(monitor: &Monitor) -> io::Result<Program> {
    let Desktop { account, paths, .. } = &monitor.desktop;
    let place = monitor.desktop.place(monitor.cgroup());
    let settings = &monitor.spec.settings;
    let script = &settings.script;
    if !settings.cookie_in_home {
        return place.spawn(script, std::iter::empty::<&str>());
    }
    let home = account.home.join(".Xauthority");
    let words =
        [cookie::STAGE.as_ref(), paths.cookie.as_os_str(), home.as_os_str(), script.as_os_str()];
    place.spawn(Path::new(cookie::OWN_PROGRAM), words)
}

impl Running {
    fn run(mut self) -> Ending {
        let mut settle = Some(clock::now() + SETTLE_AFTER);
        loop {
            self.look_at_x_server();
            let asked = self.monitor.asked.is_some();
            let look_again = if asked { None } else { self.limits.enforce(&mut self.monitor) };
            if let Some(end) = self.monitor.asked.take() {
                return Ending::begin(self.monitor, self.limits, Some(self.script), &end);
            }
            let now = clock::now();
            if settle.is_some_and(|at| now >= at) {
                settle = None;
                // If it stays in vsmagent's cgroup it still works; only stopping that service with all its cgroup is
                // felt.
                let _ = self.monitor.cgroup().map(Cgroup::join_monitors);
            }
            // Everything that matters wakes it.
            let next = settle.into_iter().chain(look_again).min();
            let wait = next.map_or(IDLE, |at| at.saturating_duration_since(now));
            let (limits, script) = (&mut self.limits, &mut self.script);
            let parts = Parts::Running { limits, script };
            if let Some(status) = turn(&mut self.monitor, parts, wait) {
                return self.script_ended(status);
            }
        }
    }

    /// Nothing can be seen any more once the X server has ended.
    fn look_at_x_server(&mut self) {
        let Some(status) = self.monitor.x_server_ended else { return };
        if self.monitor.asked.is_some() {
            return;
        }
        self.monitor.drain_output(Some(&mut self.script));
        let last = xserver::reason(&self.monitor.x_server.output.text());
        let how = launch::describe(status);
        let detail = format!("the X server ended ({how}); its last words: {last}");
        self.monitor.ask_to_end(EndReason::XServer, &detail);
    }

    /// The session ends with its script, unless something else has asked for the end before.
    fn script_ended(self, status: ExitStatus) -> Ending {
        let Self { mut monitor, limits, mut script, since } = self;
        monitor.drain_output(Some(&mut script));
        let end = script_end(&script, status, clock::now() - since);
        // Nobody reads what its children say from now on.
        drop(script);
        let end = monitor.asked.take().unwrap_or(end);
        Ending::begin(monitor, limits, None, &end)
    }
}

/// What the end of the script after so long means.
fn script_end(script: &Program, status: ExitStatus, after: Duration) -> End {
    let how = launch::describe(status);
    if !status.success() && after < SCRIPT_TRIAL {
        let last = script.output.last_line();
        let detail = if last.is_empty() { how } else { format!("{how}: {last}") };
        End::new(EndReason::ScriptFailed, format!("the session script failed with {detail}"))
    } else if status.signal().is_some() {
        End::new(EndReason::Killed, format!("the session script was {how}"))
    } else {
        End::new(EndReason::Logout, format!("the session script ended with {how}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::output::Stream;

    #[test]
    fn the_end_of_the_script_says_why_the_session_ends() {
        let (output, _) = Stream::new().unwrap();
        let script = Program { pid: 1, output };
        let end = |raw: i32, after: Duration| {
            script_end(&script, ExitStatus::from_raw(raw), after).reason
        };
        let (early, late) = (SCRIPT_TRIAL / 2, SCRIPT_TRIAL);
        assert_eq!(end(0, early), EndReason::Logout);
        assert_eq!(end(1 << 8, early), EndReason::ScriptFailed);
        assert_eq!(end(9, early), EndReason::ScriptFailed);
        assert_eq!(end(1 << 8, late), EndReason::Logout);
        assert_eq!(end(9, late), EndReason::Killed);
    }
}
