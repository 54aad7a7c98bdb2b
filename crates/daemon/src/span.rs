//! What a line of the log belongs to. All that is done for one login bears the same fields on both hosts, so that one
//! filter tells its whole story: `journalctl -u vsmserver -u vsmagent -g REFERENCE`, with the reference that the user
//! was told.
//!
//! Spans are of the level `error`, so that a level that leaves lines out takes no context from those that stay. None
//! has a parent: each says all that it knows.

use std::fmt::Display;

use tracing::{Span, error_span};
use vsm_core::Session;

/// A login, from the moment at which its user is known.
#[must_use]
pub fn login(request: impl Display, user: impl Display) -> Span {
    error_span!(parent: None, "login", %request, %user)
}

/// What is done for a session: its request is that of the login that made it.
#[must_use]
pub fn session(session: &Session) -> Span {
    error_span!(
        parent: None,
        "session",
        request = %session.request,
        session = %session.id,
        user = %session.user,
        agent = %session.agent
    )
}

/// What a broker hears from an agent and does there, apart from sessions.
#[must_use]
pub fn agent(agent: impl Display) -> Span {
    error_span!(parent: None, "agent", %agent)
}

/// The stream between the brokers.
#[must_use]
pub fn peer(peer: impl Display) -> Span {
    error_span!(parent: None, "peer", %peer)
}
