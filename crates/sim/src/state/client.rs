//! A user's client: what it asked for, and what it has.

use vsm_core::{Choice, RequestId, SessionId, UserName, lifecycle::login::Wish};

/// What most logins want, and what is left to those that were refused what they wanted.
pub(crate) const ANY: Wish = Wish::Any(Choice::SingleDisconnected);

/// One client of a user.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: UserName,
    pub(crate) request: Option<RequestId>,
    pub(crate) began: u64,
    pub(crate) attempt: u64,
    pub(crate) has: Option<SessionId>,
    pub(crate) wish: Wish,
    /// Answers since the faults ended.
    pub(crate) served: u64,
}

impl Client {
    pub(crate) const fn new(user: UserName) -> Self {
        Self { user, request: None, began: 0, attempt: 0, has: None, wish: ANY, served: 0 }
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.request.is_none()
    }
}
