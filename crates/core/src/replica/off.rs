//! A peer that was switched off for certain, by the power switch of cluster software: its vote counts as given, where
//! there are no witnesses, until it is heard again.
//!
//! That is safe for a node that is *whole*: nothing can have been committed without it. It was active, or took all from
//! an active node, in this life of its process. From then on the peer commits nothing without it, as the peer would
//! need its acknowledgement, or to have had it switched off, which would have ended this process. Of the peer's side:
//! one that was switched off is not whole when it comes up, so it can neither be active nor commit before it has met
//! this node. And before this node says a word to it, it is durable here that its vote has to be asked for again.
//!
//! With witnesses it would not be safe, and they are there for it: the peer may have committed with them, unseen,
//! before it was switched off. Then the word only spares the wait for an answer.

use super::{
    claim::BEATS,
    mutant::{self, Mutant},
    node::{Held, Replica, Role},
};
use crate::replica::Token;

/// What is known of that.
pub(super) struct Off {
    /// The peer's vote counts as given: durable.
    pub(super) counts: bool,
    /// It does as soon as that is durable.
    soon: bool,
    /// Nothing can have been committed without this node.
    whole: bool,
    /// When the peer was last heard, or this process began.
    pub(super) heard_ms: u64,
    /// What is sent to the peer waits for this write.
    pub(super) cleared: Token,
}

impl Off {
    pub(super) fn new(counts: bool, now_ms: u64) -> Self {
        // One that had its peer's vote committed all by itself, and has it on its disk.
        let whole = counts;
        Self { counts, soon: false, whole, heard_ms: now_ms, cleared: Token::default() }
    }
}

impl Replica {
    /// Whether the word for it was taken: it counts, or does as soon as it is durable.
    #[must_use]
    pub const fn takes_peer_off(&self) -> bool {
        self.off.counts || self.off.soon
    }

    pub(super) const fn is_silent(&self) -> bool {
        !self.link || self.now >= self.off.heard_ms + self.config.heartbeat_ms * BEATS
    }

    /// Whether the peer's vote counts as given.
    #[must_use]
    pub const fn counts_peer_off(&self) -> bool {
        self.off.counts
    }

    /// The peer was switched off at a moment. One that was heard since is another life of it.
    pub(super) fn on_peer_off(&mut self, at_ms: u64) {
        if self.config.alone || (at_ms <= self.off.heard_ms && !mutant::on(Mutant::FencingStale)) {
            return;
        }
        if self.link {
            // Whatever the connection looks like: nobody is at its other end.
            self.on_link(false);
        }
        // Nor is any reign of it that a witness may still take for alive.
        self.forced = true;
        // An active peer is no more.
        if let Role::Standby { leader, .. } = &mut self.role {
            *leader = None;
            self.hold_off_ms = self.now;
        }
        let whole = self.off.whole || mutant::on(Mutant::FencingNotWhole);
        let witnesses = self.has_witnesses() && !mutant::on(Mutant::FencingBesideWitnesses);
        if self.joined && whole && !witnesses && !self.off.counts && !self.off.soon {
            self.off.soon = true;
            self.writing().peer_off = Some(true);
            self.after_write(Held::PeerOff);
        }
        self.claim_without_peer();
    }

    pub(super) fn peer_off_is_durable(&mut self) {
        if !std::mem::take(&mut self.off.soon) {
            // It was heard meanwhile.
            return;
        }
        self.off.counts = true;
        match self.role {
            Role::Standby { .. } | Role::Probing(_) => {
                self.step_down(None);
                self.hold_off_ms = self.now;
            }
            Role::Claiming(_) => self.become_active(false),
            Role::Active(_) => self.try_commit(),
        }
    }

    /// The peer is there again: whatever is said to it, it has to be asked for its vote from now on.
    pub(super) fn peer_is_heard(&mut self) {
        self.off.heard_ms = self.now;
        let volatile = mutant::on(Mutant::FencingForgottenLate);
        if self.off.counts || self.off.soon {
            (self.off.counts, self.off.soon) = (false, false);
            self.writing().peer_off = Some(false);
            if !volatile {
                self.off.cleared = self.write_token();
            }
        }
    }

    /// Nothing can have been committed without this node, nor will be.
    pub(super) fn is_whole(&mut self) {
        self.off.whole = true;
    }
}
