//! Desktops that are made without votes, where the administrator chose so (`solo_create = allow_and_mark`): while this
//! node reaches neither the other broker nor enough witnesses it cannot know whether a user has one elsewhere.
//!
//! They are in no log. The agent has the record, with the mark, and so they come into the table by its next inventory
//! once there are votes; until then this process remembers them, so that their users find them again, and get no more
//! than they may have.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    Session, SessionId, StartParams, State,
    lifecycle::{Answered, Event, Next, Unvoted},
};
use vsm_daemon::{clock, span};

use crate::{
    error::Refusal,
    hosts::agents::{Link, Started},
    sessions::{
        Sessions,
        want::{Handed, Want},
    },
    users::Identity,
};

/// Makes a desktop on the best agent, else on the next best, if its user may have one more by all that this node knows.
pub(crate) async fn create(
    sessions: &Arc<Sessions>,
    who: &Identity,
    want: &Want,
    mut machine: Unvoted,
) -> Result<Handed, Refusal> {
    let settings = sessions.settings();
    let bounds = settings.bounds_of(who)?;
    let mut last = "no session host can be reached".to_owned();
    machine.are_over(sessions.over(&who.user));
    loop {
        let now = clock::unix_millis();
        let rule = settings.rule(now, rand::random());
        let beside = sessions.unvoted_of(&who.user).len();
        let agent = match sessions.table.read(|view| machine.next(&view.table, beside, rule)) {
            Next::Ask(agent) => agent,
            Next::AtLimit => {
                let (user, cap) = (who.user.clone(), settings.max_sessions_per_user);
                return Err(Refusal::AtLimit { user, cap });
            }
            Next::NoHost => return Err(Refusal::StartFailed(last)),
        };
        let Some(link) = sessions.agents.link(&agent) else { continue };
        let session = Session {
            id: SessionId::new(Uuid::now_v7()),
            user: who.user.clone(),
            agent,
            state: State::Starting,
            request: want.request,
            params: StartParams { unvoted: true, ..want.params.clone() },
            created: now,
        };
        let deadline = settings.start_timeout;
        let started =
            sessions.fenced(&link, |fence| link.start(fence, &session, &bounds, deadline)).await;
        let event = match started {
            Ok(Started::Running(display)) => Event::Ran(display),
            Ok(Started::Refused(_, detail)) => {
                last = detail;
                Event::Refused { at_fault: false }
            }
            Err(error) => {
                last = error.why;
                Event::Unanswered { unsent: error.unsent, timed_out: error.timed_out }
            }
        };
        match Unvoted::answered(&event) {
            Answered::Runs(display) => return Ok(runs(sessions, &link, session, display).await),
            Answered::Next => {}
            Answered::Unknown => {
                return Err(Refusal::StartFailed(format!("{last} ({})", session.agent)));
            }
        }
    }
}

async fn runs(sessions: &Sessions, link: &Link, session: Session, display: u32) -> Handed {
    let session = Arc::new(Session { state: State::Running { display }, ..session });
    span::session(&session).in_scope(|| {
        tracing::warn!("made a desktop without votes (/vsmserver/HA/solo_create)");
    });
    sessions.remember_unvoted(Arc::clone(&session));
    let up = link.up().await;
    let host = up.map_or_else(|_| session.agent.to_string(), |up| up.host.public_name.to_string());
    Handed::new(session, host, true)
}
