//! Texts that are shown on the desktop: a program of the administrator's runs as the user, in the session, and its exit
//! says whether the text is shown.

use std::{iter, path::Path, process::ExitStatus};

use super::{
    desktop::{Place, Program},
    launch,
    monitor::Monitor,
};
use crate::{
    control::{Event, Phase},
    spec::one_line,
};

/// Programs that show a text at a time; more are refused.
const NOTICES_MAX: usize = 8;

/// A text that is about to be shown, and the connection that waits to hear of it.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) program: Program,
    /// None = nobody waits; it is a warning of the monitor's own.
    peer: Option<u64>,
}

impl Monitor {
    /// Starts to show a text; the answer comes when the program ends, unless there is one at once.
    pub(super) fn notify(&mut self, index: usize, program: &Path, text: &str) -> Option<Event> {
        let refused = |why: String| Some(Event::Refused { why });
        if self.phase() != Phase::Running {
            return Some(Event::Terminating);
        }
        let peer = Some(self.peers.get(index)?.number);
        match self.show(program, text, peer) {
            Ok(()) => None,
            Err(why) => refused(why),
        }
    }

    /// Warns the desktop of what a limit will do to it. Where that cannot be shown the log says so: the limit holds.
    pub(super) fn warn(&mut self, text: &str) {
        let Some(kept) = &self.kept else { return };
        let program = kept.spec.settings.notify_program.clone();
        self.log.note(&format!("warning: {}", one_line(text)));
        if let Err(why) = self.show(&program, text, None) {
            self.log.note(&format!("a warning is not shown: {why}"));
        }
    }

    fn show(&mut self, program: &Path, text: &str, peer: Option<u64>) -> Result<(), String> {
        if self.notices.len() >= NOTICES_MAX {
            return Err("too many texts are being shown on this desktop".to_owned());
        }
        let (account, environment) = (&self.desktop.account, &self.desktop.environment);
        let cgroup = self.kept.as_ref().and_then(|kept| kept.leftovers.cgroup.as_ref());
        let spawned = Place { account, cgroup, environment }.spawn(program, iter::once(text));
        let spawned =
            spawned.map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        self.notices.push(Notice { program: spawned, peer });
        Ok(())
    }

    /// Tells whoever asked, if this process showed a text.
    pub(super) fn notice_ended(&mut self, pid: i32, status: ExitStatus) {
        let Some(place) = self.notices.iter().position(|notice| notice.program.pid == pid) else {
            return;
        };
        let mut notice = self.notices.swap_remove(place);
        notice.program.output.drain(&mut self.log);
        let event = if status.success() {
            Event::Shown
        } else {
            let (how, last) = (launch::describe(status), notice.program.output.last_line());
            let why = if last.is_empty() { how } else { last };
            Event::Refused { why: one_line(&why) }
        };
        let Some(number) = notice.peer else {
            if let Event::Refused { why } = &event {
                self.log.note(&format!("a warning is not shown: {why}"));
            }
            return;
        };
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) {
            peer.send(&event);
        }
    }
}
