//! Having an agent start a reserved session: drives [`vsm_core::lifecycle::Start`], which decides, by real calls and
//! commits.

use std::{sync::Arc, time::Duration};

use tracing::Instrument as _;
use vsm_core::{
    Proposal, Session, State,
    lifecycle::{Burial, Effect, Event, Outcome, Start},
};
use vsm_daemon::{
    backoff::Backoff,
    clock::{self, Since},
    span,
    trouble::Kind,
};
use vsm_proto::agent::v1::StartRefusal;
use vsm_sync::ProposeError;

use crate::{
    error::Refusal,
    hosts::agents::{CallError, Link, Started},
    journal::trail::{Note, SELF},
    sessions::{
        Sessions, StartMark,
        drive::{self, Step},
        ending,
        gone::{self, proposed},
        want::Handed,
    },
    site::settings::Bounds,
};

/// Between two attempts to learn the outcome of a start.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What became of one attempt to start a session.
pub(crate) enum Attempt {
    /// It runs, on this display.
    Running(Handed, u32),
    Failed(String),
    /// There is no such profile there, or not for this user.
    NoProfile(String),
}

/// What the agent, or the table, said last: the machine decides by kinds, people are told the words.
#[derive(Default)]
struct Said {
    why: String,
    no_profile: bool,
    failure: Option<ProposeError>,
}

struct Driver<'a> {
    sessions: &'a Arc<Sessions>,
    session: Arc<Session>,
    bounds: &'a Bounds,
    link: Option<Arc<Link>>,
    backoff: Backoff,
    said: Said,
}

/// Has the agent of a reserved session start it, and commits what came of it. `may_be_there` = an earlier attempt may
/// have reached the agent; `_mark` = what says meanwhile that it is being started.
pub(crate) async fn attempt(
    sessions: &Arc<Sessions>,
    session: Arc<Session>,
    bounds: &Bounds,
    may_be_there: bool,
    _mark: StartMark,
) -> Result<Attempt, Refusal> {
    let span = span::session(&session);
    drive(sessions, session, bounds, may_be_there).instrument(span).await
}

async fn drive(
    sessions: &Arc<Sessions>,
    session: Arc<Session>,
    bounds: &Bounds,
    may_be_there: bool,
) -> Result<Attempt, Refusal> {
    let grace_ms = millis(sessions.settings().start_unknown_grace);
    let mut machine = Start::new(&session, grace_ms, may_be_there);
    let link = sessions.agents.link(&session.agent);
    let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    let mut driver = Driver { sessions, session, bounds, link, backoff, said: Said::default() };
    let began = Since::now();
    let handle = |event| machine.handle(millis(began.elapsed()), clock::unix_millis(), event);
    let outcome = drive::drive(&mut driver, vec![Effect::Ask], handle).await?;
    driver.over(outcome).await
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl drive::Driver for Driver<'_> {
    type Effect = Effect;
    type Event = Event;
    type Outcome = Outcome;

    async fn carry_out(&mut self, effect: Effect) -> Result<Step<Event, Outcome>, Refusal> {
        let (sessions, id) = (self.sessions, self.session.id);
        match effect {
            // The reservation stays, and whoever is active now finishes what was begun.
            Effect::Ask if !sessions.acts() => return Err(Refusal::Replaced),
            Effect::Ask => return Ok(Step::Happened(self.ask().await)),
            Effect::Propose(proposal) => {
                let result = sessions.table.propose(proposal).await;
                let event = Event::Proposed(proposed(sessions, Some(id), &result));
                if let Err(error) = result {
                    if let (true, ProposeError::Rejected(rejected)) =
                        (self.said.why.is_empty(), &error)
                    {
                        // The agent had nothing against it.
                        self.said.why = rejected.to_string();
                    }
                    self.said.failure = Some(error);
                }
                return Ok(Step::Happened(event));
            }
            Effect::Note(proposal) => self.note(proposal).await,
            Effect::Drop => gone::gone(sessions, id, None).await,
            // It has logged why, if it could not.
            Effect::End => ending::carry_out(sessions, &self.session).await,
            Effect::Bury => {
                tracing::warn!(why = self.said.why, "giving up a start");
                if let Some(link) = &self.link {
                    gone::bury(sessions, link, id, Burial::of(id)).await;
                }
            }
            Effect::Wait(most_ms) => {
                let most = Duration::from_millis(most_ms);
                tokio::time::sleep(self.backoff.next_wait().min(most)).await;
                if let Some(link) = &self.link {
                    drop(link.up_within(most).await);
                }
                return Ok(Step::Happened(Event::Waited));
            }
            Effect::Over(outcome) => return Ok(Step::Over(outcome)),
        }
        Ok(Step::Done)
    }
}

impl Driver<'_> {
    async fn note(&self, proposal: Proposal) {
        let failed = matches!(proposal, Proposal::AgentFailed { .. });
        match self.sessions.table.propose(proposal).await {
            Err(error) if failed => {
                tracing::error!(%error, "cannot record that this agent failed");
            }
            // There may be no tombstone, where the end was asked for meanwhile.
            Ok(_) | Err(_) => {}
        }
    }

    async fn ask(&mut self) -> Event {
        let session = &self.session;
        let unknown =
            |why: &str| format!("{} did not say what became of the start: {why}", session.agent);
        let Some(link) = &self.link else {
            self.said.why = unknown("it is in no subcluster");
            return Event::NoAgent;
        };
        match start(self.sessions, link, session, self.bounds).await {
            Ok(Started::Running(display)) => {
                link.troubles.over(Kind::Start, "");
                Event::Ran(display)
            }
            Ok(Started::Refused(reason, detail)) => {
                tracing::warn!(?reason, detail, "an agent refused to start a session");
                let at_fault = !is_users_own(reason);
                if at_fault {
                    link.troubles.raise(Kind::Start, "", format!("it failed a start: {detail}"));
                }
                self.said.why = format!("{detail} ({})", session.agent);
                self.said.no_profile = reason == StartRefusal::Profile;
                Event::Refused { at_fault }
            }
            Err(error) => {
                tracing::info!(%error, "no answer to a start yet");
                self.said.why = unknown(&error.why);
                Event::Unanswered { unsent: error.unsent, timed_out: error.timed_out }
            }
        }
    }

    async fn over(self, outcome: Outcome) -> Result<Attempt, Refusal> {
        let Self { sessions, session, link, said, .. } = self;
        match outcome {
            Outcome::Running(number) => {
                tracing::info!(display = number, "session started");
                sessions.note(Note::new(SELF, "session-started").session(&session));
                let up = match &link {
                    Some(link) => link.up().await.ok(),
                    None => None,
                };
                let host = up.map_or_else(
                    || session.agent.to_string(),
                    |up| up.host.public_name.to_string(),
                );
                let state = State::Running { display: number };
                let session = Arc::new(Session { state, ..Session::clone(&session) });
                Ok(Attempt::Running(Handed::new(session, host, true), number))
            }
            Outcome::Next if said.no_profile => Ok(Attempt::NoProfile(said.why)),
            Outcome::Next => Ok(Attempt::Failed(said.why)),
            Outcome::EndedMeanwhile => {
                Err(Refusal::EndedAtOnce("its end was asked for meanwhile".into()))
            }
            Outcome::EndedAtOnce => {
                let of_user = sessions.ended_of(&session.user);
                let ended = of_user.into_iter().find(|ended| ended.id == session.id);
                let why = ended.map_or_else(|| "no reason is known".into(), |ended| ended.detail);
                Err(Refusal::EndedAtOnce(why))
            }
            Outcome::Undecided => Err(said.failure.unwrap_or(ProposeError::Unknown).into()),
        }
    }
}

/// Whether a refusal has its cause with the user, not with the agent.
const fn is_users_own(reason: StartRefusal) -> bool {
    matches!(
        reason,
        StartRefusal::UnknownUser
            | StartRefusal::Account
            | StartRefusal::Home
            | StartRefusal::Cancelled
            | StartRefusal::Profile
    )
}

async fn start(
    sessions: &Sessions,
    link: &Link,
    session: &Session,
    bounds: &Bounds,
) -> Result<Started, CallError> {
    let deadline = sessions.settings().start_timeout;
    sessions.fenced(link, |fence| link.start(fence, session, bounds, deadline)).await
}
