//! What a node is at the moment, and what it knows as that.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    message::{Holds, Supply, Window},
    reign::Active,
    tick::Tick,
};
use crate::{AgentName, Epoch};

pub(super) enum Role {
    Standby {
        leader: Option<Epoch>,
        /// When that was last heard, or this role began.
        heard: Tick,
    },
    Probing(Box<Probe>),
    Claiming(Box<Claim>),
    Active(Box<Active>),
}

/// Asking the witnesses whether a claim would disturb a reign.
pub(super) struct Probe {
    pub(super) until: Tick,
    pub(super) free: BTreeSet<AgentName>,
}

/// A claim under way.
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    pub(super) asked: Asked,
    /// The peer will not answer: the witnesses are asked as soon as anybody is.
    pub(super) at_once: bool,
    /// Then whoever was asked is taken for away; means nothing while nobody was.
    pub(super) until: Tick,
    /// It was known when the claim began that the peer has forgotten its promises.
    pub(super) knew_blank: bool,
    pub(super) peer: Option<(Holds, Supply)>,
    pub(super) witnesses: BTreeMap<AgentName, Option<Window>>,
}

/// Who was asked for a vote so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nobody: the claim is not durable yet.
    Nobody,
    /// The peer, if it is there.
    Peer,
    /// The witnesses, too.
    Witnesses,
}

impl Role {
    pub(super) const fn standby(leader: Option<Epoch>, now: Tick) -> Self {
        Self::Standby { leader, heard: now }
    }

    pub(super) fn active(&self) -> Option<&Active> {
        match self {
            Self::Active(active) => Some(active),
            Self::Standby { .. } | Self::Probing(_) | Self::Claiming(_) => None,
        }
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut Active> {
        match self {
            Self::Active(active) => Some(active),
            Self::Standby { .. } | Self::Probing(_) | Self::Claiming(_) => None,
        }
    }

    pub(super) fn claim_mut(&mut self) -> Option<&mut Claim> {
        match self {
            Self::Claiming(claim) => Some(claim),
            Self::Standby { .. } | Self::Probing(_) | Self::Active(_) => None,
        }
    }
}
