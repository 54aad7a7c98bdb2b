//! Deliberate bugs, by which the simulation shows that it would find real ones. Without the feature `mutants` there
//! are none: [`on`] is then a constant.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A deliberate bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

mutants! {
    /// The active node counts its own vote before its write is durable.
    OwnVoteBeforeWrite,
    /// A follower acknowledges before its write is durable.
    AckBeforeWrite,
    /// A broker promises before the promise is durable.
    PromiseBeforeWrite,
    /// A claim is not written: the epoch is used again after a restart.
    EpochReused,
    /// One vote commits.
    CommitWithOneVote,
    /// Entries of an older reign are committed by counting votes for them, and a reign is ready by that.
    CommitOlderByCounting,
    /// A wanted broker is active without asking for votes.
    PromoteOnAddress,
    /// The longest log is taken, not the one with the highest epoch.
    LongestLog,
    /// The vote of a broker that lost its disk counts.
    BlankVotes,
    /// A broker that lost its disk is taken in by a reign that may have been replaced.
    BlankTakenIn,
    /// The witnesses are told to forget as soon as the peer is connected.
    ClearedEarly,
    /// A witness forgets newer rows by an old message.
    StaleClear,
    /// A window leaves out what changed before the peer was found to be away.
    BaseTooNew,
    /// A part of a window leaves out what the log has forgotten.
    WindowTrimmed,
    /// Where the window began is forgotten in a restart.
    MarkForgotten,
    /// Equal counters count as the same epoch.
    NoTieBreak,
    /// A follower applies entries in the wrong order.
    OutOfOrder,
    /// A follower does not compare what comes before new entries.
    PrevUnchecked,
    /// A broker's name decides how soon it claims.
    NameDecides,
    /// A new active node does not learn what the peer holds.
    PeerNotHeard,
    /// A new active node does not learn what the witnesses hold.
    WitnessesNotHeard,
    /// Rows of witnesses are put on a table that they do not follow.
    JoinUnchecked,
    /// One witness is enough.
    OneWitness,
    /// A peer that was switched off and came back counts as off.
    FencingStale,
    /// A node that may lack something takes the vote of a peer that was switched off.
    FencingNotWhole,
    /// The vote of a peer that was switched off counts though there are witnesses.
    FencingBesideWitnesses,
    /// A peer that is back is told things before it is durable that its vote no longer counts as given.
    FencingForgottenLate,
    /// The power switch says that it is done, and is not: what the rule takes for granted.
    FencingLies,
    /// A witness takes rows that do not follow what it has.
    GapTaken,
    /// An agent's promise and rows are not durable.
    WitnessVolatile,
    /// A disk that went back in time, a broker's or an agent's, is taken for what it was.
    RollbackUnseen,
    /// An agent that lost its promise votes and acts.
    NoQuarantine,
    /// An agent does not check the epoch when it acts.
    NoFence,
    /// A start that was given up is forgotten before its agent knows.
    TombstoneDropped,
    /// An agent forgets that a start was cancelled.
    CancelForgotten,
    /// A session is handed out before it is committed that it runs.
    HandOutEarly,
    /// The next agent is asked though the first start may still come to be.
    NextWithoutTombstone,
    /// Nobody counts how many sessions a user has.
    CapUnchecked,
    /// A session is handed out without asking its agent.
    NotVerified,
    /// Silence of an agent is taken for the end of its sessions.
    SilenceIsDeath,
    /// A witness that lost what it held is told to vote though the pair is not in sync.
    GreetedUnsynced,
    /// The same on the strength of what the peer acknowledged before the loss was known.
    GreetedByOldAck,
    /// What makes up for one loss of a witness makes up for the next one too.
    LossUnnumbered,
    /// The witnesses alone commit a change of the witnesses.
    RosterByWitnesses,
    /// The witnesses are named in the first write of a pair, before the other broker has it.
    RosterFirst,
    /// The table of a pair that is being formed is taken for a single server's.
    PairForServer,
    /// A node whose HA is off reigns alone over a pair's table.
    AloneWithPair,
    /// The length of an agent's journal is compared with that of another journal.
    LengthAcrossJournals,
    /// Rows that are not committed are published.
    RowsPublished,
    /// A restart takes rows for committed that one voter had.
    SureAfterRestart,
    /// A reign of a node that lost its disk has the name of one before.
    NonceOmitted,
    /// A log of another life of the table is taken for one of this life.
    ForeignLogTaken,
    /// A witness holds nobody off.
    NobodyHeldOff,
    /// A cancelled start is let through that was admitted before.
    CancelOvertaken,
    /// An agent acts by a right that it was given before a higher promise.
    PermitStale,
    /// A start that nobody finished is not buried on its agent when that is back.
    StonesForgotten,
    /// An end that was asked for while its agent was away is not carried out when that is back.
    EndsForgotten,
    /// A session whose start its agent has not heard of yet is taken for one that is gone.
    StartingMissed,
    /// A session that the table does not know is left alone.
    UnknownLeft,
    /// A session whose agent did not say that it has ended leaves the table.
    EndTakenForGranted,
    /// A start that is given up too late is buried, though it runs.
    RunningBuried,
    /// What agents told a broker before its reign counts as told.
    OldReportKept,
    /// A repeated request is about any session of its user.
    RequestForgotten,
    /// A session does not count against the limit as soon as its agent is silent.
    GraceForgotten,
    /// An adopted session is not among those of its user: the adoption forgets the limit.
    AdoptedUncounted,
    /// A session is made without votes though its user has, as the node knows, as many as they may have.
    UnvotedUnlimited,
    /// Without votes the next agent is asked though the first one may be at it.
    UnvotedTwice,
    /// A host may have any number of sessions adopted.
    AdoptionUnlimited,
}

impl Mutant {
    /// Those of the life of a session, each in one line of [`crate::lifecycle`] or of the table.
    pub const LIFECYCLE: &[Self] = &[
        Self::HandOutEarly,
        Self::NextWithoutTombstone,
        Self::TombstoneDropped,
        Self::RunningBuried,
        Self::EndTakenForGranted,
        Self::EndsForgotten,
        Self::StonesForgotten,
        Self::StartingMissed,
        Self::UnknownLeft,
        Self::OldReportKept,
        Self::NotVerified,
        Self::SilenceIsDeath,
        Self::CapUnchecked,
        Self::GraceForgotten,
        Self::RequestForgotten,
        Self::AdoptedUncounted,
        Self::UnvotedUnlimited,
        Self::UnvotedTwice,
        Self::AdoptionUnlimited,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static CURRENT: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is there.
#[cfg(feature = "mutants")]
#[must_use]
pub fn on(mutant: Mutant) -> bool {
    CURRENT.get() == Some(mutant)
}

/// Whether this bug is there: it is not.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn on(_: Mutant) -> bool {
    false
}

/// Puts one bug into this thread, or takes it out; false where this was built without bugs.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) -> bool {
    CURRENT.set(mutant);
    true
}

/// Puts one bug into this thread, or takes it out; false where this was built without bugs.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn set(mutant: Option<Mutant>) -> bool {
    mutant.is_none()
}
