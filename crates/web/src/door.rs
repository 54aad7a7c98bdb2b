//! The way to a session's host: asked of the broker, and opened by a key that is good there once.

use std::net::IpAddr;

use rand::random;
use vsm_proto::{broker::v1::LoginRequest, session::v1::Session};
use zeroize::Zeroizing;

use crate::{
    broker::Broker,
    cookie::Cookie,
    error::Refused,
    limit::KeyLogins,
    settings::Settings,
    ssh::{self, SEED, Ssh},
};

/// sshd's port on session hosts.
const SSH_PORT: u16 = 22;

/// Who wants to go there.
#[derive(Clone, Copy)]
pub(crate) struct Visitor<'a> {
    pub(crate) cookie: &'a Cookie,
    /// Where their browser is.
    pub(crate) address: IpAddr,
}

/// A host that has let the user in.
pub(crate) struct Door {
    /// What the user is let in for.
    pub(crate) session: Session,
    /// The connection, on which nothing has been asked for yet.
    pub(crate) ssh: Ssh,
}

/// Asks the broker, and goes where it says; none = the user is to choose a session first.
pub(crate) async fn open(
    settings: &Settings,
    keys: &KeyLogins,
    visitor: Visitor<'_>,
    wish: impl FnOnce(String) -> LoginRequest,
) -> Result<Option<Door>, Refused> {
    let mut broker = Broker::by(settings, keys, visitor.cookie, visitor.address).await?;
    let key = ssh::key(&Zeroizing::new(random::<[u8; SEED]>()))?;
    let answer = broker.login(wish(ssh::public(&key)?)).await?;
    let Some(session) = answer.session else { return Ok(None) };
    let host = answer.host;
    if !answer.key_accepted || answer.host_keys.is_empty() {
        return Err(Refused::NoKey(host));
    }
    let mut ssh = if answer.relay {
        let pipe = broker.ssh().join(&format!("relay {}", session.id)).await?;
        Ssh::over(pipe, &host, answer.host_keys).await?
    } else {
        Ssh::connect(&host, SSH_PORT, answer.host_keys).await?
    };
    if !ssh.by_key(&session.user, key).await? {
        return Err(Refused::NoKey(host));
    }
    Ok(Some(Door { session, ssh }))
}
