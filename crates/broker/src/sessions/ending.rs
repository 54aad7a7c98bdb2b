//! Ending sessions: the wish is durable first, so that it is carried out even if the agent goes away or the broker
//! dies in between.
//!
//! One whose agent is silent can be given up: the wish is kept, the session no longer counts for its user, and its
//! agent ends it when it is back. Nobody gives one up by mistake: it has to be asked for in so many words.

use std::sync::Arc;

use tracing::Instrument as _;
use vsm_core::{Fence, Proposal, Session, State};
use vsm_daemon::span;
use vsm_sync::ProposeError;

use crate::{
    broker::Broker, error::Refusal, hosts::agents::Fenced, journal::trail::Note, sessions::gone,
};

/// What is to become of a session whose agent is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfSilent {
    /// Nothing: it stays as it is.
    Leave,
    /// It is given up: its end is recorded, and carried out when its agent is back.
    Abandon,
}

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
    broker: &Arc<Broker>,
    session: &Arc<Session>,
    if_silent: IfSilent,
    note: Note,
) -> Result<Outcome, Refusal> {
    let span = span::session(session);
    let (worker, session) = (Arc::clone(broker), Arc::clone(session));
    // Not in the caller's task: an end that was begun is carried out.
    let work = async move {
        let mut lost = None;
        if !matches!(session.state, State::Ending { .. }) {
            match record(&worker, &session, if_silent, note).await? {
                Recorded::Kept => {}
                Recorded::Not(refusal) => lost = Some(refusal),
                Recorded::Done(outcome) => return Ok(outcome),
            }
        }
        match lost {
            None => {
                let done = carry_out(&worker, &session).await;
                Ok(done.map_or_else(Outcome::Later, |()| Outcome::Ended))
            }
            // Nobody would try it again.
            Some(refusal) => {
                let done = without_votes(&worker, &session).await;
                done.map(|()| Outcome::Ended).map_err(|()| refusal)
            }
        }
    };
    let task = broker.tasks.spawn(work.instrument(span));
    task.await.map_err(|error| Refusal::Internal(error.to_string()))?
}

/// What became of a wish.
enum Recorded {
    /// It is kept, and the agent is there and can be asked.
    Kept,
    /// It cannot be kept, for this reason; the agent is there and can be asked.
    Not(Refusal),
    /// Nothing is left to do.
    Done(Outcome),
}

/// Records the wish, where it may.
async fn record(
    broker: &Arc<Broker>,
    session: &Session,
    if_silent: IfSilent,
    note: Note,
) -> Result<Recorded, Refusal> {
    let silent = silent(broker, session).await;
    if let (Some(why), IfSilent::Leave) = (&silent, if_silent) {
        return Ok(Recorded::Done(Outcome::Silent(why.clone())));
    }
    let refused = match broker.table.propose(Proposal::End { id: session.id }).await {
        Ok(_) => None,
        // Without votes, or where no node has become active for want of them, the wish cannot be kept, but an agent
        // that is there can be asked: it fences by itself.
        Err(error @ (ProposeError::NoVotes | ProposeError::NotActive)) if silent.is_none() => {
            Some(error.into())
        }
        Err(error) => return Err(error.into()),
    };
    let Some(why) = silent else {
        broker.note(note);
        return Ok(refused.map_or(Recorded::Kept, Recorded::Not));
    };
    let why = away(session, &why);
    broker.note(note.detail(&why));
    Ok(Recorded::Done(Outcome::Abandoned(why)))
}

fn away(session: &Session, why: &str) -> String {
    format!("{} cannot be reached ({why}); it ends when that returns", session.agent)
}

/// Why the session's agent cannot be reached; none = it can.
pub(crate) async fn silent(broker: &Broker, session: &Session) -> Option<String> {
    broker.agents.reach(&session.agent).await.err().map(|(why, _)| why)
}

/// Has the agent end a session whose end cannot be recorded, by the right of this node's last reign: an agent that has
/// promised to another broker since then refuses, and no promise is asked of it.
async fn without_votes(broker: &Broker, session: &Session) -> Result<(), ()> {
    let (link, _) = broker.agents.reach(&session.agent).await.map_err(drop)?;
    if link.aside().is_some() {
        return Err(());
    }
    let last = broker.table.state().replica.last.epoch.clone();
    if last.node != broker.node {
        return Err(());
    }
    // Never by the epoch of a claim that nobody voted for: the agent would promise to it.
    let fence = Fence { epoch: last, ..broker.table.fence() };
    let asked = link.terminate(fence, session.id).await;
    match asked {
        Ok(Fenced::Done(ended)) => {
            gone::gone(broker, session.id, ended).await;
            Ok(())
        }
        Ok(Fenced::Refused(promised)) => {
            tracing::info!(%promised, "cannot end a session without votes");
            Err(())
        }
        Err(error) => {
            tracing::info!(%error, "cannot end a session without votes");
            Err(())
        }
    }
}

/// Has the agent end a session whose end was asked for; why not.
pub(crate) async fn carry_out(broker: &Broker, session: &Session) -> Result<(), String> {
    let reached = broker.agents.reach(&session.agent).await;
    let (link, _) = reached.map_err(|(why, _)| away(session, &why))?;
    match broker.fenced(&link, |fence| link.terminate(fence, session.id)).await {
        Ok(ended) => {
            gone::gone(broker, session.id, ended).await;
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, "cannot end a session yet");
            Err(format!("{} cannot end it now ({}); it is tried again", session.agent, error.why))
        }
    }
}
