//! What a replica tells of itself, for people and for the health check.

use std::sync::Arc;

use super::{
    event::Standing,
    node::Replica,
    reign::{Kept, Second},
    role::Role,
};
use crate::{AgentName, Epoch, Lsn};

/// A replica at one moment, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub standing: Standing,
    /// Whether it is to be active.
    pub want: bool,
    /// It handed over to the peer while it was wanted: the address is to follow.
    pub relieved: bool,
    /// Whether it has a table; false on a new disk.
    pub joined: bool,
    /// The highest epoch that it promised or claimed.
    pub promised: Epoch,
    /// The highest epoch heard of anywhere.
    pub seen: Epoch,
    /// The last position of its log.
    pub last: Lsn,
    /// Committed up to this number.
    pub commit: u64,
    /// A standby: the active node holds this many changes that it does not, as far as it has heard.
    pub behind: u64,
    /// Claims that failed since the last that did not.
    pub attempts: u32,
    /// Whether the connection to the peer is there.
    pub link: bool,
    /// The peer was switched off for certain, and its vote counts as given.
    pub peer_off: bool,
    /// The peer is away, or has missed some signs of life.
    pub silent: bool,
    /// The active node's view of its peer.
    pub peer: Option<PeerStatus>,
    /// The witnesses, once the pair was formed.
    pub roster: Option<Arc<[AgentName]>>,
    /// Witnesses that give no vote, as they are new or lost what they held; the active node's view.
    pub mute: Vec<AgentName>,
    /// The peer's table is of another life than this one: a copy that was put back, or of before one node left the
    /// pair.
    pub peer_foreign: bool,
    /// This node's table is of another life than the pair's, which is this one: a copy that was put back, or of
    /// before the other node left the pair.
    pub foreign: Option<Epoch>,
    /// The active node's view of the witnesses; empty while they are not needed.
    pub witnesses: Vec<WitnessStatus>,
}

/// What the active node knows of its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// The second vote.
    pub second: Second,
    /// All up to this number was sent.
    pub sent: u64,
    /// All up to this number is durable there.
    pub acked: u64,
}

/// What the active node knows of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Agent.
    pub agent: AgentName,
    /// It keeps all up to this number; 0 = it has not answered.
    pub acked: u64,
    /// Milliseconds since it was last heard of.
    pub age_ms: u64,
}

impl Replica {
    /// What it is and knows at the moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let (peer, witnesses) = match &self.role {
            Role::Active(active) if !self.config.alone => {
                let peer = PeerStatus {
                    second: active.solo.second,
                    sent: active.follower.sent,
                    acked: active.follower.acked,
                };
                let of = |(agent, kept): (&AgentName, &Kept)| WitnessStatus {
                    agent: agent.clone(),
                    acked: kept.acked,
                    age_ms: self.now.since(kept.heard),
                };
                let second = active.solo.second == Second::Witnesses;
                let witnesses = active.solo.witnesses.iter().filter(|_| second).map(of).collect();
                (Some(peer), witnesses)
            }
            Role::Active(_) | Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => {
                (None, Vec::new())
            }
        };
        let mute = match &self.role {
            Role::Active(active) => active.voices.mute().cloned().collect(),
            Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => Vec::new(),
        };
        Status {
            standing: self.standing(),
            want: self.candidacy.want,
            relieved: self.candidacy.relieved,
            joined: self.ledger.joined,
            promised: self.ledger.promised.clone(),
            seen: self.candidacy.seen.clone(),
            last: self.ledger.log.last().clone(),
            commit: self.ledger.commit,
            behind: self.behind(),
            attempts: self.candidacy.attempts,
            link: self.peer.is_up,
            peer_off: self.peer.counts_as_off(),
            silent: self.is_silent(),
            peer,
            roster: self.ledger.table.roster().cloned(),
            mute,
            peer_foreign: self.peer.foreign,
            foreign: self.ledger.foreign.clone().filter(|_| !self.peer.is_up || self.peer.foreign),
            witnesses,
        }
    }

    fn behind(&self) -> u64 {
        match self.role {
            Role::Standby { .. } => {
                self.peer.leader_last.saturating_sub(self.ledger.log.last().seq)
            }
            Role::Probing(_) | Role::Claiming(_) | Role::Active(_) => 0,
        }
    }
}
