//! Keys that brokers announce: each lets the owner of a session in once.

use std::{sync::Arc, time::Duration};

use vsm_daemon::{
    host_keys,
    one_time::{Bearer, TooMany},
};

use super::{Agent, call_error::CallError};
use crate::message::Announced;

/// Takes a key that a broker announces, and tells by which keys the host is known.
pub(super) async fn accept(
    agent: &Arc<Agent>,
    Announced { session, user, key, valid }: Announced,
) -> Result<Vec<String>, CallError> {
    let record = agent.registry.slot(session).and_then(|slot| slot.record());
    let record = record.ok_or(CallError::NoSession(session))?;
    if record.session.user != user {
        let owner = &record.session.user;
        tracing::error!(session = %session, %user, %owner, "a broker takes somebody else for the owner of a session");
        return Err(CallError::NotOwned(session, user));
    }
    let bearer = Bearer { key, user, uid: record.uid, session };
    Ok(let_in(agent, bearer, valid.time()).await?)
}

/// Lets the bearer of a key in, and tells by which keys the host is known.
pub(super) async fn let_in(
    agent: &Agent,
    bearer: Bearer,
    valid: Duration,
) -> Result<Vec<String>, TooMany> {
    agent.keys.accept(bearer, valid)?;
    Ok(tokio::task::spawn_blocking(host_keys::read).await.unwrap_or_default())
}
