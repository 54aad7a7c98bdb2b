//! How long the broker's host may be silent.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Keep-alives that may be missed, one each second; the next is waited for too. An answer is late by
/// [`super::JOIN_TIMEOUT`] anyway.
const MISSES: [u32; 3] = [1, 7, 15];
const LONGEST: usize = MISSES.len() - 1;

/// How long the broker's host may be silent, in one command. An sshd answers nothing while it opens a session, which
/// PAM and the user's systemd make slow on a busy host: one that was given up for that has longer the next time. So an
/// address that moved is noticed soon, and a host that is slow is not taken for a dead one again and again, which keeps
/// it busy with logins in vain.
#[derive(Debug, Clone, Default)]
pub struct Patience(Arc<AtomicUsize>);

impl Patience {
    /// For an attempt that no other one follows: nothing is gained then by giving up soon.
    #[must_use]
    pub fn of_one_attempt() -> Self {
        Self(Arc::new(LONGEST.into()))
    }

    pub(super) fn misses(&self) -> u32 {
        MISSES[self.0.load(Ordering::Relaxed).min(LONGEST)]
    }

    pub(super) fn longer(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
