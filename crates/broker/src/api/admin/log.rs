//! The log of a session, fetched from its agent: also of one that has ended, as long as the agent keeps it.

use std::sync::Arc;

use tonic::Status;
use vsm_core::{AgentName, SessionId};
use vsm_proto::admin::v1 as pb;

use crate::{api::Edge, journal::trail::Note};

/// Fetches the end of a log.
pub(super) async fn fetch(
    edge: &Arc<Edge>,
    request: pb::SessionLogRequest,
    actor: String,
) -> Result<pb::SessionLogResponse, Status> {
    let (id, agent) = meant(edge, &request.id)?;
    let away = |why: &str| {
        Status::unavailable(format!("{agent}, which has the log, cannot be reached ({why})"))
    };
    let (link, _) = edge.agents.reach(&agent).await.map_err(|(why, _)| away(&why.to_string()))?;
    let text = link
        .session_log(edge.table.fence(), id, request.bytes)
        .await
        .map_err(|error| away(&error.why))?;
    // What a user's programs print may be private.
    let session = edge.table.read(|view| view.table.session(id).cloned());
    let note = Note::new(actor, "session-log-read").agent(&agent);
    edge.journal.note(match session {
        Some(session) => note.session(&session),
        None => note.detail(format!("of session {id}, which is over")),
    });
    let none = || Status::not_found(format!("{agent} has no log of session {id} any more"));
    Ok(pb::SessionLogResponse {
        id: id.to_string(),
        agent: agent.to_string(),
        text: text.ok_or_else(none)?,
    })
}

/// The session that ends so and its agent: from the table, or from the trail for one that is over.
fn meant(edge: &Edge, end: &str) -> Result<(SessionId, AgentName), Status> {
    let mut found: Vec<(SessionId, AgentName)> = edge.table.read(|view| {
        let live = view.table.sessions().filter(|session| session.id.ends_with(end));
        let over = view.table.events_after(0).filter_map(|event| {
            let id = event.session.filter(|id| id.ends_with(end))?;
            Some((id, event.agent.clone()?))
        });
        live.map(|session| (session.id, session.agent.clone())).chain(over).collect()
    });
    let unvoted = edge.sessions.unvoted().into_iter().filter(|session| session.id.ends_with(end));
    found.extend(unvoted.map(|session| (session.id, session.agent.clone())));
    found.sort();
    found.dedup();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => {
            Err(Status::not_found(format!("neither the table nor the trail knows a session {end}")))
        }
        (Some(_), false) => Err(Status::invalid_argument(format!(
            "several sessions have an id that ends in {end}: give more of it"
        ))),
    }
}
