//! Showing a text on desktops: each one's `vsm-session` does it.

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};
use vsm_core::SessionId;

use super::{
    Agent,
    registry::Slot,
    wish::{NotDone, ask},
};
use crate::control::{Event, Request};

/// Desktops at a time: each takes a process or two to start.
const TOGETHER: usize = 16;

/// Shows a text on desktops; where it is not shown, and why.
pub(super) async fn show(
    agent: &Arc<Agent>,
    ids: Vec<SessionId>,
    text: &str,
) -> Vec<(SessionId, NotDone)> {
    let program = agent.settings().notify_program.clone();
    let together = Arc::new(Semaphore::new(TOGETHER));
    let mut under_way = JoinSet::new();
    for id in ids {
        let (agent, together) = (Arc::clone(agent), Arc::clone(&together));
        let (program, text) = (program.clone(), text.to_owned());
        under_way.spawn(async move {
            // Never closed; were it, all at once would only be less gentle.
            let _turn = together.acquire_owned().await;
            let shown = match agent.registry.slot(id) {
                Some(slot) => on_desktop(&agent, &slot, program, text).await,
                None => Err(NotDone::NotHere),
            };
            Some((id, shown.err()?))
        });
    }
    under_way.join_all().await.into_iter().flatten().collect()
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
