//! Keys that brokers announce: each lets the owner of a session in once.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use vsm_core::{SessionId, UserName};
use vsm_daemon::{
    host_keys,
    one_time::{Bearer, TooMany, VALID_MAX},
};
use vsm_proto::{
    agent::v1::{AcceptKeyRequest, AcceptKeyResponse},
    convert,
};

use super::{Agent, service};

/// How long a broker wants a key, or a right, to be good.
pub(super) fn valid(valid_ms: u32) -> Result<Duration, Status> {
    let valid = Duration::from_millis(valid_ms.into());
    if valid.is_zero() || valid > VALID_MAX {
        return Err(Status::invalid_argument("valid_ms: 1 to 600000"));
    }
    Ok(valid)
}

/// Takes a key that a broker announces.
pub(super) async fn accept(
    agent: &Arc<Agent>,
    request: AcceptKeyRequest,
) -> Result<AcceptKeyResponse, Status> {
    let AcceptKeyRequest { id, user, public_key, valid_ms, fence: _ } = request;
    let session: SessionId = convert::text("id", &id)?;
    let user: UserName = convert::text("user", &user)?;
    let key = convert::text("public_key", &public_key)?;
    let valid = valid(valid_ms)?;
    let record = agent.registry.slot(session).and_then(|slot| slot.record());
    let record = record.ok_or_else(|| service::no_session(session))?;
    if record.session.user != user {
        let owner = &record.session.user;
        tracing::error!(session = %session, %user, %owner, "a broker takes somebody else for the owner of a session");
        return Err(Status::permission_denied(format!("session {session} is not {user}'s")));
    }
    let bearer = Bearer { key, user, uid: record.uid, session };
    let let_in = let_in(agent, bearer, valid).await;
    let host_keys = let_in.map_err(|error| Status::resource_exhausted(error.to_string()))?;
    Ok(AcceptKeyResponse { host_keys })
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
