//! Keys that brokers announce: each lets the owner of a session in once.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use vsm_core::{SessionId, UserName};
use vsm_daemon::{
    host_keys,
    one_time::{Bearer, VALID_MAX},
};
use vsm_proto::{
    agent::v1::{AcceptKeyRequest, AcceptKeyResponse},
    convert,
};

use super::{Agent, service};

/// Takes a key that a broker announces.
pub(super) async fn accept(
    agent: &Arc<Agent>,
    request: AcceptKeyRequest,
) -> Result<AcceptKeyResponse, Status> {
    let AcceptKeyRequest { id, user, public_key, valid_ms } = request;
    let session: SessionId = convert::text("id", &id)?;
    let user: UserName = convert::text("user", &user)?;
    let key = convert::text("public_key", &public_key)?;
    let valid = Duration::from_millis(valid_ms.into());
    if valid.is_zero() || valid > VALID_MAX {
        return Err(Status::invalid_argument("valid_ms: 1 to 600000"));
    }
    let record = agent.registry.slot(session).and_then(|slot| slot.record());
    let record = record.ok_or_else(|| service::no_session(session))?;
    if record.session.user != user {
        let owner = &record.session.user;
        tracing::error!(session = %session, %user, %owner, "a broker takes somebody else for the owner of a session");
        return Err(Status::permission_denied(format!("session {session} is not {user}'s")));
    }
    let bearer = Bearer { key, user, uid: record.uid, session };
    let accepted = agent.keys.accept(bearer, valid);
    accepted.map_err(|error| Status::resource_exhausted(error.to_string()))?;
    let host_keys = tokio::task::spawn_blocking(host_keys::read).await.unwrap_or_default();
    Ok(AcceptKeyResponse { host_keys })
}
