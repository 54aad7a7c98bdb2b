//! Forgetting an agent that is gone. Should it come back, its sessions are in its inventory and are taken in again
//! (P9).

use std::sync::Arc;

use tokio::task::JoinSet;
use tonic::Status;
use vsm_core::{AgentName, Proposal, Rejected, Session, SessionId};
use vsm_proto::admin::v1 as pb;
use vsm_sync::ProposeError;

use super::Refused;
use crate::{api::Edge, error::Refusal, journal::trail::Note};

/// Records that are dropped at a time: what one flush of the table takes.
const TOGETHER: usize = 256;

pub(super) async fn forget(
    edge: &Arc<Edge>,
    actor: &str,
    agent: AgentName,
) -> Result<pb::ForgetResponse, Status> {
    let _alone = edge.agents.marks.lock().await;
    let link = edge.agents.link(&agent);
    let (sessions, stones, drained) = edge.table.read(|view| {
        let sessions: Vec<_> = view.table.on_agent(&agent).cloned().collect();
        let of_agent = view.table.tombstones().filter(|(_, other, _)| **other == agent);
        let stones: Vec<SessionId> = of_agent.map(|(id, ..)| id).collect();
        (sessions, stones, view.table.drain(&agent).is_some())
    });
    let known = link.is_some() || !sessions.is_empty() || !stones.is_empty() || drained;
    if !known {
        return Err(Refused::NothingKnown(agent).into());
    }
    if let Some(link) = link
        && link.up().await.is_ok()
    {
        return Err(Refused::AgentUp(agent).into());
    }
    let gone = sessions.iter().map(|session| Proposal::Gone { id: session.id }).collect();
    drop_all(edge, gone).await?;
    for session in &sessions {
        forgotten(edge, actor, session);
    }
    let done = stones.iter().map(|id| Proposal::TombstoneDone { id: *id }).collect();
    drop_all(edge, done).await?;
    if drained {
        drop_all(edge, vec![Proposal::Drain { agent: agent.clone(), mark: None }]).await?;
    }
    let detail = format!("{} session(s), {} given-up start(s)", sessions.len(), stones.len());
    tracing::warn!(%agent, by = actor, detail, "an agent is forgotten");
    edge.journal.note(Note::new(actor, "agent-forgotten").agent(&agent).detail(detail));
    // One that is in no subcluster needs no link any more.
    edge.sessions.follow_agents();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(pb::ForgetResponse {
        sessions: number(sessions.len()),
        given_up: number(stones.len()),
        was_drained: drained,
    })
}

fn forgotten(edge: &Edge, actor: &str, session: &Session) {
    edge.sessions.forget_unvoted(session.id);
    edge.journal.note(Note::new(actor, "session-forgotten").session(session));
}

/// Commits these, many at a time. What is gone already is as good.
async fn drop_all(edge: &Arc<Edge>, proposals: Vec<Proposal>) -> Result<(), Status> {
    let mut proposals = proposals.into_iter();
    loop {
        let mut together = JoinSet::new();
        for proposal in proposals.by_ref().take(TOGETHER) {
            let edge = Arc::clone(edge);
            together.spawn(async move { edge.table.propose(proposal).await });
        }
        if together.is_empty() {
            return Ok(());
        }
        for done in together.join_all().await {
            match done {
                Ok(_)
                | Err(ProposeError::Rejected(Rejected::UnknownSession(_) | Rejected::GivenUp(_))) =>
                    {}
                Err(error) => return Err(Refusal::from(error).into()),
            }
        }
    }
}
