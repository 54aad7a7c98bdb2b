//! What is over: a session that its agent says is gone, and a start that was given up.

use vsm_core::{
    Change, EndReason, Ended, Proposal, Rejected, SessionId,
    lifecycle::{
        Burial, Proposed,
        ending::{Dig, Dug},
    },
};
use vsm_daemon::{clock, span};
use vsm_sync::ProposeError;

use crate::{hosts::agents::Link, journal::trail::Note, sessions::Sessions};

/// Drops a session that its agent says is gone, and remembers why.
pub(crate) async fn gone(sessions: &Sessions, id: SessionId, ended: Option<Ended>) {
    let Some(session) = sessions.session(id) else { return };
    sessions.forget_unvoted(id);
    let ended = ended.unwrap_or_else(|| unexplained(id));
    let (reason, detail) = (ended.reason, ended.detail.clone());
    sessions.remember_ended(session.user.clone(), ended);
    if sessions.table.read(|view| view.table.session(id).is_none()) {
        // It was made without votes, and nobody else knows of it.
        span::session(&session).in_scope(|| tracing::info!(?reason, detail, "session ended"));
        return;
    }
    // The agent's report and its answer to a call both tell of an end: whoever records it tells others.
    match sessions.table.propose(Proposal::Gone { id }).await {
        Ok(_) => {
            span::session(&session).in_scope(|| tracing::info!(?reason, detail, "session ended"));
            let agent = format!("agent {}", session.agent);
            sessions.note(Note::new(agent, "session-ended").session(&session).detail(&detail));
        }
        Err(error) => log_unless_known(sessions, Some(error), id),
    }
}

fn unexplained(id: SessionId) -> Ended {
    let detail = "its host does not know it any more".to_owned();
    Ended { id, reason: EndReason::Lost, detail, at: clock::unix_millis() }
}

/// Two parts of the broker may learn the same thing; that the table knows it already is no error. Nor is that another
/// node is active by now, which hears it from the agent. Anything else means that the table lacks what the agent said:
/// it is asked for all of it again later.
pub(crate) fn log_unless_known(sessions: &Sessions, error: Option<ProposeError>, id: SessionId) {
    match error {
        None
        | Some(ProposeError::Rejected(
            Rejected::UnknownSession(_)
            | Rejected::AlreadyRunning(_)
            | Rejected::IdUsed(_)
            | Rejected::GivenUp(_),
        ))
        | Some(ProposeError::NotActive) => {}
        Some(error) => {
            if matches!(error, ProposeError::NoVotes) {
                // That there are none is told when it begins and in `ha status`; each inventory comes by here.
                tracing::debug!(session = %id, %error, "cannot record what an agent reports");
            } else {
                tracing::error!(session = %id, %error, "cannot record what an agent reports");
            }
            sessions.agents.mark_missed();
        }
    }
}

/// What became of a proposal, as the machines of the lifecycle are told it; with the state of a session, if it is about
/// one.
pub(crate) fn proposed(
    sessions: &Sessions,
    session: Option<SessionId>,
    result: &Result<Change, ProposeError>,
) -> Proposed {
    match result {
        Ok(change) => Proposed::Committed(change.clone()),
        Err(ProposeError::Rejected(rejected)) => {
            let state = |id| sessions.table.read(|view| view.table.session(id).map(|s| s.state));
            Proposed::Rejected(rejected.clone(), session.and_then(state))
        }
        Err(ProposeError::NotActive) => Proposed::NotActive,
        Err(ProposeError::NoVotes) => Proposed::NoVotes,
        Err(
            ProposeError::Store(_)
            | ProposeError::PeerAway
            | ProposeError::Unknown
            | ProposeError::Busy
            | ProposeError::Stopping,
        ) => Proposed::Failed,
    }
}

/// Gives a start up, where that is still to be done, and has the agent hold to the tombstone, which is then forgotten
/// here.
pub(crate) async fn bury(sessions: &Sessions, link: &Link, id: SessionId, burial: Burial) {
    let mut digs = burial.begin(clock::unix_millis());
    loop {
        let mut event = None;
        for dig in digs {
            event = match dig {
                Dig::Propose(proposal) => {
                    let result = sessions.table.propose(proposal).await;
                    let event = Dug::Proposed(proposed(sessions, Some(id), &result));
                    log_unless_known(sessions, result.err(), id);
                    Some(event)
                }
                Dig::Cancel => Some(cancel(sessions, link, id).await),
                Dig::Note(proposal) => {
                    log_unless_known(sessions, sessions.table.propose(proposal).await.err(), id);
                    None
                }
            };
        }
        let Some(event) = event else { return };
        digs = burial.handle(&event);
    }
}

async fn cancel(sessions: &Sessions, link: &Link, id: SessionId) -> Dug {
    match sessions.fenced(link, |fence| link.cancel_start(fence, id)).await {
        Ok(()) => Dug::Cancelled,
        Err(error) => {
            tracing::info!(session = %id, %error, "cannot cancel a start yet");
            Dug::NotNow
        }
    }
}
