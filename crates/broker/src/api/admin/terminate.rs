//! Ending sessions by an administrator's word.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet};
use tonic::Status;
use vsm_core::{Session, SessionId};
use vsm_daemon::span;
use vsm_proto::{admin::v1 as pb, convert};

use crate::{
    api::Edge,
    journal::trail::Note,
    sessions::ending::{self, IfSilent, Outcome},
};

/// Sessions that one call may end.
const TERMINATE_MAX: usize = 65_536;
/// Sessions that are ended at a time: each takes its agent some work.
const TERMINATE_TOGETHER: usize = 64;

/// Ends what is named; those that are gone by now are left out of the answer.
pub(super) async fn all(
    edge: &Arc<Edge>,
    request: pb::TerminateSessionsRequest,
    actor: String,
) -> Result<pb::TerminateSessionsResponse, Status> {
    let pb::TerminateSessionsRequest { ids, allow_abandon } = request;
    if ids.is_empty() || ids.len() > TERMINATE_MAX {
        return Err(Status::invalid_argument(format!("ids: name 1 to {TERMINATE_MAX} sessions")));
    }
    let ids: Vec<SessionId> =
        ids.iter().map(|id| convert::text("ids", id)).collect::<Result<_, _>>()?;
    let sessions: Vec<_> = ids.iter().filter_map(|id| edge.sessions.session(*id)).collect();
    let together = Arc::new(Semaphore::new(TERMINATE_TOGETHER));
    let mut under_way = JoinSet::new();
    for session in sessions {
        let (edge, together) = (Arc::clone(edge), Arc::clone(&together));
        let actor = actor.clone();
        under_way.spawn(async move {
            // Never closed; were it, ending without a turn would only be less orderly.
            let _turn = together.acquire_owned().await;
            one(&edge, &session, actor, allow_abandon).await
        });
    }
    Ok(pb::TerminateSessionsResponse { terminated: under_way.join_all().await })
}

async fn one(
    edge: &Arc<Edge>,
    session: &Arc<Session>,
    actor: String,
    allow_abandon: bool,
) -> pb::Terminated {
    let record = Some(session.as_ref().into());
    let left = |detail: String, abandoned| pb::Terminated {
        session: record.clone(),
        done: false,
        detail,
        abandoned,
    };
    span::session(session).in_scope(|| tracing::info!(actor, "an administrator ends a session"));
    let note = Note::new(actor, "session-terminated").session(session);
    let if_silent = if allow_abandon { IfSilent::Abandon } else { IfSilent::Leave };
    match ending::end(&edge.sessions, session, if_silent, note).await {
        Ok(Outcome::Ended) => pb::Terminated { done: true, ..left(String::new(), false) },
        Ok(Outcome::Later(why) | Outcome::Abandoned(why)) => left(why, true),
        Ok(Outcome::Silent(why)) => {
            let agent = &session.agent;
            left(format!("{agent} cannot be reached ({why}); --allow-abandon gives it up"), false)
        }
        Err(refusal) => left(refusal.to_string(), false),
    }
}
