//! Having an agent start a reserved session, and committing what came of it.

use std::{sync::Arc, time::Duration};

use vsm_core::{AgentName, Proposal, Rejected, Session, State};
use vsm_daemon::{backoff::Backoff, clock};
use vsm_proto::agent::v1::StartRefusal;
use vsm_sync::ProposeError;

use crate::{
    agents::{CallError, Link, Started},
    broker::Broker,
    ending,
    error::Refusal,
    login::Handed,
    reconcile,
    settings::Bounds,
    trail::{Note, SELF},
};

/// Between two attempts to learn the outcome of a start.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What became of one attempt to start a session.
pub(crate) enum Attempt {
    Running(Handed),
    Failed(String),
    /// There is no such profile there, or not for this user.
    NoProfile(String),
}

/// Has the agent of a reserved session start it, and commits what came of it. An outcome that is unknown is asked
/// for again until the grace is over; only then is the start given up, durably, so that it can never become a second
/// desktop. `may_be_there` = an earlier attempt may have reached the agent.
pub(crate) async fn attempt(
    broker: &Arc<Broker>,
    session: Arc<Session>,
    bounds: &Bounds,
    mut may_be_there: bool,
) -> Result<Attempt, Refusal> {
    let _mark = broker.mark_starting(session.id);
    let began = clock::now();
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    let grace = broker.settings().start_unknown_grace;
    let unknown =
        |why: &str| format!("{} did not say what became of the start: {why}", session.agent);
    let Some(link) = broker.agents.link(&session.agent) else {
        give_up(broker, &session).await?;
        return Ok(Attempt::Failed(unknown("it is in no subcluster")));
    };
    loop {
        if !broker.acts() {
            // The reservation stays, and whoever is active now finishes what was begun.
            return Err(Refusal::Replaced);
        }
        match start(broker, &link, &session, bounds).await {
            Ok(Started::Running(display)) => {
                return running(broker, &link, &session, display).await;
            }
            Ok(Started::Refused(reason, detail)) => {
                return refused(broker, &session, reason, detail).await;
            }
            // It never heard of this start: nothing has to be waited for.
            Err(error) if error.unsent && !may_be_there => {
                tracing::warn!(session = %session.id, agent = %session.agent, %error, "an agent cannot be reached for a start");
                give_up(broker, &session).await?;
                mark_failed(broker, &session.agent).await;
                return Ok(Attempt::Failed(unknown(&error.why)));
            }
            Err(error) if error.timed_out || clock::now().duration_since(began) >= grace => {
                tracing::warn!(session = %session.id, agent = %session.agent, %error, "giving up a start without an answer");
                give_up(broker, &session).await?;
                reconcile::bury(broker, &link, session.id).await;
                mark_failed(broker, &session.agent).await;
                return Ok(Attempt::Failed(unknown(&error.why)));
            }
            Err(_) => {
                may_be_there = true;
                let left = grace.saturating_sub(clock::now().duration_since(began));
                tokio::time::sleep(backoff.next_wait().min(left)).await;
                drop(link.up_within(left).await);
            }
        }
    }
}

async fn start(
    broker: &Broker,
    link: &Link,
    session: &Session,
    bounds: &Bounds,
) -> Result<Started, CallError> {
    let deadline = broker.settings().start_timeout;
    broker.fenced(link, |fence| link.start(fence, session, bounds, deadline)).await
}

/// Commits `running` before the user hears of it.
async fn running(
    broker: &Arc<Broker>,
    link: &Link,
    session: &Arc<Session>,
    number: u32,
) -> Result<Attempt, Refusal> {
    let id = session.id;
    match broker.table.propose(Proposal::Running { id, display: number }).await {
        Ok(_) => {}
        Err(ProposeError::Rejected(Rejected::AlreadyRunning(_))) => {
            let state = broker.table.read(|view| view.table.session(id).map(|known| known.state));
            if matches!(state, Some(State::Ending { .. })) {
                // It has logged why, if it could not.
                let _ = ending::carry_out(broker, session).await;
                return Err(Refusal::EndedAtOnce("its end was asked for meanwhile".into()));
            }
        }
        Err(ProposeError::Rejected(Rejected::UnknownSession(_))) => {
            let ended = broker.ended_of(&session.user).into_iter().find(|ended| ended.id == id);
            let why = ended.map_or_else(|| "no reason is known".into(), |ended| ended.detail);
            return Err(Refusal::EndedAtOnce(why));
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(session = %id, user = %session.user, agent = %session.agent, display = number, request = %session.request, "session started");
    broker.note(Note::new(SELF, "session-started").session(session));
    let host =
        link.up().await.map_or_else(|_| session.agent.to_string(), |up| up.public_name.clone());
    let session =
        Arc::new(Session { state: State::Running { display: number }, ..Session::clone(session) });
    Ok(Attempt::Running(Handed::new(session, host, true)))
}

/// The agent refused and will hold to it: the reservation goes, and the agent is marked where the fault is its own.
async fn refused(
    broker: &Broker,
    session: &Session,
    reason: StartRefusal,
    detail: String,
) -> Result<Attempt, Refusal> {
    tracing::warn!(user = %session.user, agent = %session.agent, session = %session.id, request = %session.request, ?reason, detail, "an agent refused to start a session");
    give_up(broker, session).await?;
    // The agent holds to its refusal: no tombstone is needed. There may be none, where the end was asked for meanwhile.
    let _ = broker.table.propose(Proposal::TombstoneDone { id: session.id }).await;
    let users_own = matches!(
        reason,
        StartRefusal::UnknownUser
            | StartRefusal::Account
            | StartRefusal::Home
            | StartRefusal::Cancelled
            | StartRefusal::Profile
    );
    if !users_own {
        mark_failed(broker, &session.agent).await;
    }
    let why = format!("{detail} ({})", session.agent);
    let no_profile = reason == StartRefusal::Profile;
    Ok(if no_profile { Attempt::NoProfile(why) } else { Attempt::Failed(why) })
}

async fn give_up(broker: &Broker, session: &Session) -> Result<(), Refusal> {
    match broker.table.propose(Proposal::GiveUp { id: session.id, now: clock::unix_millis() }).await
    {
        // It was given up or ended by somebody else: what was wanted.
        Ok(_) | Err(ProposeError::Rejected(Rejected::GivenUp(_) | Rejected::UnknownSession(_))) => {
            Ok(())
        }
        // Its end was asked for while it started, and now it does not start: that is its end.
        Err(ProposeError::Rejected(Rejected::AlreadyRunning(_))) => {
            reconcile::gone(broker, session.id, None).await;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn mark_failed(broker: &Broker, agent: &AgentName) {
    let proposal = Proposal::AgentFailed { agent: agent.clone(), at: clock::unix_millis() };
    if let Err(error) = broker.table.propose(proposal).await {
        tracing::error!(%agent, %error, "cannot record that this agent failed");
    }
}
