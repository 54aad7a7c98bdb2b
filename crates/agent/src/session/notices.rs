//! Texts that are shown on the desktop: a program of the administrator's runs as the user, in the session, and its exit
//! says whether the text is shown.

use std::{
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use super::{
    desktop::{Place, Program},
    launch,
    output::Log,
};
use crate::{control::Event, refusal::one_line};

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
pub(super) enum Waits {
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
struct Notice {
    program: Program,
    waits: Waits,
}

/// All texts that are about to be shown.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<Notice>);

impl Notices {
    /// Runs a program in the desktop, which shows these words.
    ///
    /// # Errors
    /// If it cannot be run, or too many are.
    pub(super) fn show(
        &mut self,
        place: &Place<'_>,
        program: &Path,
        words: &[&str],
        waits: Waits,
    ) -> Result<(), NotRun> {
        if self.0.len() >= NOTICES_MAX {
            return Err(NotRun::TooMany);
        }
        let failed = |why| NotRun::Failed { program: program.to_owned(), why };
        let program = place.spawn(program, words.iter().copied()).map_err(failed)?;
        self.0.push(Notice { program, waits });
        Ok(())
    }

    /// Output to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().filter_map(|notice| notice.program.output.fd())
    }

    /// Takes what the programs say into the log.
    pub(super) fn drain(&mut self, log: &mut Log) {
        for notice in &mut self.0 {
            notice.program.output.drain(log);
        }
    }

    /// A process has ended. If it showed a text that somebody waits for: the number of their connection, and what they
    /// are to hear.
    pub(super) fn ended(
        &mut self,
        pid: i32,
        status: ExitStatus,
        log: &mut Log,
    ) -> Option<(u64, Event)> {
        let place = self.0.iter().position(|notice| notice.program.pid == pid)?;
        let mut notice = self.0.swap_remove(place);
        notice.program.output.drain(log);
        match notice.waits {
            Waits::Nobody => {
                if let Some(why) = notice.failure(status) {
                    log.note(&format!("what was run in the desktop failed: {why}"));
                }
                None
            }
            Waits::Text(peer) => {
                let failure = notice.failure(status);
                Some((peer, failure.map_or(Event::Shown, |why| Event::Refused { why })))
            }
            Waits::Question { peer, control } => Some((peer, asked(status, control))),
        }
    }
}

impl Notice {
    /// Why its program has not shown the text; none = it has.
    fn failure(&self, status: ExitStatus) -> Option<String> {
        if status.success() {
            return None;
        }
        let (how, last) = (launch::describe(status), self.program.output.last_line());
        Some(one_line(if last.is_empty() { &how } else { &last }))
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
