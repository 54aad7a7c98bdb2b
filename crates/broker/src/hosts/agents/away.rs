//! Why an agent cannot be reached.

use std::time::Duration;

use vsm_daemon::cause::Fault;

use super::CallError;
use crate::hosts::behaviour::Aside;

/// Why an agent cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Away {
    /// It is no agent of this configuration.
    #[error("it is in no subcluster")]
    NoAgent,
    /// It has neither answered nor refused.
    #[error("it has not answered yet")]
    Unheard,
    /// The call for its report failed, or the report broke.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It did not tell what runs there in time.
    #[error("no inventory within {} s", .0.as_secs())]
    NoInventory(Duration),
    /// Its report began with something else.
    #[error("its report does not begin with an inventory")]
    NotBegun,
    /// It ended its report.
    #[error("it closed its report")]
    Closed,
    /// It says that it has more sessions than any host has.
    #[error("it says that it has {0} sessions")]
    TooMany(usize),
    /// Its promises are fewer than it told of before.
    #[error("its disk went back in time; it is set apart until both brokers are in sync")]
    SetApart,
    /// It is put aside.
    #[error("{}", .0.words())]
    Aside(Aside),
    /// This broker ends.
    #[error("this broker is stopping")]
    Stopping,
}

impl Away {
    /// What is the matter with the agent's certificate, if it is that.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        if let Self::Call(error) = self { error.fault } else { None }
    }

    /// Whether the agent's `/vsmagent/allowed_clients` lacks this broker.
    #[must_use]
    pub const fn is_not_allowed(&self) -> bool {
        matches!(self, Self::Call(error) if error.not_allowed)
    }
}
