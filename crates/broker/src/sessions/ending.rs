//! Ending sessions: the wish is durable first, so that it is carried out even if the agent goes away or the broker
//! dies in between.
//!
//! One whose agent is silent can be given up: the wish is kept, the session no longer counts for its user, and its
//! agent ends it when it is back. Nobody gives one up by mistake: it has to be asked for in so many words.

use std::sync::Arc;

use tracing::Instrument as _;
pub(crate) use vsm_core::lifecycle::ending::IfSilent;
use vsm_core::{
    Ended, Fence, Proposal, Session,
    lifecycle::{
        End,
        ending::{self, Effect, Event},
    },
};
use vsm_daemon::span;

use crate::{
    error::Refusal,
    hosts::agents::Fenced,
    journal::trail::Note,
    sessions::{
        Sessions,
        drive::{self, Step},
        gone::{gone, proposed},
    },
};

/// What became of a session that was to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left of it.
    Ended,
    /// Its end is recorded, and carried out as soon as its agent can; why not now, in one line.
    Later(String),
    /// It was given up: its agent is silent, and ends it when it is back; why it is silent, in one line.
    Abandoned(String),
    /// Nothing was done, as its agent is silent; why that is, in a few words.
    Silent(String),
}

/// Ends a session for its user or an administrator, which `note` tells once it is certain.
///
/// # Errors
/// If the wish cannot be recorded, or the session is unknown.
pub(crate) async fn end(
    sessions: &Arc<Sessions>,
    session: &Arc<Session>,
    if_silent: IfSilent,
    note: Note,
) -> Result<Outcome, Refusal> {
    let span = span::session(session);
    let (worker, session) = (Arc::clone(sessions), Arc::clone(session));
    // Not in the caller's task: an end that was begun is carried out.
    let work = async move {
        let machine = End::wanted(session.id, session.state, if_silent);
        drive(&worker, &session, machine, Some(note)).await
    };
    let task = sessions.process.tasks.spawn(work.instrument(span));
    task.await.map_err(|error| Refusal::Internal(error.to_string()))?
}

/// Has the agent end a session whose end is recorded. What cannot be done now is logged, and tried again.
pub(crate) async fn carry_out(sessions: &Sessions, session: &Session) {
    drop(drive(sessions, session, End::recorded(session.id), None).await);
}

/// What was said last: the machine decides by kinds, people are told the words.
struct Driver<'a> {
    sessions: &'a Sessions,
    session: &'a Session,
    note: Option<Note>,
    /// Why its agent cannot be reached, or cannot end it now.
    why: String,
    refusal: Option<Refusal>,
    ended: Option<Ended>,
}

/// Carries out what the machine says.
async fn drive(
    sessions: &Sessions,
    session: &Session,
    mut machine: End,
    note: Option<Note>,
) -> Result<Outcome, Refusal> {
    let (why, refusal, ended) = (String::new(), None, None);
    let mut driver = Driver { sessions, session, note, why, refusal, ended };
    let first = machine.begin();
    let outcome = drive::drive(&mut driver, first, |event| machine.handle(event)).await?;
    driver.over(outcome)
}

impl drive::Driver for Driver<'_> {
    type Effect = Effect;
    type Event = Event;
    type Outcome = ending::Outcome;

    async fn carry_out(&mut self, effect: Effect) -> Result<Step<Event, ending::Outcome>, Refusal> {
        let (sessions, session) = (self.sessions, self.session);
        Ok(Step::Happened(match effect {
            Effect::Reach => {
                let silent = silent(sessions, session).await;
                let up = silent.is_none();
                self.why = silent.unwrap_or_default();
                Event::Reached(up)
            }
            Effect::Record(id) => {
                let result = sessions.table.propose(Proposal::End { id }).await;
                let event = Event::Proposed(proposed(sessions, Some(id), &result));
                self.refusal = result.err().map(Refusal::from);
                event
            }
            Effect::Note => {
                if let Some(note) = self.note.take() {
                    let silent = Some(&self.why).filter(|why| !why.is_empty());
                    sessions.note(match silent {
                        Some(why) => note.detail(away(session, why)),
                        None => note,
                    });
                }
                return Ok(Step::Done);
            }
            Effect::Terminate => self.terminate().await,
            Effect::TerminateUnrecorded => self.terminate_unrecorded().await,
            Effect::Drop => {
                gone(sessions, session.id, self.ended.take()).await;
                return Ok(Step::Done);
            }
            Effect::Over(outcome) => return Ok(Step::Over(outcome)),
        }))
    }
}

impl Driver<'_> {
    async fn terminate(&mut self) -> Event {
        let (sessions, session) = (self.sessions, self.session);
        let link = match sessions.agents.reach(&session.agent).await {
            Ok((link, _)) => link,
            Err((why, _)) => {
                self.why = away(session, &why.to_string());
                return Event::NotNow;
            }
        };
        match sessions.fenced(&link, |fence| link.terminate(fence, session.id)).await {
            Ok(ended) => {
                self.ended = ended;
                Event::Ended
            }
            Err(error) => {
                tracing::warn!(%error, "cannot end a session yet");
                let agent = &session.agent;
                self.why = format!("{agent} cannot end it now ({}); it is tried again", error.why);
                Event::NotNow
            }
        }
    }

    /// By the right of this node's last reign.
    async fn terminate_unrecorded(&mut self) -> Event {
        let (sessions, session) = (self.sessions, self.session);
        let Ok((link, _)) = sessions.agents.reach(&session.agent).await else {
            return Event::NotNow;
        };
        let last = sessions.table.state().replica.last.epoch.clone();
        if link.aside().is_some() || last.node != *sessions.node() {
            return Event::NotNow;
        }
        // Never by the epoch of a claim that nobody voted for: the agent would promise to it.
        let fence = Fence { epoch: last, ..sessions.table.fence() };
        match link.terminate(fence, session.id).await {
            Ok(Fenced::Done(ended)) => {
                self.ended = ended;
                Event::Ended
            }
            Ok(Fenced::Refused(promised)) => {
                tracing::info!(%promised, "cannot end a session without votes");
                Event::NotNow
            }
            Err(error) => {
                tracing::info!(%error, "cannot end a session without votes");
                Event::NotNow
            }
        }
    }

    fn over(self, outcome: ending::Outcome) -> Result<Outcome, Refusal> {
        let Self { session, why, refusal, .. } = self;
        match outcome {
            ending::Outcome::Ended => Ok(Outcome::Ended),
            ending::Outcome::Later => Ok(Outcome::Later(why)),
            ending::Outcome::Abandoned => Ok(Outcome::Abandoned(away(session, &why))),
            ending::Outcome::Silent => Ok(Outcome::Silent(why)),
            ending::Outcome::Refused => {
                let no_words = || Refusal::Internal("an end was refused without a word".into());
                Err(refusal.unwrap_or_else(no_words))
            }
        }
    }
}

fn away(session: &Session, why: &str) -> String {
    format!("{} cannot be reached ({why}); it ends when that returns", session.agent)
}

/// Why the session's agent cannot be reached; none = it can.
pub(crate) async fn silent(sessions: &Sessions, session: &Session) -> Option<String> {
    sessions.agents.reach(&session.agent).await.err().map(|(why, _)| why.to_string())
}
