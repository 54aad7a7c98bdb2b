//! What readers see of the table and its owner, and why a proposal may fail.

use std::sync::Arc;

use vsm_core::{
    Epoch, LineageId, Rejected, Table,
    replica::{Failure, Standing, Status},
};

use crate::store::StoreError;

/// Why a proposal was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// A rule forbids it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It could not be made durable; the text says why. With HA on it may still take effect.
    #[error("the session table cannot be written: {0}")]
    Store(Arc<StoreError>),
    /// Another node is active, or none; nothing was done.
    #[error("this broker is not active")]
    NotActive,
    /// Neither the other broker nor enough witnesses can be reached; nothing was done.
    #[error("neither the other broker nor enough of the witnesses can be reached")]
    NoVotes,
    /// Only both brokers together may change this; nothing was done.
    #[error("the other broker is away; the witnesses can only be changed while it is there")]
    PeerAway,
    /// This broker was replaced, or lost its votes, while the change was under way: it may or may not take effect.
    #[error("this broker was replaced, or lost its votes, while the change was under way")]
    Unknown,
    /// More is under way than is kept; nothing was done.
    #[error("too many changes are under way")]
    Busy,
    /// The owner is stopping.
    #[error("the broker is stopping")]
    Stopping,
}

impl From<Failure> for ProposeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejected) => Self::Rejected(rejected),
            Failure::NotActive(_) => Self::NotActive,
            Failure::PeerAway => Self::PeerAway,
            Failure::NoVotes => Self::NoVotes,
            Failure::Unknown => Self::Unknown,
        }
    }
}

/// What readers see: committed, all of it.
#[derive(Debug)]
pub struct View {
    /// The table.
    pub table: Table,
    /// The last epoch in which this node was active; below all others if it never was. Never the other node's, so that
    /// nothing that is done by it passes an agent's fence.
    pub epoch: Epoch,
    /// Number of the last committed change.
    pub last_seq: u64,
    /// Whether the table is one that was committed. False on a node that has not had one since it started: a new
    /// one, or one whose copy no reign has confirmed. Such a node does not know who has a session.
    pub known: bool,
    /// The table's lineage.
    pub lineage: LineageId,
}

/// The owner at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// The replica.
    pub replica: Status,
    /// The store cannot be written at the moment, and why.
    pub fault: Option<Arc<StoreError>>,
}

impl State {
    /// The epoch in which this node serves; none = it does not.
    #[must_use]
    pub fn serving(&self) -> Option<&Epoch> {
        match &self.replica.standing {
            Standing::Active { epoch, ready: true, .. } => Some(epoch),
            Standing::Active { .. } | Standing::Standby { .. } | Standing::Claiming(_) => None,
        }
    }
}
