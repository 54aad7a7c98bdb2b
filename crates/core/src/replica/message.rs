//! What nodes say to each other. Values only: the shell carries them.

use std::collections::BTreeMap;

use super::log::{Entry, History};
use crate::{Epoch, Key, Lsn, Row};

/// Broker to broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMsg {
    /// First on every connection, and whenever somebody is to look again.
    Hello(Hello),
    /// May I reign?
    Claim {
        /// The epoch that is claimed; durable at the claimant.
        epoch: Epoch,
        /// What the claimant holds.
        holds: Holds,
    },
    /// You may, and this is what you lack.
    Promise {
        /// The epoch that is promised; durable.
        epoch: Epoch,
        /// What the promiser holds.
        holds: Holds,
        /// What the claimant lacks of it.
        supply: Supply,
    },
    /// I am wanted and you are active: step down in good order if you are not wanted where you are, or have no votes.
    Wish {
        /// Step down even so: an administrator asks for it.
        planned: bool,
    },
    /// I have stepped down, with nothing under way: claim.
    Yield {
        /// The epoch that ends.
        epoch: Epoch,
    },
    /// Follow me. Without entries: a sign of life.
    Append {
        /// The active node's epoch.
        epoch: Epoch,
        /// The position that the entries follow.
        prev: Lsn,
        /// New entries.
        entries: Vec<Entry>,
        /// All up to this number is committed.
        commit: u64,
        /// Comes back with the answer: what is acknowledged by it was not said before this was asked.
        round: u64,
    },
    /// Replace your table by this.
    Snapshot {
        /// The active node's epoch.
        epoch: Epoch,
        /// The table.
        image: Image,
    },
    /// All up to this number is durable here.
    Ack {
        /// The epoch of the active node.
        epoch: Epoch,
        /// Last number.
        last: u64,
        /// That of the message which is answered; 0 = of one that has none.
        round: u64,
    },
    /// Your entries do not follow what I hold.
    Behind {
        /// The epoch of the active node.
        epoch: Epoch,
        /// What is held.
        holds: Holds,
    },
    /// Your epoch has been replaced.
    Stale {
        /// The highest epoch that is promised.
        promised: Epoch,
    },
}

/// Who is there and what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What is held.
    pub holds: Holds,
    /// The highest epoch that is promised.
    pub promised: Epoch,
    /// The epoch in which the sender is active; none = it is not.
    pub active: Option<Epoch>,
}

/// How far a broker's log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holds {
    /// Whether it has a table at all. One that is new, or lost its disk, has forgotten its promises: its vote does not
    /// count.
    pub joined: bool,
    /// Whether the table was ever a pair's: then a vote may be somewhere that this node knows nothing of.
    pub paired: bool,
    /// The last position.
    pub last: Lsn,
    /// Its epochs.
    pub history: History,
    /// It cannot go back behind this number.
    pub reach: u64,
}

/// A table at a position, with the entries after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The position of the rows.
    pub at: Lsn,
    /// Every row.
    pub rows: Vec<Row>,
    /// Epochs up to that position.
    pub history: History,
    /// Entries after it.
    pub entries: Vec<Entry>,
}

/// What a claimant lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply {
    /// Nothing: its own log goes at least as far.
    Nothing,
    /// Entries after a position that both have; what it has beyond that is to go.
    Entries {
        /// The common position.
        prev: Lsn,
        /// Entries after it.
        entries: Vec<Entry>,
    },
    /// Everything.
    Image(Image),
}

/// Broker to witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessMsg {
    /// Would anybody be disturbed if I asked for votes? Promises nothing, and changes nothing.
    Probe {
        /// An epoch that the sender might claim; a reign of the sender's own where it is active.
        epoch: Epoch,
    },
    /// May I reign?
    Claim {
        /// The epoch that is claimed.
        epoch: Epoch,
        /// The life of the claimant's table, where it is known.
        life: Option<Epoch>,
    },
    /// Keep this, as the peer cannot.
    Accept {
        /// The active node's epoch.
        epoch: Epoch,
        /// The position that the witness is to hold already; none = this is the whole window.
        prev: Option<Lsn>,
        /// The new state of what changed.
        window: Window,
        /// For so many milliseconds from now on this reign is alive and wanted where it is: who probes is held off.
        hold_ms: u64,
    },
    /// The peer has everything: the window is no longer needed.
    Clear {
        /// The active node's epoch.
        epoch: Epoch,
        /// Up to here.
        at: Lsn,
        /// The loss that this makes up for: both brokers were in this reign after it. None = the witness lost nothing.
        loss: Option<u64>,
        /// The life of the pair's table, where it is known.
        life: Option<Epoch>,
    },
}

impl WitnessMsg {
    /// The broker's epoch.
    #[must_use]
    pub const fn epoch(&self) -> &Epoch {
        let (Self::Probe { epoch }
        | Self::Claim { epoch, .. }
        | Self::Accept { epoch, .. }
        | Self::Clear { epoch, .. }) = self;
        epoch
    }
}

/// Witness to broker; durable before it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessReply {
    /// It may, and this is what was kept for its predecessor.
    Promised {
        /// The epoch that is promised.
        epoch: Epoch,
        /// What is kept.
        window: Option<Window>,
    },
    /// All up to here is kept.
    Accepted {
        /// The active node's epoch.
        epoch: Epoch,
        /// Last position.
        last: Lsn,
    },
    /// Something between is missing: send the whole window.
    Gap {
        /// The active node's epoch.
        epoch: Epoch,
    },
    /// The window is gone.
    Cleared {
        /// The active node's epoch.
        epoch: Epoch,
    },
    /// A higher epoch is promised.
    Refused {
        /// The highest epoch that is promised.
        promised: Epoch,
    },
    /// It is new, or lost what it held, and gives no vote before it was told by [`WitnessMsg::Clear`] that nothing of
    /// it is needed.
    Mute {
        /// This loss, by a number of its own.
        loss: u64,
    },
    /// Nobody would be disturbed.
    Free {
        /// The highest epoch that is promised; below all if none is.
        promised: Epoch,
    },
    /// The claimant's table is of another life than the pair's.
    Foreign {
        /// The life of the pair's table.
        life: Epoch,
    },
    /// Another node's reign is alive.
    Held {
        /// That reign.
        reign: Epoch,
    },
}

/// What changed while the peer was away: one latest row per key, so that its size is that of what changed, however
/// often it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// A position that both brokers have.
    pub base: Lsn,
    /// The position of the rows.
    pub last: Lsn,
    /// The rows that changed in between.
    pub rows: BTreeMap<Key, Row>,
    /// Epochs up to `last`.
    pub history: History,
}
