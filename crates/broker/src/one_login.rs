//! One login: the agent of a desktop that is handed out is told the key that the client has made for it, so that the
//! user is let in there without being asked again (decision 34).

use vsm_core::SshKey;

use crate::{
    broker::Broker,
    login::{Handed, Want},
};

/// Announces the client's key to the desktop's agent. The keys of the agent's sshd; none = no key was announced, and the
/// user logs in there by other means, which is no reason to refuse the desktop.
pub(crate) async fn announce(broker: &Broker, handed: &Handed, want: &Want) -> Option<Vec<SshKey>> {
    let (key, valid) = (want.key.as_ref()?, broker.settings().one_login?);
    let session = &handed.session;
    let link = broker.agents.link(&session.agent)?;
    match link.accept_key(session, key, valid).await {
        Ok(host_keys) => Some(host_keys),
        Err(error) => {
            tracing::warn!(session = %session.id, agent = %session.agent, %error, "the agent takes no one-time key; the user has to log in there");
            None
        }
    }
}
