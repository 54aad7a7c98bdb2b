//! What a login is about: what its user wants, and what they are given.

use std::sync::Arc;

pub use vsm_core::lifecycle::login::Wish;
use vsm_core::{RequestId, Session, SshKey, StartParams};

/// What a user wants.
#[derive(Debug, Clone)]
pub struct Want {
    /// The client's id of this wish.
    pub request: RequestId,
    /// What a new session is to be like, and what the client tells of itself.
    pub params: StartParams,
    /// Which session.
    pub wish: Wish,
    /// A key made for this login, by which the client is to be let in at the agent.
    pub key: Option<SshKey>,
}

/// Where the desktop is.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The session, running.
    pub session: Arc<Session>,
    /// Where the user reaches its agent.
    pub host: String,
    /// Whether it was made for this request.
    pub created: bool,
    /// The keys of the agent's sshd, where the agent takes the client's own key; none = it takes none.
    pub host_keys: Option<Vec<SshKey>>,
}

impl Handed {
    /// A desktop whose agent has not been told of a client's key.
    pub(crate) const fn new(session: Arc<Session>, host: String, created: bool) -> Self {
        Self { session, host, created, host_keys: None }
    }
}

/// What a login is answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A desktop.
    Desktop(Handed),
    /// The user is to choose.
    Choose {
        /// From these, the newest of those there are, oldest first.
        sessions: Vec<Arc<Session>>,
        /// Whether the limit allows a new one.
        may_create: bool,
    },
}
