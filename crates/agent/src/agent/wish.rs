//! What a running session is asked for, and why it may not do it.

use std::io;

use super::{Agent, link, registry::Slot};
use crate::control::{self, Event, Request};

/// Why a session did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDone {
    /// The session has ended, or runs elsewhere.
    #[error("it is not on this agent any more")]
    NotHere,
    /// Its process is gone, or does not take the request.
    #[error("the session does not answer: {0}")]
    NoAnswer(#[from] io::Error),
    /// Its own words.
    #[error("{0}")]
    Refused(String),
    /// It is too late.
    #[error("the desktop is ending")]
    Ending,
}

/// Asks a session; a refusal is an error.
pub(super) async fn ask(agent: &Agent, slot: &Slot, request: &Request) -> Result<Event, NotDone> {
    let dir = control::session_dir(&agent.settings().session.run_dir, slot.id);
    let answer = link::ask(&dir, request).await?;
    if let Event::Refused { why } = answer { Err(NotDone::Refused(why)) } else { Ok(answer) }
}
