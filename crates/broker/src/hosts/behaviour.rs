//! How a session host has behaved, as its link keeps it. What follows from it is decided in `conduct`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use vsm_core::{Epoch, lifecycle::Adoptions};
use vsm_daemon::clock;

/// Sessions of one host: no host has so many, by far. A million invented ones would fill the brokers' memory.
pub(crate) const SESSIONS_MAX: usize = 4096;
/// So long it is counted how often a host did something.
pub(super) const WINDOW: Duration = Duration::from_secs(600);

/// How a host has behaved.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    pub(super) raises: VecDeque<Instant>,
    pub(super) last: Option<Epoch>,
    pub(super) adopted: Adoptions,
    pub(super) aside: Option<Aside>,
}

/// A host that is put aside.
#[derive(Debug, Clone)]
pub struct Aside {
    /// Why, in one line.
    pub(crate) why: String,
    pub(super) until: Instant,
}

impl Aside {
    /// Why nothing is asked of the host.
    pub(crate) fn words(&self) -> String {
        format!("put aside, as {}", self.why)
    }

    /// How long it stays so.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(clock::now())
    }
}

/// Notes one more within the window; whether there are more than `max`.
pub(super) fn is_too_often(times: &mut VecDeque<Instant>, now: Instant, max: usize) -> bool {
    while times.front().is_some_and(|first| now.saturating_duration_since(*first) > WINDOW) {
        times.pop_front();
    }
    times.push_back(now);
    times.len() > max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_ago_does_not_count() {
        let (mut times, now) = (VecDeque::new(), clock::now());
        for _ in 0..3 {
            assert!(!is_too_often(&mut times, now, 3));
        }
        assert!(is_too_often(&mut times, now, 3));
        assert!(!is_too_often(&mut times, now + WINDOW + Duration::from_secs(1), 3));
        assert_eq!(times.len(), 1);
    }
}
