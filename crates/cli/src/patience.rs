//! How long the network to the broker's host may stall.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// So long nothing may be acknowledged, at the first attempt, the next, and all others. The address may have moved: an
/// attempt that is made soon finds it. A network that stalls again and again needs longer.
const UNANSWERED_MAX: [Duration; 3] =
    [Duration::from_millis(1500), Duration::from_secs(5), Duration::from_secs(15)];

/// How long the network may stall, in one command: an attempt that was given up for that has longer the next time.
#[derive(Debug, Clone, Default)]
pub struct Patience(Arc<AtomicUsize>);

impl Patience {
    /// For an attempt that no other one follows: nothing is gained then by giving up soon.
    #[must_use]
    pub fn of_one_attempt() -> Self {
        Self(Arc::new(UNANSWERED_MAX.len().into()))
    }

    pub(crate) fn bound(&self) -> Duration {
        let [first, next, others] = UNANSWERED_MAX;
        match self.0.load(Ordering::Relaxed) {
            0 => first,
            1 => next,
            _ => others,
        }
    }

    pub(crate) fn longer(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
