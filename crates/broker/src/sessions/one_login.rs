//! One login: the agent of a desktop that is handed out is told the key that the client has made for it, so that the
//! user is let in there without being asked again.

use vsm_core::SshKey;
use vsm_daemon::{one_time::Bearer, span};
use vsm_proto::session::v1 as pb;

use crate::{
    sessions::{
        Sessions,
        want::{Handed, Want},
    },
    users::Identity,
};

/// Announces the client's key to the desktop's agent. The keys of the agent's sshd; none = no key was announced, and
/// the user logs in there by other means, which is no reason to refuse the desktop.
pub(crate) async fn announce(
    sessions: &Sessions,
    handed: &Handed,
    want: &Want,
) -> Option<Vec<SshKey>> {
    let (key, valid) = (want.key.as_ref()?, sessions.settings().one_login?);
    let session = &handed.session;
    let link = sessions.agents.link(&session.agent)?;
    match link.accept_key(sessions.table.fence(), session, key, valid).await {
        Ok(host_keys) => Some(host_keys),
        Err(error) => {
            let said = "the agent takes no one-time key; the user has to log in there";
            span::session(session).in_scope(|| tracing::warn!(%error, "{said}"));
            None
        }
    }
}

/// The client comes to this host again, on its way to the session host: it is let in with the same key. The node that
/// users are at need not be the active one.
pub(crate) fn on_the_way(
    sessions: &Sessions,
    uid: u32,
    who: &Identity,
    key: &str,
    session: &pb::Session,
) {
    let Some(valid) = sessions.settings().one_login else { return };
    // No key, or none that can be: they log in as they have just done.
    let (Ok(key), Ok(session)) = (key.parse(), session.id.parse()) else { return };
    let bearer = Bearer { key, user: who.user.clone(), uid, session };
    if let Err(error) = sessions.keys.accept(bearer, valid) {
        tracing::warn!(user = %who.user, %error, "a user has to log in again on the way to a session host");
    }
}
