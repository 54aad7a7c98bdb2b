//! Limits of sessions' lives on their way between brokers and each session's `vsm-session`, which keeps to them.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet};
use vsm_core::{Limits, SessionId, Standing};

use super::{
    Agent,
    registry::Slot,
    wish::{NotDone, ask},
};
use crate::control::{Event, Request};

/// Sessions at a time: each writes its record.
const TOGETHER: usize = 16;

/// Gives sessions these limits; which have not taken them, and why.
pub(super) async fn set(
    agent: &Arc<Agent>,
    sessions: Vec<(SessionId, Limits)>,
) -> Vec<(SessionId, NotDone)> {
    let together = Arc::new(Semaphore::new(TOGETHER));
    let mut under_way = JoinSet::new();
    for (id, limits) in sessions {
        let (agent, together) = (Arc::clone(agent), Arc::clone(&together));
        under_way.spawn(async move {
            // Never closed; were it, all at once would only be less gentle.
            let _turn = together.acquire_owned().await;
            let done = match agent.registry.slot(id) {
                Some(slot) => set_one(&agent, &slot, limits).await,
                None => Err(NotDone::NotHere),
            };
            Some((id, done.err()?))
        });
    }
    under_way.join_all().await.into_iter().flatten().collect()
}

async fn set_one(agent: &Agent, slot: &Slot, limits: Limits) -> Result<(), NotDone> {
    let answer = ask(agent, slot, &Request::Limits { limits: Box::new(limits) }).await?;
    // The standing that follows tells what holds now.
    if matches!(answer, Event::LimitsSet) { Ok(()) } else { Err(NotDone::Ending) }
}

/// What was put off.
#[derive(Debug)]
pub(super) struct Extended {
    /// In words.
    pub(super) limit: String,
    /// How long there is now, in milliseconds.
    pub(super) left_ms: u64,
    /// How often it can be done again.
    pub(super) more: u32,
}

/// Puts off what a limit would do next.
pub(super) async fn extend(agent: &Agent, slot: &Slot) -> Result<Extended, NotDone> {
    let answer = ask(agent, slot, &Request::Extend).await?;
    let Event::Extended { limit, left_ms, more } = answer else { return Err(NotDone::Ending) };
    Ok(Extended { limit, left_ms, more })
}

/// How the session itself says that it stands now; none = it does not answer.
pub(super) async fn standing(agent: &Agent, slot: &Slot) -> Option<Standing> {
    match ask(agent, slot, &Request::Standing).await {
        Ok(Event::Standing { standing }) => Some(*standing),
        Ok(_) | Err(_) => None,
    }
}
