//! Texts that are shown on the desktop: a program of the administrator's runs as the user, in the session, and its exit
//! says whether the text is shown.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use super::{desktop::Program, launch, monitor::Monitor};
use crate::{
    control::{Event, Phase},
    refusal::one_line,
};

/// Programs that show a text at a time; more are refused.
const NOTICES_MAX: usize = 8;

/// Why a program does not run in the desktop.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRun {
    #[error("too many texts are being shown on this desktop")]
    TooMany,
    #[error("{} cannot be run: {why}", program.display())]
    Failed { program: PathBuf, why: io::Error },
}

/// Who waits for the end of a program that shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Nobody: it is a text of the monitor's own.
    Nobody,
    /// This connection, to hear whether the text is shown.
    Text(u64),
    /// This connection, to hear what the user says to being shadowed, by the exit code: 0 = yes, 2 = look only, else
    /// no.
    Question {
        peer: u64,
        /// Whether control was asked for.
        control: bool,
    },
}

/// A text that is about to be shown.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) program: Program,
    waits: Waits,
}

impl Monitor {
    /// Starts to show a text; the answer comes when the program ends, unless there is one at once.
    pub(super) fn notify(&mut self, index: usize, program: &Path, text: &str) -> Option<Event> {
        let peer = self.peers.get(index)?.number;
        self.begin(program, &[text], Waits::Text(peer))
    }

    /// Starts to ask the user whether the desktop may be shadowed; the answer comes as for a text.
    pub(super) fn question(
        &mut self,
        index: usize,
        program: &Path,
        words: &[&str],
        control: bool,
    ) -> Option<Event> {
        let peer = self.peers.get(index)?.number;
        self.begin(program, words, Waits::Question { peer, control })
    }

    fn begin(&mut self, program: &Path, words: &[&str], waits: Waits) -> Option<Event> {
        if self.phase() != Phase::Running {
            return Some(Event::Terminating);
        }
        self.show(program, words, waits).err().map(|why| Event::Refused { why: why.to_string() })
    }

    /// Warns the desktop of what a limit will do to it. Where that cannot be shown the log says so: the limit holds.
    pub(super) fn warn(&mut self, text: &str) {
        self.log.note(&format!("warning: {}", one_line(text)));
        self.say(text);
    }

    /// Shows a text of the monitor's own.
    pub(super) fn say(&mut self, text: &str) {
        let Some(kept) = &self.kept else { return };
        let program = kept.spec.settings.notify_program.clone();
        if let Err(why) = self.show(&program, &[text], Waits::Nobody) {
            self.log.note(&format!("a text is not shown: {why}"));
        }
    }

    /// Runs a program in the desktop for whose end nobody waits.
    ///
    /// # Errors
    /// If it cannot be run, or too many are.
    pub(super) fn run_inside(&mut self, program: &Path, words: &[&str]) -> Result<(), NotRun> {
        self.show(program, words, Waits::Nobody)
    }

    fn show(&mut self, program: &Path, words: &[&str], waits: Waits) -> Result<(), NotRun> {
        if self.notices.len() >= NOTICES_MAX {
            return Err(NotRun::TooMany);
        }
        let cgroup = self.kept.as_ref().and_then(|kept| kept.leftovers.cgroup.as_ref());
        let place = self.desktop.place(cgroup);
        let failed = |why| NotRun::Failed { program: program.to_owned(), why };
        let spawned = place.spawn(program, words.iter().copied()).map_err(failed)?;
        self.notices.push(Notice { program: spawned, waits });
        Ok(())
    }

    /// Tells whoever asked, if this process showed a text.
    pub(super) fn notice_ended(&mut self, pid: i32, status: ExitStatus) {
        let Some(place) = self.notices.iter().position(|notice| notice.program.pid == pid) else {
            return;
        };
        let mut notice = self.notices.swap_remove(place);
        notice.program.output.drain(&mut self.log);
        let is_done = || {
            if status.success() {
                return Ok(Event::Shown);
            }
            let (how, last) = (launch::describe(status), notice.program.output.last_line());
            Err(one_line(if last.is_empty() { &how } else { &last }))
        };
        let (number, event) = match notice.waits {
            Waits::Nobody => {
                if let Err(why) = is_done() {
                    self.log.note(&format!("what was run in the desktop failed: {why}"));
                }
                return;
            }
            Waits::Text(peer) => (peer, is_done().unwrap_or_else(|why| Event::Refused { why })),
            Waits::Question { peer, control } => (peer, asked(status, control)),
        };
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) {
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
