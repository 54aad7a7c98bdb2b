//! What the log says of refusals: each at once, and one that comes again and again once a minute with how often. So a
//! flood of one hides no other.

use std::time::Duration;
use std::{collections::HashMap, time::Instant};

use parking_lot::Mutex;

use crate::clock;

/// The log has the same refusal so often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Different ones that are remembered; beyond it the oldest are told as new.
const KNOWN_MAX: usize = 4096;

/// Who, what, and why not.
type Refusal = (String, &'static str, String);

#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Refusal, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Since then.
    more: u64,
}

impl Refusals {
    /// Counts one, and tells it if it is time.
    pub(super) fn tell(&self, who: String, method: &'static str, why: &str) {
        let refusal = (who, method, why.to_owned());
        if let Some(times) = self.count(&refusal, clock::now()) {
            let (who, method, why) = refusal;
            tracing::warn!(who, method, why, times, "refused");
        }
    }

    /// How many to tell of; none = not now.
    fn count(&self, refusal: &Refusal, now: Instant) -> Option<u64> {
        let mut known = self.0.lock();
        if let Some(told) = known.get_mut(refusal) {
            told.more += 1;
            if now.saturating_duration_since(told.at) < TELL_EVERY {
                return None;
            }
            let more = told.more;
            *told = Told { at: now, more: 0 };
            return Some(more);
        }
        if known.len() >= KNOWN_MAX {
            known.retain(|_, told| now.saturating_duration_since(told.at) < TELL_EVERY);
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
        }
        known.insert(refusal.clone(), Told { at: now, more: 0 });
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_ones_are_counted_and_others_are_told_at_once() {
        let (refusals, start) = (Refusals::default(), clock::now());
        let of = |who: &str| (who.to_owned(), "vsm.admin.v1.Admin/Status", "no".to_owned());
        assert_eq!(refusals.count(&of("a"), start), Some(1));
        for _ in 0..1000 {
            assert_eq!(refusals.count(&of("a"), start), None);
        }
        assert_eq!(refusals.count(&of("b"), start), Some(1), "a flood of one hides no other");
        assert_eq!(refusals.count(&of("a"), start + TELL_EVERY), Some(1001));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (refusals, now) = (Refusals::default(), clock::now());
        for n in 0..3 * KNOWN_MAX {
            let one = (n.to_string(), "vsm.admin.v1.Admin/Status", "no".to_owned());
            assert_eq!(refusals.count(&one, now), Some(1));
        }
        assert!(refusals.0.lock().len() <= KNOWN_MAX);
    }
}
