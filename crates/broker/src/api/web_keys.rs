//! Keys by which browsers log in, as their users and administrators ask for them.

use std::{sync::Arc, time::Duration};

use tonic::{Response, Status};
use vsm_core::{UserName, WebKey, WebKeyId};
use vsm_daemon::clock;
use vsm_proto::{admin::v1 as admin, broker::v1 as pb, convert};

use crate::{
    api::Edge,
    error::Refusal,
    users::Identity,
    web_keys::{NotAccepted, Wanted, Which},
};

/// Keys in one message.
const PAGE: usize = 256;

impl From<NotAccepted> for Status {
    fn from(error: NotAccepted) -> Self {
        match error {
            NotAccepted::Invalid(error) => Self::invalid_argument(error.to_string()),
            NotAccepted::Refused(refusal) => refusal.into(),
        }
    }
}

pub(super) async fn accept(
    edge: &Arc<Edge>,
    who: &Identity,
    message: pb::AcceptWebKeyRequest,
) -> Result<Response<pb::AcceptWebKeyResponse>, Status> {
    if !edge.site.settings().allows(who) {
        return Err(Refusal::NotAllowed(who.user.clone()).into());
    }
    let pb::AcceptWebKeyRequest { public_key, lifetime_ms, asked_by } = message;
    let wanted = Wanted {
        user: who.user.clone(),
        key: convert::text("public_key", &public_key)?,
        lifetime: (lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms)),
        asked_by,
        voucher: None,
    };
    let web_keys = Arc::clone(&edge.web_keys);
    edge.done(async move {
        let WebKey { id, user, until, .. } = web_keys.accept(wanted).await?;
        let (id, user) = (id.to_string(), user.to_string());
        Ok(pb::AcceptWebKeyResponse { id, until_unix_ms: until.0, user })
    })
    .await
}

pub(super) async fn revoke_own(
    edge: &Arc<Edge>,
    who: &Identity,
    id: &str,
) -> Result<Response<pb::RevokeWebKeyResponse>, Status> {
    let which = which(id)?;
    let (web_keys, user) = (Arc::clone(&edge.web_keys), who.user.clone());
    edge.done(async move {
        let gone = web_keys.revoke(user.as_str(), &user, which).await?;
        Ok(pb::RevokeWebKeyResponse { revoked: good(&gone) })
    })
    .await
}

/// The list for an administrator, in parts.
pub(super) fn pages(
    edge: &Edge,
    request: &admin::ListWebKeysRequest,
) -> Result<impl Iterator<Item = admin::ListWebKeysResponse> + use<>, Status> {
    let keys = match request.user.as_str() {
        "" => edge.web_keys.all(),
        user => edge.web_keys.of(&convert::text("user", user)?),
    };
    let views = good(&keys);
    let pages: Vec<_> = views.chunks(PAGE).map(<[_]>::to_vec).collect();
    Ok(pages.into_iter().map(|keys| admin::ListWebKeysResponse { keys }))
}

pub(super) async fn revoke(
    edge: &Arc<Edge>,
    message: admin::RevokeWebKeysRequest,
    actor: String,
) -> Result<Response<admin::RevokeWebKeysResponse>, Status> {
    let which = which(&message.id)?;
    let user: UserName = match (message.user.as_str(), which) {
        ("", Which::All) => return Err(Status::invalid_argument("name a key, or a user")),
        ("", Which::One(id)) => edge.web_keys.owner(id).ok_or(Refusal::NoWebKey(id))?,
        (user, _) => convert::text("user", user)?,
    };
    let web_keys = Arc::clone(&edge.web_keys);
    edge.done(async move {
        let gone = web_keys.revoke(&actor, &user, which).await?;
        Ok(admin::RevokeWebKeysResponse { revoked: good(&gone) })
    })
    .await
}

fn which(id: &str) -> Result<Which, Status> {
    Ok(if id.is_empty() { Which::All } else { Which::One(convert::text::<WebKeyId>("id", id)?) })
}

/// Those whose time is not over.
pub(super) fn good(keys: &[WebKey]) -> Vec<pb::WebKeyView> {
    let now = clock::unix_millis();
    keys.iter().filter(|key| key.is_good(now)).map(view).collect()
}

fn view(key: &WebKey) -> pb::WebKeyView {
    let WebKey { id, user, created, until, asked_by, openid, .. } = key;
    pb::WebKeyView {
        id: id.to_string(),
        user: user.to_string(),
        created_unix_ms: created.0,
        until_unix_ms: until.0,
        asked_by: asked_by.clone(),
        openid: *openid,
    }
}
