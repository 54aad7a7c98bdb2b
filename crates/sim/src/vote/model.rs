//! A state of the vote core, and how far the search goes.

use super::pieces::{EpochId, LogId, Sid, WitnessId};

/// How much is searched.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Claims of both brokers together.
    pub claims: u8,
    /// Sessions that may be reserved, each for a user on an agent; at most 4.
    pub sessions: Vec<(u8, u8)>,
    /// Whether the agents are witnesses.
    pub witnesses: bool,
    /// Whether brokers die, and can cut each other's power.
    pub fencing: bool,
    /// How often a witness loses all that it held.
    pub losses: u8,
}

impl Bound {
    /// What `--exhaustive` searches: two users; the first one's start may be tried on a second agent.
    #[must_use]
    pub fn full() -> Self {
        let sessions = vec![(0, 0), (0, 1), (1, 1)];
        Self { claims: 3, sessions, witnesses: true, fencing: false, losses: 0 }
    }

    /// Without witnesses, and with power switches: what `--exhaustive` searches besides.
    #[must_use]
    pub fn fencing() -> Self {
        let sessions = vec![(0, 0), (0, 1)];
        Self { claims: 3, sessions, witnesses: false, fencing: true, losses: 0 }
    }

    /// With a witness that loses its memory and is greeted: what `--exhaustive` searches besides.
    #[must_use]
    pub fn losses() -> Self {
        Self { sessions: vec![(0, 0)], losses: 1, ..Self::small() }
    }

    /// What the tests search.
    #[must_use]
    pub fn small() -> Self {
        let sessions = vec![(0, 0), (0, 1)];
        Self { claims: 2, sessions, witnesses: true, fencing: false, losses: 0 }
    }
}

/// A rule that is left out, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// A broker's own vote commits.
    OneVoteCommits,
    /// A broker's own vote makes it active.
    OneVotePromotes,
    /// An agent looks at no epoch, neither as a witness nor when it starts something.
    NoEpochCheck,
    /// An agent forgets its promise in a crash, not what it keeps.
    PromiseVolatile,
    /// The next agent is asked without a tombstone for the first start.
    NoTombstone,
    /// The power switch says that it is done, and is not.
    FencingLies,
    /// A broker that may lack something takes the vote of one whose power was cut.
    FencingNotWhole,
    /// The vote of a broker whose power was cut counts though there are witnesses.
    FencingBesideWitnesses,
    /// A witness that lost its memory votes at once.
    LostVotes,
    /// It is greeted on the strength of what the peer acknowledged before the loss.
    GreetedByOldAck,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OneVoteCommits,
        Self::OneVotePromotes,
        Self::NoEpochCheck,
        Self::PromiseVolatile,
        Self::NoTombstone,
        Self::FencingLies,
        Self::FencingNotWhole,
        Self::FencingBesideWitnesses,
        Self::LostVotes,
        Self::GreetedByOldAck,
    ];

    /// The smallest bound within which it does harm.
    #[must_use]
    pub fn bound(self) -> Bound {
        match self {
            Self::OneVoteCommits
            | Self::OneVotePromotes
            | Self::NoEpochCheck
            | Self::PromiseVolatile
            | Self::NoTombstone => Bound::small(),
            Self::LostVotes | Self::GreetedByOldAck => Bound::losses(),
            Self::FencingLies | Self::FencingNotWhole => Bound::fencing(),
            Self::FencingBesideWitnesses => Bound { witnesses: true, ..Bound::fencing() },
        }
    }
}

/// What a broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Standby,
    Claiming,
    Active,
}

/// The peer's voice among those that a broker has.
pub(super) const PEER: u8 = 1;

/// The vote of a peer whose power was cut.
pub(super) const OFF: u8 = 16;

/// The voice of an agent.
pub(super) const fn voice(agent: usize) -> u8 {
    2 << agent
}

/// Whether these and the broker itself are two of three: the peer, or two of the three witnesses.
pub(super) const fn is_quorum(voices: u8) -> bool {
    voices & (PEER | OFF) != 0 || (voices >> 1 & 7).count_ones() >= 2
}

/// A broker. Promise and log are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Broker {
    pub(super) promise: EpochId,
    pub(super) log: LogId,
    pub(super) role: Role,
    /// Its claim or reign; 0 while it has none.
    pub(super) epoch: EpochId,
    /// Who promised, or who has the whole log.
    pub(super) voices: u8,
    /// The best log among those who promised.
    pub(super) learnt: LogId,
    /// Nothing can have been committed without it.
    pub(super) whole: bool,
    /// Durable: the other one's power was cut, and it has not been met since.
    pub(super) off: bool,
}

impl Broker {
    pub(super) const NEW: Self = Self {
        promise: 0,
        log: 0,
        role: Role::Standby,
        epoch: 0,
        voices: 0,
        learnt: 0,
        whole: false,
        off: false,
    };

    /// What is left of it when it stops to claim or to reign.
    pub(super) const fn standby(self) -> Self {
        let Self { promise, log, whole, off, .. } = self;
        Self { promise, log, whole, off, ..Self::NEW }
    }

    /// What is left of it when it dies.
    pub(super) const fn dead(self) -> Self {
        Self { whole: self.off, ..self.standby() }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) brokers: [Broker; 2],
    pub(super) witnesses: [WitnessId; 3],
    /// Sessions that run, one bit each.
    pub(super) runs: u8,
    /// Starts that their agent has been told to refuse.
    pub(super) cancelled: u8,
    /// Sessions that their user was handed.
    pub(super) handed: u8,
    pub(super) claims: u8,
    /// Witnesses that lost what they held and were not greeted since, one bit each, and how many losses there were.
    pub(super) mute: u8,
    pub(super) losses: u8,
    /// Something that was committed is lost.
    pub(super) broken: bool,
    /// The longest log that was ever committed.
    pub(super) committed: LogId,
    /// Calls to start, under way for ever: one bit for each epoch and session.
    pub(super) calls: u32,
}

impl World {
    pub(super) const NEW: Self = Self {
        brokers: [Broker::NEW; 2],
        witnesses: [0; 3],
        runs: 0,
        cancelled: 0,
        handed: 0,
        claims: 0,
        mute: 0,
        losses: 0,
        broken: false,
        committed: 0,
        calls: 0,
    };
}

/// The bit of a call to start.
pub(super) const fn call_bit(epoch: EpochId, sid: Sid) -> u32 {
    1 << (epoch * 4 + sid)
}
