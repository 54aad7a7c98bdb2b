//! The loop that looks after a desktop: ends of processes, requests on the control socket, output for the log.
//!
//! It waits on everything at once and does nothing while nothing happens.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::ExitStatusExt,
        },
    },
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{signal::Signal, signalfd::SignalFd},
};
use vsm_core::EndReason;
use vsm_daemon::clock;

use super::{
    children, cookie,
    desktop::{Desktop, Program},
    ending::{self, Ending},
    keyboard::Keyboard,
    launch,
    leftovers::Leftovers,
    limits::Keeping,
    notices::Notice,
    output::Log,
    peer::Peer,
    xserver,
};
use crate::{
    cgroup::{Cgroup, Shortage},
    control::{DropCause, Event, Phase},
    process,
    record::{Done, Outcome, Record, Store},
    refusal::one_line,
    spec::Spec,
};

/// A script that fails within this time has not been a session.
const SCRIPT_TRIAL: Duration = Duration::from_secs(10);
/// How long the home may take to be rid of the cookie.
const COOKIE_MAX: Duration = Duration::from_secs(2);
/// How long the last words to subscribers may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What is known once the start has succeeded.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) spec: Spec,
    pub(super) leftovers: Leftovers,
}

/// Moving to the monitors' cgroup takes milliseconds in which no process of the host can begin or end: not while a
/// storm of logins is under way.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Script {
    program: Program,
    since: Instant,
}

/// One session's monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) desktop: Desktop,
    pub(super) x_server: Program,
    pub(super) x_server_status: Option<ExitStatus>,
    pub(super) record: Option<Record>,
    pub(super) log: Log,
    pub(super) kept: Option<Kept>,
    script: Option<Script>,
    ending: Option<Ending>,
    asked: Option<(EndReason, String)>,
    pub(super) listener: UnixListener,
    signals: SignalFd,
    pub(super) peers: Vec<Peer>,
    /// Connections so far; each has a number of its own.
    pub(super) peers_ever: u64,
    pub(super) notices: Vec<Notice>,
    pub(super) keyboard: Keyboard,
    /// Its limits, once it runs.
    pub(super) life: Option<Keeping>,
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

impl Monitor {
    pub(super) const fn new(
        desktop: Desktop,
        x_server: Program,
        listener: UnixListener,
        signals: SignalFd,
        log: Log,
    ) -> Self {
        Self {
            desktop,
            x_server,
            x_server_status: None,
            record: None,
            log,
            kept: None,
            script: None,
            ending: None,
            asked: None,
            listener,
            signals,
            peers: Vec::new(),
            peers_ever: 0,
            notices: Vec::new(),
            keyboard: Keyboard::new(),
            life: None,
        }
    }

    pub(super) fn keep(&mut self, spec: Spec, leftovers: Leftovers) {
        let cookie = self.desktop.cookie.clone();
        let uid = self.desktop.account.uid;
        self.life = Some(Keeping::new(spec.limits.clone(), spec.display, uid, cookie));
        self.kept = Some(Kept { spec, leftovers });
        let status = self.status();
        self.tell(&status);
    }

    /// What an administrator should know of the start.
    pub(super) fn notes(&self) -> Vec<String> {
        self.kept.as_ref().map_or_else(Vec::new, |kept| kept.leftovers.unlimited.clone())
    }

    /// The record as it is on disk.
    pub(super) fn record(&self) -> &Record {
        self.record.as_ref().expect("a started session has a record")
    }

    pub(super) const fn asked_to_end(&self) -> bool {
        self.asked.is_some()
    }

    /// The first reason counts.
    pub(super) fn ask_to_end(&mut self, reason: EndReason, detail: &str) {
        if self.asked.is_none() {
            self.asked = Some((reason, detail.to_owned()));
        }
    }

    /// Waits for something to happen, at most so long, and handles it.
    pub(super) fn turn(&mut self, wait: Duration, also: Option<&UnixStream>) {
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![readable(self.signals.as_fd()), readable(self.listener.as_fd())];
        for peer in &self.peers {
            let send = if peer.wants_to_send() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(peer.fd(), PollFlags::POLLIN | send));
        }
        let script = self.script.as_ref().map(|script| &script.program);
        let notices = self.notices.iter().map(|notice| &notice.program);
        let programs = std::iter::once(&self.x_server).chain(script).chain(notices);
        fds.extend(programs.filter_map(|program| program.output.fd()).map(readable));
        fds.extend(also.map(|stream| readable(stream.as_fd())));
        fds.extend(self.life.as_ref().and_then(Keeping::fd).map(readable));
        if poll(&mut fds, timeout).is_err() {
            return;
        }
        let happened: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        drop(fds);
        let at = |index: usize| happened.get(index).copied().unwrap_or(false);
        for index in 0..self.peers.len() {
            if at(index + 2) {
                self.serve(index);
            }
        }
        self.drain_output();
        if at(0) {
            self.take_signals();
        }
        self.drop_gone_peers();
        if at(1) {
            self.accept();
        }
    }

    pub(super) fn drain_output(&mut self) {
        let said = self.x_server.output.drain(&mut self.log);
        if !said.is_empty() {
            self.look_at_keyboard(&String::from_utf8_lossy(&said), clock::now());
        }
        if let Some(script) = &mut self.script {
            script.program.output.drain(&mut self.log);
        }
        for notice in &mut self.notices {
            notice.program.output.drain(&mut self.log);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            // SIGHUP means nothing here, and SIGCHLD is looked at below in any case.
            if number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32 {
                self.ask_to_end(EndReason::Terminated, "its monitor was told to end");
            }
        }
        for (pid, status) in children::reap() {
            if pid == self.x_server.pid {
                self.x_server_status = Some(status);
            } else if self.script.as_ref().is_some_and(|script| script.program.pid == pid) {
                self.script_ended(status);
            } else {
                self.notice_ended(pid, status);
            }
        }
    }

    fn script_ended(&mut self, status: ExitStatus) {
        self.drain_output();
        let Some(script) = self.script.take() else { return };
        let how = launch::describe(status);
        let killed = status.signal().is_some();
        let failed = !status.success() && clock::now() - script.since < SCRIPT_TRIAL;
        let end = if failed {
            let last = script.program.output.last_line();
            let detail = if last.is_empty() { how } else { format!("{how}: {last}") };
            (EndReason::ScriptFailed, format!("the session script failed with {detail}"))
        } else if killed {
            (EndReason::Killed, format!("the session script was {how}"))
        } else {
            (EndReason::Logout, format!("the session script ended with {how}"))
        };
        self.ask_to_end(end.0, &end.1);
    }

    /// Looks after the session until nothing is left of it.
    pub(super) fn run(mut self) {
        self.start_script();
        let mut settle = Some(clock::now() + SETTLE_AFTER);
        loop {
            if self.asked.is_none()
                && let Some(status) = self.x_server_status
            {
                self.drain_output();
                let last = xserver::reason(&self.x_server.output.text());
                let detail = format!(
                    "the X server ended ({}); its last words: {last}",
                    launch::describe(status)
                );
                self.asked = Some((EndReason::XServer, detail));
            }
            let look_again = if self.asked.is_none() { self.keep_to_limits() } else { None };
            if self.ending.is_none()
                && let Some((reason, detail)) = self.asked.clone()
            {
                self.begin_end(reason, &detail);
            }
            let cgroup = self.kept.as_ref().and_then(|kept| kept.leftovers.cgroup.as_ref());
            let x_server = self.x_server.pid;
            match &mut self.ending {
                Some(ending) => {
                    if ending.advance(cgroup, x_server, clock::now()) {
                        return self.finish();
                    }
                    self.turn(ending::TICK, None);
                }
                None => {
                    let now = clock::now();
                    if settle.is_some_and(|at| now >= at) {
                        settle = None;
                        // If it stays in vsmagent's cgroup it still works; only stopping that service with all its
                        // cgroup is felt.
                        let _ = cgroup.map(Cgroup::join_monitors);
                    }
                    // Everything that matters wakes it.
                    let next = settle.into_iter().chain(look_again).min();
                    self.turn(next.map_or(IDLE, |at| at.saturating_duration_since(now)), None);
                }
            }
        }
    }

    fn start_script(&mut self) {
        let Some(kept) = &self.kept else { return };
        let Desktop { account, paths, .. } = &self.desktop;
        let place = self.desktop.place(kept.leftovers.cgroup.as_ref());
        let settings = &kept.spec.settings;
        let script = &settings.script;
        let spawned = if settings.cookie_in_home {
            let home = account.home.join(".Xauthority");
            let own = Path::new(cookie::OWN_PROGRAM);
            place.spawn(
                own,
                [
                    cookie::STAGE.as_ref(),
                    paths.cookie.as_os_str(),
                    home.as_os_str(),
                    script.as_os_str(),
                ],
            )
        } else {
            place.spawn(script, std::iter::empty::<&str>())
        };
        match spawned {
            Ok(program) => self.script = Some(Script { program, since: clock::now() }),
            Err(error) => {
                let detail =
                    format!("the session script {} cannot be run: {error}", script.display());
                self.asked = Some((EndReason::ScriptFailed, detail));
            }
        }
    }

    /// Takes the cookie out of the user's home, as the user; what hangs there is not waited for.
    fn drop_cookie(&mut self, kept: &Kept) {
        if !kept.spec.settings.cookie_in_home {
            return;
        }
        let Desktop { account, paths, .. } = &self.desktop;
        let place = self.desktop.place(None);
        let home = account.home.join(".Xauthority");
        let words = [cookie::END_STAGE.as_ref(), paths.cookie.as_os_str(), home.as_os_str()];
        let Ok(mut program) = place.spawn(Path::new(cookie::OWN_PROGRAM), words) else { return };
        let deadline = clock::now() + COOKIE_MAX;
        while children::any() && clock::now() < deadline {
            children::pause(Duration::from_millis(1));
            children::reap();
        }
        process::signal_all(&[program.pid], rustix::process::Signal::KILL);
        program.output.drain(&mut self.log);
    }

    /// Why it really ends: what runs out of memory ends in many ways.
    fn cause(&self, reason: EndReason, detail: &str) -> (EndReason, String) {
        let by_itself = matches!(
            reason,
            EndReason::Logout | EndReason::Killed | EndReason::XServer | EndReason::ScriptFailed
        );
        let kept = self.kept.as_ref().filter(|_| by_itself);
        let found = kept.and_then(|kept| Some((kept, kept.leftovers.cgroup.as_ref()?.shortage()?)));
        match found {
            Some((kept, Shortage::Own)) => {
                let limit = kept.spec.resources.memory_max_mib;
                (EndReason::OutOfMemory, format!("out of memory (limit {limit} MiB)"))
            }
            Some((_, Shortage::Host)) => {
                (EndReason::OutOfMemory, "out of memory: the host had none left".to_owned())
            }
            None => (reason, detail.to_owned()),
        }
    }

    fn begin_end(&mut self, reason: EndReason, detail: &str) {
        let seen = one_line(detail);
        let (reason, detail) = self.cause(reason, &seen);
        if detail != seen {
            self.log.note(&seen);
        }
        self.log.note(&format!("the session ends: {detail}"));
        let cgroup = self.kept.as_ref().and_then(|kept| kept.leftovers.cgroup.as_ref());
        self.ending =
            Some(Ending::begin(reason, detail.clone(), cgroup, self.x_server.pid, clock::now()));
        // A viewer that closes by itself would leave its user guessing; who has logged out knows.
        if reason != EndReason::Logout {
            let dropped = Event::Dropped { why: detail, cause: DropCause::Ended };
            for peer in self.peers.iter_mut().filter(|peer| peer.viewing.is_some()) {
                peer.send(&dropped);
            }
        }
        let status = self.status();
        self.tell(&status);
    }

    /// Closes the PAM session, keeps how it ended, tells whoever listens.
    fn finish(mut self) {
        let (Some(kept), Some(ending)) = (self.kept.take(), self.ending.take()) else { return };
        self.drain_output();
        let left = children::any();
        if left {
            self.log.note("some processes cannot be ended; they are left to the kernel");
        }
        if !left {
            self.drop_cookie(&kept);
        }
        if let Some((place, _)) = &kept.leftovers.names {
            place.withdraw(kept.spec.display);
        }
        if let Err(error) = self.desktop.pam.close() {
            self.log.note(&error.to_string());
        }
        let Ending { reason, detail, .. } = ending;
        let (id, at) = (kept.spec.session.id, clock::unix_millis());
        let outcome = Outcome::Ended { reason, detail: detail.clone() };
        if let Err(error) =
            Store::at(&kept.spec.settings.state_dir).save_done(&Done { id, at, outcome })
        {
            self.log.note(&error.to_string());
        }
        // First the words, then the folder: who finds it gone has been told, or finds the record of the end.
        let deadline = clock::now() + FAREWELL_MAX;
        for peer in &mut self.peers {
            if peer.subscribed {
                peer.send(&Event::Ended { reason, detail: detail.clone(), at });
            }
            while peer.wants_to_send() && !peer.over && clock::now() < deadline {
                children::pause(Duration::from_millis(1));
                peer.flush();
            }
        }
        kept.leftovers.remove();
    }

    pub(super) fn phase(&self) -> Phase {
        match (&self.ending, &self.kept) {
            (Some(_), _) => Phase::Ending,
            (None, None) => Phase::Starting,
            (None, Some(_)) => Phase::Running,
        }
    }

    pub(super) fn status(&self) -> Event {
        Event::Status {
            record: self.record.clone().map(Box::new),
            phase: self.phase(),
            viewer: self.viewer(),
            standing: self.standing(),
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        for peer in self.peers.iter_mut().filter(|peer| peer.subscribed) {
            peer.send(event);
        }
    }
}
