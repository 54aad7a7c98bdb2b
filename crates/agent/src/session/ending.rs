//! The end of a session: its programs end, then it closes what root has opened for it, keeps how it ended and tells
//! whoever listens.

use std::{path::Path, time::Duration};

use vsm_core::EndReason;
use vsm_daemon::clock;

use super::{
    children, cookie,
    desktop::{Desktop, Program},
    limits::Enforcer,
    monitor::{End, Monitor},
    shutdown::{self, Shutdown},
    turn::{Parts, turn},
};
use crate::{
    cgroup::Shortage,
    control::{DropCause, Event, Phase},
    process,
    record::{Done, Outcome, Store},
    refusal::one_line,
};

/// How long the home may take to be rid of the cookie.
const COOKIE_MAX: Duration = Duration::from_secs(2);
/// How long the last words to subscribers may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// A session that ends.
#[derive(Debug)]
pub(super) struct Ending {
    monitor: Monitor,
    limits: Enforcer,
    /// The session script, until it has ended.
    script: Option<Program>,
    end: End,
    shutdown: Shutdown,
}

impl Ending {
    /// Asks the programs of the session to end, and tells those who see it or listen.
    pub(super) fn begin(
        mut monitor: Monitor,
        limits: Enforcer,
        script: Option<Program>,
        asked: &End,
    ) -> Self {
        let asked = End::new(asked.reason, one_line(&asked.detail));
        let end = cause(&monitor, &asked);
        if end.detail != asked.detail {
            monitor.log.note(&asked.detail);
        }
        monitor.log.note(&format!("the session ends: {}", end.detail));
        let shutdown = Shutdown::begin(monitor.cgroup(), monitor.x_server.pid, clock::now());
        // A viewer that closes by itself would leave its user guessing; who has logged out knows.
        if end.reason != EndReason::Logout {
            monitor.peers.tell_viewers_why(&end.detail, DropCause::Ended);
        }
        let status = monitor.status(Phase::Ending, limits.standing());
        monitor.peers.tell(&status);
        Self { monitor, limits, script, end, shutdown }
    }

    /// Ends the session, until nothing is left of it.
    pub(super) fn run(mut self) {
        let x_server = self.monitor.x_server.pid;
        while !self.shutdown.advance(self.monitor.cgroup(), x_server, clock::now()) {
            let (limits, script) = (&mut self.limits, self.script.as_mut());
            let parts = Parts::Ending { limits, script };
            if turn(&mut self.monitor, parts, shutdown::TICK).is_some() {
                self.monitor.drain_output(self.script.as_mut());
                self.script = None;
            }
        }
        self.finish();
    }

    /// Closes the PAM session, keeps how it ended, tells whoever listens.
    fn finish(mut self) {
        self.monitor.drain_output(self.script.as_mut());
        let Self { mut monitor, end: End { reason, detail }, .. } = self;
        if children::any() {
            monitor.log.note("some processes cannot be ended; they are left to the kernel");
        } else {
            drop_cookie(&mut monitor);
        }
        if let Some((place, _)) = &monitor.leftovers.names {
            place.withdraw(monitor.spec.display);
        }
        if let Err(error) = monitor.desktop.pam.close() {
            monitor.log.note(&error.to_string());
        }
        let (id, at) = (monitor.spec.session.id, clock::unix_millis());
        let outcome = Outcome::Ended { reason, detail: detail.clone() };
        let store = Store::at(&monitor.spec.settings.state_dir);
        if let Err(error) = store.save_done(&Done { id, at, outcome }) {
            monitor.log.note(&error.to_string());
        }
        // First the words, then the folder: who finds it gone has been told, or finds the record of the end.
        let deadline = clock::now() + FAREWELL_MAX;
        monitor.peers.say_farewell(&Event::Ended { reason, detail, at }, deadline);
        monitor.leftovers.remove();
    }
}

/// Why it really ends: what runs out of memory ends in many ways.
fn cause(monitor: &Monitor, asked: &End) -> End {
    let by_itself = matches!(
        asked.reason,
        EndReason::Logout | EndReason::Killed | EndReason::XServer | EndReason::ScriptFailed
    );
    let cgroup = monitor.cgroup().filter(|_| by_itself);
    let detail = match cgroup.and_then(|cgroup| cgroup.shortage()) {
        Some(Shortage::Own) => {
            let limit = monitor.spec.resources.memory_max_mib;
            format!("out of memory (limit {limit} MiB)")
        }
        Some(Shortage::Host) => "out of memory: the host had none left".to_owned(),
        None => return asked.clone(),
    };
    End::new(EndReason::OutOfMemory, detail)
}

/// Takes the cookie out of the user's home, as the user; what hangs there is not waited for.
fn drop_cookie(monitor: &mut Monitor) {
    if !monitor.spec.settings.cookie_in_home {
        return;
    }
    let Desktop { account, paths, .. } = &monitor.desktop;
    let home = account.home.join(".Xauthority");
    let words = [cookie::END_STAGE.as_ref(), paths.cookie.as_os_str(), home.as_os_str()];
    let spawned = monitor.desktop.place(None).spawn(Path::new(cookie::OWN_PROGRAM), words);
    let Ok(mut program) = spawned else { return };
    let deadline = clock::now() + COOKIE_MAX;
    while children::any() && clock::now() < deadline {
        children::pause(Duration::from_millis(1));
        children::reap();
    }
    process::signal_all(&[program.pid], rustix::process::Signal::KILL);
    program.output.drain(&mut monitor.log);
}
