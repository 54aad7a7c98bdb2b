//! Whether a node tries to become active, and when.

use super::tick::Tick;
use crate::Epoch;

/// What a node knows of its own wish to be active.
pub(super) struct Candidacy {
    pub(super) want: bool,
    /// It handed over to the peer, for whom the address is still on its way: it wants nothing until it has no address,
    /// or no peer.
    pub(super) relieved: bool,
    /// An administrator asked for it: the next claim is made also where it disturbs a reign.
    pub(super) forced: bool,
    /// No claim before this moment.
    pub(super) not_before: Tick,
    /// Claims that failed since the last that did not.
    pub(super) attempts: u32,
    /// Highest epoch heard of anywhere.
    pub(super) seen: Epoch,
    random: u64,
}

impl Candidacy {
    pub(super) const fn new(seen: Epoch, seed: u64, not_before: Tick) -> Self {
        Self {
            want: false,
            relieved: false,
            forced: false,
            not_before,
            attempts: 0,
            seen,
            random: seed | 1,
        }
    }

    /// Called repeatedly with the current wish.
    pub(super) const fn wanted(&mut self, want: bool) {
        self.relieved &= want;
        self.want = want && !self.relieved;
    }

    /// The one that it handed over to did not take it, or is gone.
    pub(super) const fn take_back(&mut self) {
        if self.relieved {
            (self.relieved, self.want) = (false, true);
        }
    }

    pub(super) fn see(&mut self, epoch: &Epoch) {
        if *epoch > self.seen {
            self.seen = epoch.clone();
        }
    }

    /// Waits for longer after each attempt, and not as long as the other one.
    pub(super) fn back_off(&mut self, now: Tick, timeout_ms: u64) {
        self.attempts = (self.attempts + 1).min(6);
        let step = timeout_ms << self.attempts.saturating_sub(1);
        self.not_before = now + (step / 2 + self.draw() % (step / 2).max(1));
    }

    /// How long the witnesses are waited for: longer after each attempt that failed, and eight time-outs at most.
    pub(super) fn patience(&self, timeout_ms: u64) -> u64 {
        timeout_ms << self.attempts.min(3)
    }

    /// A number at random.
    pub(super) const fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
