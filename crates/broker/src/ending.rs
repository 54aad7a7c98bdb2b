//! Ending sessions: the wish is durable first, so that it is carried out even if the agent is away now or the broker
//! dies in between.

use std::sync::Arc;

use vsm_core::{Proposal, Session, State};
use vsm_sync::ProposeError;

use crate::{broker::Broker, error::Refusal, reconcile};

/// Ends a session for its user or an administrator; why it could not be done yet, where its agent is away.
///
/// # Errors
/// If the wish cannot be recorded, or the session is unknown.
pub(crate) async fn end(
    broker: &Arc<Broker>,
    session: &Arc<Session>,
) -> Result<Result<(), String>, Refusal> {
    let (worker, session) = (Arc::clone(broker), Arc::clone(session));
    // Not in the caller's task: an end that was begun is carried out.
    let task = broker.tasks.spawn(async move {
        if !matches!(session.state, State::Ending { .. }) {
            match worker.table.propose(Proposal::End { id: session.id }).await {
                // Without votes the wish cannot be kept, but the agent can still be asked: it fences by itself.
                Ok(_) | Err(ProposeError::NoVotes) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(carry_out(&worker, &session).await)
    });
    task.await.map_err(|error| Refusal::Internal(error.to_string()))?
}

/// Has the agent end a session whose end was asked for; why not.
pub(crate) async fn carry_out(broker: &Broker, session: &Session) -> Result<(), String> {
    let away = |why: &str| {
        format!("{} cannot be reached ({why}); it ends when that returns", session.agent)
    };
    let link = broker.agents.link(&session.agent).ok_or_else(|| away("it is in no subcluster"))?;
    link.up().await.map_err(|(why, _)| away(&why))?;
    match broker.fenced(|fence| link.terminate(fence, session.id)).await {
        Ok(ended) => {
            reconcile::gone(broker, session.id, ended).await;
            Ok(())
        }
        Err(error) => {
            tracing::warn!(session = %session.id, agent = %session.agent, %error, "cannot end a session yet");
            Err(format!("{} cannot end it now ({}); it is tried again", session.agent, error.why))
        }
    }
}
