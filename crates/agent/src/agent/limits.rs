//! Limits of sessions' lives on their way between brokers and each session's `vsm-session`, which keeps to them.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet};
use tonic::Status;
use vsm_core::{Limits, SessionId, Standing};
use vsm_proto::{
    agent::v1::{ExtendResponse, Extended, LimitsNotSet, SessionLimits, extend_response},
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
/// Sessions at a time: each writes its record.
const TOGETHER: usize = 16;

/// What was asked for, parsed.
pub(super) fn parse(sessions: Vec<SessionLimits>) -> Result<Vec<(SessionId, Limits)>, Status> {
    if sessions.len() > SESSIONS_MAX {
        return Err(Status::invalid_argument(format!("sessions: at most {SESSIONS_MAX}")));
    }
    let one = |session: SessionLimits| {
        let limits = session.limits.unwrap_or_default().try_into()?;
        Ok((convert::text("sessions.id", &session.id)?, limits))
    };
    sessions.into_iter().map(one).collect()
}

/// Gives sessions these limits; which have not taken them, and why.
pub(super) async fn set(
    agent: &Arc<Agent>,
    sessions: Vec<(SessionId, Limits)>,
) -> Vec<LimitsNotSet> {
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
            let detail = done.err()?.to_string();
            Some(LimitsNotSet { id: id.to_string(), detail })
        });
    }
    under_way.join_all().await.into_iter().flatten().collect()
}

async fn set_one(agent: &Agent, slot: &Slot, limits: Limits) -> Result<(), NotDone> {
    let answer = ask(agent, slot, &Request::Limits { limits: Box::new(limits) }).await?;
    // The standing that follows tells what holds now.
    if matches!(answer, Event::LimitsSet) { Ok(()) } else { Err(NotDone::Ending) }
}

/// Puts off what a limit would do next.
pub(super) async fn extend(agent: &Agent, slot: &Slot) -> Result<ExtendResponse, Status> {
    use extend_response::Result::{Extended as Done, Refused};
    let result = match ask(agent, slot, &Request::Extend).await {
        Ok(Event::Extended { limit, left_ms, more }) => Done(Extended { limit, left_ms, more }),
        Err(error @ NotDone::NoAnswer(_)) => return Err(Status::unavailable(error.to_string())),
        Err(why) => Refused(why.to_string()),
        Ok(_) => Refused(NotDone::Ending.to_string()),
    };
    Ok(ExtendResponse { result: Some(result) })
}

/// How the session itself says that it stands now; none = it does not answer.
pub(super) async fn standing(agent: &Agent, slot: &Slot) -> Option<Standing> {
    match ask(agent, slot, &Request::Standing).await {
        Ok(Event::Standing { standing }) => Some(*standing),
        Ok(_) | Err(_) => None,
    }
}
