//! Who makes a call: the kernel says it on a socket, a certificate on the port, and the other broker in the metadata of
//! a call that it forwards. Whether they may, [`super::access`] has said before.

use std::{net::IpAddr, sync::Arc};

use tonic::{Request, Status, metadata::MetadataValue, transport::server::UdsConnectInfo};
use vsm_core::{UserName, WebKeyId};
use vsm_daemon::{
    socket,
    tls::{self, Role},
};

use crate::{api::Edge, error::Refusal, users::Identity};

/// Metadata of a forwarded call: uid and name of the user for whom it is made.
const UID_KEY: &str = "vsm-uid";
const USER_KEY: &str = "vsm-user";
const FORWARDED_KEY: &str = "vsm-forwarded";
/// The web key by which that user has logged in.
const WEB_KEY: &str = "vsm-web-key";
/// Metadata of an administrator's forwarded call: who made it.
const ACTOR_KEY: &str = "vsm-actor";

/// What an administrator who names a user is told where NSS says that there is none.
pub(crate) fn no_such_user(edge: &Edge, user: &UserName) -> Status {
    Status::not_found(format!("there is no user {user} on {}", edge.process.node))
}

/// Whether the other broker has forwarded a call: it goes no further.
pub(crate) fn is_forwarded<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED_KEY)
}

/// The same call, for the active node, on behalf of a user.
pub(crate) fn forwarded<T>(message: T, who: Option<(u32, &Identity)>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(FORWARDED_KEY, MetadataValue::from_static("1"));
    if let Some((uid, who)) = who {
        metadata.insert(UID_KEY, MetadataValue::from(uid));
        insert(&mut request, USER_KEY, who.user.as_str());
    }
    request
}

/// The same call, for the active node, on behalf of an administrator: see [`admin`].
pub(crate) fn forwarded_for<T>(message: T, actor: &str) -> Request<T> {
    let mut request = forwarded(message, None);
    insert(&mut request, ACTOR_KEY, actor);
    request
}

/// Adds a name to a call's metadata. As bytes: directory services have names that are not ASCII.
fn insert<T>(request: &mut Request<T>, key: &'static str, name: &str) {
    // A name has no control characters, which are all that is refused here.
    if let Ok(name) = MetadataValue::try_from(name.as_bytes()) {
        request.metadata_mut().insert(key, name);
    }
}

fn text<'a, T>(request: &'a Request<T>, key: &str) -> Option<&'a str> {
    std::str::from_utf8(request.metadata().get(key)?.as_encoded_bytes()).ok()
}

/// Which administrator makes a call, for the log and the trail: the login name behind the admin socket, or for a call
/// that the other broker forwards the name that it gives, or the host of an administrator. Never fails: who may open
/// the socket may call, and one whom NSS does not know has a number.
pub(crate) async fn admin<T>(edge: &Edge, request: &Request<T>) -> String {
    if let Some(info) = request.extensions().get::<UdsConnectInfo>() {
        let Some(peer) = info.peer_cred else { return "an administrator".to_owned() };
        let identity = edge.site.identity(peer.uid()).await;
        return identity
            .map_or_else(|_| format!("uid {}", peer.uid()), |identity| identity.user.to_string());
    }
    if let Ok(admin) = tls::peer(request.extensions())
        && admin.is(Role::Admin)
    {
        return format!("admin {}", admin.name);
    }
    let name = text(request, ACTOR_KEY).and_then(|name| name.parse::<UserName>().ok());
    name.map_or_else(|| "an administrator on the other node".to_owned(), |name| name.to_string())
}

/// Who makes a call: the kernel says it on the socket, and the other broker of the pair says it for a call that it
/// forwards.
pub(crate) async fn caller<T>(
    edge: &Edge,
    request: &Request<T>,
) -> Result<(u32, Arc<Identity>), Status> {
    if let Some(info) = request.extensions().get::<UdsConnectInfo>() {
        let peer = info.peer_cred;
        let uid = peer
            .ok_or_else(|| Status::unauthenticated("the socket does not tell who you are"))?
            .uid();
        return Ok((uid, edge.site.identity(uid).await.map_err(Refusal::from)?));
    }
    // Else it is the other broker: nobody else is let in to these methods over the network.
    let uid = text(request, UID_KEY).and_then(|uid| uid.parse().ok());
    let (Some(uid), Some(name)) = (uid, text(request, USER_KEY)) else {
        return Err(Status::unauthenticated("a forwarded call names its user"));
    };
    let who = edge.site.identity(uid).await.map_err(Refusal::from)?;
    if who.user.as_str() != name {
        return Err(Status::permission_denied(format!(
            "uid {uid} is {name} on the other broker and {} here: the nodes need the same users",
            who.user
        )));
    }
    Ok((uid, who))
}

/// Whether a call came by a socket of this host, and not from the other broker.
pub(crate) fn is_local<T>(request: &Request<T>) -> bool {
    request.extensions().get::<UdsConnectInfo>().is_some()
}

/// Where the client of a local call is, as its `vsm-login` says by the name of its own socket. That runs as the user:
/// it is the user's word, and proves nothing.
pub(crate) fn client_address<T>(request: &Request<T>) -> Option<IpAddr> {
    let from = request.extensions().get::<UdsConnectInfo>()?.peer_addr.as_ref()?;
    socket::named_address(from.as_abstract_name()?)
}

/// By which web key the user has logged in: of a local call its `vsm-login` says so in the same way, of others the
/// broker that forwards them. Whoever has logged in so runs nothing else, so it proves something: who says none may
/// have come by such a key only if they could do more than that lets them.
pub(crate) fn web_key<T>(request: &Request<T>) -> Option<WebKeyId> {
    if is_local(request) {
        return socket::web_key(request.extensions());
    }
    text(request, WEB_KEY)?.parse().ok()
}

/// The same call, which a user makes who has logged in by this web key.
pub(crate) fn by_web_key<T>(mut request: Request<T>, id: Option<WebKeyId>) -> Request<T> {
    if let Some(id) = id {
        insert(&mut request, WEB_KEY, &id.to_string());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_kinds_go_to_the_other_node() {
        for name in ["root", "DOMAIN\\ann smith@x", "jürgen", "山田"] {
            assert_eq!(text(&forwarded_for((), name), ACTOR_KEY), Some(name));
        }
        assert_eq!(text(&forwarded((), None), ACTOR_KEY), None);
    }
}
