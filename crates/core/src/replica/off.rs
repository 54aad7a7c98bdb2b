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
    node::Replica,
    outbox::Held,
    peer::Power,
    role::Role,
    tick::Tick,
};

impl Replica {
    /// Whether the word for it was taken: it counts, or does as soon as it is durable.
    #[must_use]
    pub fn takes_peer_off(&self) -> bool {
        self.peer.off.power != Power::Unknown
    }

    pub(super) fn is_silent(&self) -> bool {
        !self.peer.is_up || self.now >= self.peer.heard + self.config.heartbeat_ms * BEATS
    }

    /// Whether the peer's vote counts as given.
    #[must_use]
    pub fn counts_peer_off(&self) -> bool {
        self.peer.counts_as_off()
    }

    /// The peer was switched off at a moment. One that was heard since is another life of it.
    pub(super) fn on_peer_off(&mut self, at: Tick) {
        if self.config.alone || (at <= self.peer.heard && !mutant::on(Mutant::FencingStale)) {
            return;
        }
        if self.peer.is_up {
            // Whatever the connection looks like: nobody is at its other end.
            self.on_link(false);
        }
        // Nor is any reign of it that a witness may still take for alive.
        self.candidacy.forced = true;
        // An active peer is no more.
        if let Role::Standby { leader, .. } = &mut self.role {
            *leader = None;
            self.candidacy.not_before = self.now;
        }
        let whole = self.peer.off.whole || mutant::on(Mutant::FencingNotWhole);
        let witnesses = self.ledger.has_witnesses() && !mutant::on(Mutant::FencingBesideWitnesses);
        if self.ledger.joined && whole && !witnesses && !self.takes_peer_off() {
            self.peer.off.power = Power::Noting;
            self.outbox.writing().peer_off = Some(true);
            self.outbox.after_write(Held::PeerOff);
        }
        self.claim_without_peer();
    }

    pub(super) fn peer_off_is_durable(&mut self) {
        if self.peer.off.power != Power::Noting {
            // It was heard meanwhile.
            return;
        }
        self.peer.off.power = Power::Off;
        match self.role {
            Role::Standby { .. } | Role::Probing(_) => {
                self.step_down(None);
                self.candidacy.not_before = self.now;
            }
            Role::Claiming(_) => self.become_active(false),
            Role::Active(_) => self.try_commit(),
        }
    }

    /// The peer is there again: whatever is said to it, it has to be asked for its vote from now on.
    pub(super) fn peer_is_heard(&mut self) {
        self.peer.heard = self.now;
        let volatile = mutant::on(Mutant::FencingForgottenLate);
        if self.takes_peer_off() {
            self.peer.off.power = Power::Unknown;
            self.outbox.writing().peer_off = Some(false);
            if !volatile {
                self.peer.off.cleared = self.outbox.token();
            }
        }
    }

    /// Nothing can have been committed without this node, nor will be.
    pub(super) fn is_whole(&mut self) {
        self.peer.off.whole = true;
    }
}
