//! What a node knows of the other broker.

use super::{event::Token, message::Holds, tick::Tick};

/// The other broker, as seen from here.
pub(super) struct PeerLink {
    /// The connection is there.
    pub(super) is_up: bool,
    /// When the peer was last heard, or this process began.
    pub(super) heard: Tick,
    /// The last number that it had as the active node when it was last heard.
    pub(super) leader_last: u64,
    /// It has no table, or one of another life: it forgot what it voted for.
    pub(super) blank: bool,
    /// Its table is of another life.
    pub(super) foreign: bool,
    pub(super) off: Off,
}

/// Whether the peer was switched off for certain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// Nobody says so.
    Unknown,
    /// Somebody says so, which is being made durable.
    Noting,
    /// Its vote counts as given.
    Off,
}

/// What is known of the peer's power, and whether its vote could be done without.
pub(super) struct Off {
    pub(super) power: Power,
    /// Nothing can have been committed without this node.
    pub(super) whole: bool,
    /// What is sent to the peer waits for this write.
    pub(super) cleared: Token,
}

impl PeerLink {
    pub(super) fn new(peer_off: bool, now: Tick) -> Self {
        let power = if peer_off { Power::Off } else { Power::Unknown };
        // One that had its peer's vote committed all by itself, and has it on its disk.
        let off = Off { power, whole: peer_off, cleared: Token::default() };
        Self { is_up: false, heard: now, leader_last: 0, blank: false, foreign: false, off }
    }

    /// Whether its vote counts as given.
    pub(super) fn counts_as_off(&self) -> bool {
        self.off.power == Power::Off
    }

    /// Takes in what it holds, as seen by a node with this log.
    pub(super) fn look_at(&mut self, holds: &Holds, is_foreign: bool) {
        self.foreign = is_foreign;
        self.blank = !holds.joined || is_foreign;
    }
}
