//! Why a broker's call did nothing.

use std::io;

use vsm_core::{SessionId, UserName};
use vsm_daemon::one_time::TooMany;

use super::{fence::Denied, identity::NotInstalled, revoked::NotTaken, wish::NotDone};
use crate::message::{Answer, Failure, Kind};

/// Why a broker's call did nothing, or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The broker may not act here.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It never was here, or has ended.
    #[error("there is no session {0} here")]
    NoSession(SessionId),
    /// A broker takes somebody else for its owner.
    #[error("session {0} is not {1}'s")]
    NotOwned(SessionId, UserName),
    /// There is no room for another one-time key.
    #[error(transparent)]
    TooManyKeys(#[from] TooMany),
    /// There is no room for another right to shadow.
    #[error("too many are about to shadow desktops")]
    TooManyShadowers,
    /// The caller asks again.
    #[error("session {0} is still being started")]
    StillStarting(SessionId),
    /// The caller asks again.
    #[error("session {0} is still ending")]
    StillEnding(SessionId),
    /// The session's own process did not do it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
    /// It is forbidden until a restart, and the caller asks again.
    #[error("the cancel cannot be kept: {0}")]
    CancelNotKept(io::Error),
    /// What is revoked cannot be kept.
    #[error("revoked certificates: {0}")]
    Revoked(#[from] NotTaken),
    /// A session's log cannot be read.
    #[error("the log: {0}")]
    Log(io::Error),
    /// Something that has no words of its own.
    #[error("{0}")]
    Broken(io::Error),
    /// A new certificate is not put in place.
    #[error(transparent)]
    Identity(#[from] NotInstalled),
    /// What this host promised cannot be moved away.
    #[error("cannot set the promise aside: {0}")]
    NotSetAside(io::Error),
}

impl From<CallError> for Answer {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Denied(denied) => match denied {
                Denied::Fenced(promised) => return Self::Fenced(promised.clone()),
                Denied::Invalid(_) | Denied::Unreadable(_) => Kind::Invalid,
                Denied::Damaged(_)
                | Denied::OtherLineage { .. }
                | Denied::TooManyTables(_)
                | Denied::BeyondReason { .. } => Kind::NotNow,
                Denied::NotKept(_) => Kind::Full,
            },
            CallError::Revoked(NotTaken::Write { .. }) => return Self::NotKept(error.to_string()),
            CallError::NoSession(_) => Kind::NoSession,
            CallError::NotOwned(..) => Kind::NotAllowed,
            CallError::TooManyKeys(_)
            | CallError::TooManyShadowers
            | CallError::CancelNotKept(_)
            | CallError::Revoked(_)
            | CallError::NotSetAside(_) => Kind::Full,
            CallError::StillStarting(_) | CallError::StillEnding(_) => Kind::UnderWay,
            CallError::NotDone(_) => Kind::Away,
            CallError::Log(_) | CallError::Broken(_) | CallError::Identity(_) => Kind::Broken,
        };
        Self::Failed(Failure { kind, text: error.to_string() })
    }
}
