//! Texts that are shown on the desktop: a program of the administrator's runs as the user, in the session, and its exit
//! says whether the text is shown.

use std::{path::Path, process::ExitStatus};

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

/// What the end of a program that shows something means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody waits for it.
    None,
    /// Whether the text is shown.
    Shown,
    /// What the user says to being shadowed, by its exit code: 0 = yes, 2 = look only, else no.
    Question {
        /// Whether control was asked for.
        control: bool,
    },
}

/// A text that is about to be shown, and the connection that waits to hear of it.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) program: Program,
    peer: u64,
    answer: Answer,
}

impl Monitor {
    /// Starts to show a text; the answer comes when the program ends, unless there is one at once.
    pub(super) fn notify(&mut self, index: usize, program: &Path, text: &str) -> Option<Event> {
        self.start_notice(index, program, &[text], Answer::Shown)
    }

    /// Runs a program that shows something, for the connection at `index`; past the last one = for nobody.
    pub(super) fn start_notice(
        &mut self,
        index: usize,
        program: &Path,
        words: &[&str],
        answer: Answer,
    ) -> Option<Event> {
        let refused = |why: String| Some(Event::Refused { why });
        let (Phase::Running, Some(kept)) = (self.phase(), &self.kept) else {
            return Some(Event::Terminating);
        };
        if self.notices.len() >= NOTICES_MAX {
            return refused("too many texts are being shown on this desktop".to_owned());
        }
        let peer = self.peers.get(index).map_or(0, |peer| peer.number);
        let (account, environment) = (&self.desktop.account, &self.desktop.environment);
        let cgroup = kept.leftovers.cgroup.as_ref();
        let spawned = Place { account, cgroup, environment }.spawn(program, words.iter().copied());
        match spawned {
            Ok(program) => self.notices.push(Notice { program, peer, answer }),
            Err(error) => return refused(format!("{} cannot be run: {error}", program.display())),
        }
        None
    }

    /// Tells whoever asked, if this process showed a text.
    pub(super) fn notice_ended(&mut self, pid: i32, status: ExitStatus) {
        let Some(place) = self.notices.iter().position(|notice| notice.program.pid == pid) else {
            return;
        };
        let mut notice = self.notices.swap_remove(place);
        notice.program.output.drain(&mut self.log);
        let event = if let Answer::Question { control } = notice.answer {
            asked(status, control)
        } else if status.success() {
            Event::Shown
        } else {
            let (how, last) = (launch::describe(status), notice.program.output.last_line());
            let why = if last.is_empty() { how } else { last };
            Event::Refused { why: one_line(&why) }
        };
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == notice.peer) {
            peer.send(&event);
        }
    }
}

/// What a user has said to being shadowed.
fn asked(status: ExitStatus, control: bool) -> Event {
    let (granted, control) = match status.code() {
        Some(0) => (true, control),
        Some(2) => (true, false),
        _ => (false, false),
    };
    let why =
        if granted { "" } else { "the user of the desktop does not allow it, or gave no answer" };
    Event::ShadowAnswer { granted, control, why: why.to_owned() }
}
