//! Showing a text on desktops: each one's `vsm-session` does it.

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};
use tonic::Status;
use vsm_core::SessionId;
use vsm_proto::{
    agent::v1::{NotShown, NotifyRequest, NotifyResponse},
    convert,
};

use super::{
    Agent,
    registry::Slot,
    wish::{NotDone, ask},
};
use crate::control::{Event, Request};

/// Sessions in one request.
const SESSIONS_MAX: usize = 65_536;
/// Longest text, in bytes.
const TEXT_MAX: usize = 2048;
/// Desktops at a time: each takes a process or two to start.
const TOGETHER: usize = 16;

/// Shows a text on desktops; where it is not shown, and why.
pub(super) async fn show(
    agent: &Arc<Agent>,
    request: NotifyRequest,
) -> Result<NotifyResponse, Status> {
    let NotifyRequest { ids, text, fence: _ } = request;
    if ids.is_empty() || ids.len() > SESSIONS_MAX {
        return Err(Status::invalid_argument(format!("ids: name 1 to {SESSIONS_MAX} sessions")));
    }
    if text.is_empty() || text.len() > TEXT_MAX || text.contains('\0') {
        return Err(Status::invalid_argument("text: 1 to 2048 bytes without NUL"));
    }
    let ids: Vec<SessionId> =
        ids.iter().map(|id| convert::text("ids", id)).collect::<Result<_, _>>()?;
    let program = agent.settings().notify_program.clone();
    let together = Arc::new(Semaphore::new(TOGETHER));
    let mut under_way = JoinSet::new();
    for id in ids {
        let (agent, together) = (Arc::clone(agent), Arc::clone(&together));
        let (program, text) = (program.clone(), text.clone());
        under_way.spawn(async move {
            // Never closed; were it, all at once would only be less gentle.
            let _turn = together.acquire_owned().await;
            let shown = match agent.registry.slot(id) {
                Some(slot) => on_desktop(&agent, &slot, program, text).await,
                None => Err(NotDone::NotHere),
            };
            let detail = shown.err()?.to_string();
            Some(NotShown { id: id.to_string(), detail })
        });
    }
    Ok(NotifyResponse { not_shown: under_way.join_all().await.into_iter().flatten().collect() })
}

async fn on_desktop(
    agent: &Agent,
    slot: &Slot,
    program: PathBuf,
    text: String,
) -> Result<(), NotDone> {
    let answer = ask(agent, slot, &Request::Notify { program, text }).await?;
    if matches!(answer, Event::Shown) { Ok(()) } else { Err(NotDone::Ending) }
}
