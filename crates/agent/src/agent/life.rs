//! The life of a session as brokers ask for it: its start, whether it lives, its end, and that it never begins.

use std::{io, sync::Arc, time::Duration};

use vsm_core::{
    EndReason, Ended, Epoch, Fence, Limits, Resources, Session, SessionId, StartParams,
};
use vsm_daemon::clock;

use super::{
    Agent,
    call_error::CallError,
    client,
    fence::{Denied, Permit},
    link,
    registry::{Forbidden, Found, Slot, Status, made_out},
    start,
};
use crate::{
    control::{self, Request},
    message::Live,
    record::{Done, Outcome},
    refusal::{Refusal, Refused, one_line},
};

/// How long the end of a session may take: programs are asked, then killed.
const END_MAX: Duration = Duration::from_secs(15);
/// How long a verify waits for the span behind a desktop that it found dead.
const STORY_MAX: Duration = Duration::from_millis(500);
const UNKNOWN: &str = "the agent knows no such session";

/// What became of a start.
#[derive(Debug)]
pub(super) enum Start {
    /// It runs.
    Running(Arc<Slot>),
    /// It does not, and never will.
    Refused(Refused),
    /// It may run; its broker was replaced meanwhile, and whoever was promised to finds it in the inventory.
    Fenced(Epoch),
}

/// Starts a session, or finds what became of an earlier attempt with its id.
pub(super) async fn begin(
    agent: &Arc<Agent>,
    fence: &Fence,
    session: Session,
    limits: Limits,
    resources: Resources,
) -> Result<Start, CallError> {
    let permit = agent.admit(fence).await?;
    let settings = agent.settings();
    let slot = match agent.registry.begin(session, limits, &settings) {
        Found::New(slot) => {
            start::begin(agent, Arc::clone(&slot), resources, permit);
            slot
        }
        Found::Again(slot) => {
            drop(permit);
            slot
        }
        Found::Over(done) => return Ok(Start::Refused(not_again(done))),
        Found::Refused(Forbidden { done, forget }) => {
            link::forget_on_disk(agent, forget);
            return Ok(Start::Refused(not_again(done)));
        }
    };
    let status = tokio::time::timeout(start::longest(&settings) * 2, slot.started())
        .await
        .map_err(|_| CallError::StillStarting(slot.id))?;
    if let Some(promised) = agent.fence.promise().await.epoch
        && promised > fence.epoch
    {
        return Ok(Start::Fenced(promised));
    }
    Ok(match status {
        Status::Over(done) => Start::Refused(not_again(done)),
        Status::Starting | Status::Running => Start::Running(slot),
    })
}

fn not_again(done: Done) -> Refused {
    match done.outcome {
        Outcome::Refused(why) => why,
        Outcome::Ended { detail, .. } => {
            Refused::new(Refusal::Cancelled, format!("the session has ended already: {detail}"))
        }
    }
}

/// Whether a session lives; how it ended. The client of a live one is told to it.
pub(super) async fn verify(
    agent: &Arc<Agent>,
    id: SessionId,
    client: Option<StartParams>,
) -> Result<Live, Ended> {
    let Some(slot) = agent.registry.slot(id) else {
        return Err(how_it_ended(agent, id));
    };
    if matches!(slot.status(), Status::Starting) {
        return Ok(slot.live());
    }
    if slot.is_alive() {
        if let Some(client) = client {
            client::came(agent, &slot, client).await;
        }
        return Ok(slot.live());
    }
    let story = slot.over(STORY_MAX).await;
    Err(story.unwrap_or_else(|| made_out(id, EndReason::XServer, "its X server is gone")).ended())
}

/// What is known of a session that is not here.
pub(super) fn how_it_ended(agent: &Agent, id: SessionId) -> Ended {
    let done = agent.registry.done(id);
    done.unwrap_or_else(|| made_out(id, EndReason::Lost, UNKNOWN)).ended()
}

/// Ends a live session and waits until nothing is left of it.
pub(super) async fn end(
    agent: &Agent,
    slot: &Arc<Slot>,
    why: &str,
    permit: Permit<'_>,
) -> Result<Ended, CallError> {
    if matches!(slot.status(), Status::Starting) {
        slot.cancel();
    } else {
        let dir = control::session_dir(&agent.settings().session.run_dir, slot.id);
        let request = Request::Terminate { reason: EndReason::Terminated, detail: one_line(why) };
        if let Err(error) = link::ask(&dir, &request).await {
            // Its end may be under way; the link makes out what became of it.
            tracing::info!(%error, "the session's monitor does not answer");
        }
    }
    // The deed is done; a higher promise need not wait for the last process.
    drop(permit);
    let done = slot.over(END_MAX).await;
    done.map(|done| done.ended()).ok_or(CallError::StillEnding(slot.id))
}

/// Sees to it that a session never runs; one that does ends: a start that is cancelled was never handed to anybody.
pub(super) async fn forbid(
    agent: &Arc<Agent>,
    id: SessionId,
    permit: Permit<'_>,
) -> Result<(), CallError> {
    let outcome = Outcome::Refused(Refused::new(Refusal::Cancelled, "the start was cancelled"));
    let done = Done { id, at: clock::unix_millis(), outcome };
    match agent.registry.forbid(&done, &agent.settings()) {
        Err(slot) => end(agent, &slot, "its start was cancelled", permit).await.map(drop),
        Ok(forbidden) => keep(agent, forbidden).await,
    }
}

/// Makes durable that an id may never run.
async fn keep(agent: &Arc<Agent>, Forbidden { done, forget }: Forbidden) -> Result<(), CallError> {
    let store = agent.store.clone();
    tokio::task::spawn_blocking(move || store.save_done(&done))
        .await
        .map_err(io::Error::other)
        .and_then(|result| result)
        .map_err(CallError::CancelNotKept)?;
    link::forget_on_disk(agent, forget);
    Ok(())
}

impl Agent {
    /// Lets a broker act, if its right is the highest.
    pub(super) async fn admit(&self, fence: &Fence) -> Result<Permit<'_>, Denied> {
        self.fence.admit(fence, || self.registry.live_count() == 0).await
    }
}
