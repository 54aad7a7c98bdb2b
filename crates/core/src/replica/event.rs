//! What a replica is told, what it wants done, and what it is: the values at its edge.

use super::{
    disk::Write,
    limits::Limits,
    message::{PeerMsg, WitnessMsg, WitnessReply},
};
use crate::{AgentName, Change, Epoch, NodeName, Proposal, Rejected};

/// Numbers writes in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Token(pub u64);

/// What a replica is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// Agents to become the witnesses when the pair is first formed.
    pub witnesses: Vec<AgentName>,
    /// After so many milliseconds without an answer a peer is away.
    pub ack_timeout_ms: u64,
    /// Between two signs of life.
    pub heartbeat_ms: u64,
    /// Makes the jitter of back-off.
    pub seed: u64,
    /// How much at once, and how much is kept.
    pub limits: Limits,
    /// There is no peer and there are no witnesses: this node's own vote is enough, and it reigns from the start.
    pub alone: bool,
}

impl Config {
    /// For a broker that is not one of a pair.
    #[must_use]
    pub const fn alone(node: NodeName, seed: u64) -> Self {
        // Nobody comes back who would want more of the log; without a peer the times mean nothing.
        let limits = Limits { log_keep: 1024, ..Limits::DEFAULT };
        let (ack_timeout_ms, heartbeat_ms, alone) = (500, 50, true);
        Self { node, witnesses: Vec::new(), ack_timeout_ms, heartbeat_ms, seed, limits, alone }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed.
    Tick,
    /// Whether this node is to be active: it holds the address, or was asked to take over.
    Want(bool),
    /// As `Want(true)`, and a peer that is active is to step down in good order.
    TakeOver,
    /// The connection to the peer is there, or broke.
    Link(bool),
    /// The peer says something.
    Peer(PeerMsg),
    /// The peer is at something that takes long, as taking in a snapshot: it is not away.
    PeerBusy,
    /// A witness says something.
    Witness(AgentName, WitnessReply),
    /// A witness can be reached: one that is new is told what it needs to know before it votes.
    WitnessUp(AgentName),
    /// Somebody wants changes; each comes with a number of the caller's that comes back with the answer. Those of one
    /// event share a write and a message.
    Propose(Vec<(u64, Proposal)>),
    /// All writes up to this one are durable.
    Stored(Token),
    /// An agent refused us by this higher epoch.
    Fenced(Epoch),
    /// The peer was switched off at this moment or later; whoever says so is certain of it.
    PeerOff(u64),
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Make this durable, then say so by [`Event::Stored`].
    Store(Token, Write),
    /// Send to the peer; may be lost.
    ToPeer(PeerMsg),
    /// Send to a witness; may be lost.
    ToWitness(AgentName, WitnessMsg),
    /// Answer a proposal.
    Answer {
        /// As proposed.
        id: u64,
        /// What was committed, or why not.
        result: Result<Change, Failure>,
    },
}

/// Why a change was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A rule forbids it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Another node is active, or none; nothing was done.
    #[error("this broker is not active")]
    NotActive(Option<Epoch>),
    /// Who the witnesses are is changed by both brokers together, and the peer is away; nothing was done.
    #[error("the other broker is away; the witnesses can only be changed while it is there")]
    PeerAway,
    /// Neither the peer nor the witnesses can be reached; nothing was done.
    #[error("neither the other broker nor the witnesses can be reached")]
    NoVotes,
    /// This node was replaced, or lost its votes, while the change was under way: it may or may not take effect.
    #[error("this broker was replaced, or lost its votes, while the change was under way")]
    Unknown,
}

/// What a replica is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Follows, or waits for somebody to follow.
    Standby {
        /// The epoch of the active node, once heard of.
        leader: Option<Epoch>,
    },
    /// Asks for votes.
    Claiming(Epoch),
    /// Active; serves once `ready`.
    Active {
        /// Its epoch.
        epoch: Epoch,
        /// Whether all that was committed before is committed again.
        ready: bool,
        /// Whether a second vote can be had now.
        votes: bool,
        /// Whether the peer has everything.
        synced: bool,
    },
}
