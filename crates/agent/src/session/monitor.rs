//! What lives as long as a session does, through all of its phases: the desktop and its X server, the connections, the
//! texts on the desktop, the log.

use std::{path::Path, process::ExitStatus, time::Instant};

use nix::sys::{signal::Signal, signalfd::SignalFd};
use vsm_core::{EndReason, Standing};
use vsm_daemon::clock;

use super::{
    children,
    desktop::{Desktop, Program},
    keyboard::Keyboard,
    leftovers::Leftovers,
    notices::{NotRun, Notices, Waits},
    output::Log,
    peers::Peers,
    shadow::Shadowing,
};
use crate::{
    cgroup::Cgroup,
    control::{Event, Phase},
    record::Record,
    refusal::one_line,
    spec::Spec,
};

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) reason: EndReason,
    /// One line for people.
    pub(super) detail: String,
}

impl End {
    pub(super) fn new(reason: EndReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// What all phases have.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) desktop: Desktop,
    pub(super) x_server: Program,
    /// How the X server has ended.
    pub(super) x_server_ended: Option<ExitStatus>,
    /// As it is on disk.
    pub(super) record: Record,
    pub(super) log: Log,
    pub(super) spec: Spec,
    pub(super) leftovers: Leftovers,
    pub(super) signals: SignalFd,
    pub(super) peers: Peers,
    pub(super) notices: Notices,
    pub(super) keyboard: Keyboard,
    /// That the session is to end, until a phase acts on it.
    pub(super) asked: Option<End>,
}

impl Monitor {
    /// Lets go of everything but what is left to be removed: connections end, and PAM's session.
    pub(super) fn dismiss(self) -> (Spec, Leftovers) {
        (self.spec, self.leftovers)
    }

    /// The cgroup of the session, where the host has them.
    pub(super) const fn cgroup(&self) -> Option<&Cgroup> {
        self.leftovers.cgroup.as_ref()
    }

    /// Asks for the end of the session. The first reason counts.
    pub(super) fn ask_to_end(&mut self, reason: EndReason, detail: &str) {
        self.asked.get_or_insert_with(|| End::new(reason, detail));
    }

    /// Takes what all programs say into the log.
    pub(super) fn drain_output(&mut self, script: Option<&mut Program>) {
        let said = self.x_server.output.drain(&mut self.log);
        if !said.is_empty() {
            self.look_at_keyboard(&String::from_utf8_lossy(&said), clock::now());
        }
        if let Some(script) = script {
            script.output.drain(&mut self.log);
        }
        self.notices.drain(&mut self.log);
    }

    /// Frees the keys that Xvnc has given away, if it has said that none is left.
    fn look_at_keyboard(&mut self, said: &str, now: Instant) {
        let Some(program) = self.keyboard.heard(said, now) else { return };
        self.log
            .note("the X server has no key left for new characters: loading the keyboard map anew");
        if let Err(why) = self.show(program, &[], Waits::Nobody) {
            self.log.note(&format!("the keyboard map is not loaded: {why}"));
        }
    }

    /// Runs a program in the desktop, which shows these words.
    ///
    /// # Errors
    /// If it cannot be run, or too many are.
    pub(super) fn show(
        &mut self,
        program: &Path,
        words: &[&str],
        waits: Waits,
    ) -> Result<(), NotRun> {
        let place = self.desktop.place(self.leftovers.cgroup.as_ref());
        self.notices.show(&place, program, words, waits)
    }

    /// Warns the desktop of what a limit will do to it. Where that cannot be shown the log says so: the limit holds.
    pub(super) fn warn(&mut self, text: &str) {
        self.log.note(&format!("warning: {}", one_line(text)));
        self.say(text);
    }

    /// Shows a text of the monitor's own.
    pub(super) fn say(&mut self, text: &str) {
        let program = self.spec.settings.notify_program.clone();
        if let Err(why) = self.show(&program, &[text], Waits::Nobody) {
            self.log.note(&format!("a text is not shown: {why}"));
        }
    }

    /// Takes the signals that have come, and the children that have ended. How the session's script has ended, if this
    /// process is it.
    pub(super) fn take_signals(&mut self, script: Option<i32>) -> Option<ExitStatus> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            // SIGHUP means nothing here, and SIGCHLD is looked at below in any case.
            if number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32 {
                self.ask_to_end(EndReason::Terminated, "its monitor was told to end");
            }
        }
        let mut script_ended = None;
        for (pid, status) in children::reap() {
            if pid == self.x_server.pid {
                self.x_server_ended = Some(status);
            } else if script == Some(pid) {
                script_ended = Some(status);
            } else if let Some((number, answer)) = self.notices.ended(pid, status, &mut self.log) {
                self.peers.send(&[number], &answer);
            }
        }
        script_ended
    }

    /// Says that some who have shadowed the desktop do so no more.
    pub(super) fn shadows_ended(&mut self, ended: Vec<Shadowing>) {
        if ended.is_empty() {
            return;
        }
        for Shadowing { by, told, .. } in &ended {
            self.log.note(&format!("{by} shadows the desktop no more"));
            if *told {
                self.say(&format!("{by} no longer sees your desktop."));
            }
        }
        drop(ended);
        self.peers.tell_who_shadows();
    }

    /// All there is to know of the session, in this phase.
    pub(super) fn status(&self, phase: Phase, standing: Option<Box<Standing>>) -> Event {
        let (record, viewer) = (Some(Box::new(self.record.clone())), self.peers.viewer());
        Event::Status { record, phase, viewer, standing }
    }
}
