//! A login that a broker is at, and the start that it waits for.

use std::sync::Arc;

use vsm_core::{
    RequestId, Session, SessionId, UserName,
    lifecycle::{Login, Start, Unvoted},
};

use crate::event::ClientId;

/// A start that a login waits for.
#[derive(Debug, Clone)]
pub(crate) struct Starting {
    pub(crate) session: Arc<Session>,
    pub(crate) began: u64,
    pub(crate) start: Start,
}

/// What a login makes without votes.
#[derive(Debug, Clone)]
pub(crate) struct Unvoting {
    pub(crate) machine: Unvoted,
    /// What was asked for last.
    pub(crate) session: Option<Arc<Session>>,
}

/// A login under way.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) client: ClientId,
    pub(crate) user: UserName,
    pub(crate) request: RequestId,
    pub(crate) login: Login,
    pub(crate) starting: Option<Starting>,
    pub(crate) unvoting: Option<Unvoting>,
    /// What it has reserved, or is about to.
    pub(crate) reserves: Option<SessionId>,
}

impl Task {
    /// Whether it is at this session's start.
    pub(crate) fn starts(&self, id: SessionId) -> bool {
        self.reserves == Some(id)
    }
}
