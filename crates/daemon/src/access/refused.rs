//! What the log says of refusals: each at once, and one that comes again and again once a minute with how often. All
//! together have so many lines a minute, and what had none is counted: a flood hides neither itself nor the log.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::clock;

/// The log has the same refusal so often at most, and all of them [`LINES_MAX`] lines in that time.
const TELL_EVERY: Duration = Duration::from_secs(60);
const LINES_MAX: u32 = 200;
/// Of these one caller has so many, whatever they try: else a few would hide all others.
const LINES_OF_ONE_MAX: u32 = 10;
/// Different ones that are remembered.
const KNOWN_MAX: usize = 4096;

/// Who, and what they asked for.
type Refusal = (String, &'static str);

/// Tells what is refused.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<Refusal, Told>,
    /// The lines of this minute.
    minute: Option<Minute>,
    /// Refusals that the log has no line of.
    left_out: u64,
}

#[derive(Debug)]
struct Minute {
    since: Instant,
    lines: u32,
    of: HashMap<String, u32>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Since then.
    more: u64,
}

/// What the log is to have.
#[derive(Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    /// This refusal, as so many of its kind; and so many others before it that had no line.
    Line {
        times: u64,
        left_out: u64,
    },
}

impl Refusals {
    /// Counts one, and logs it if it is time; whether it was. `who` is as the connection proves it, so that nobody is
    /// many.
    pub fn tell(&self, who: &str, from: &str, method: &'static str, why: &str) -> bool {
        let told = self.0.lock().count((who.to_owned(), method), clock::now());
        if let Tell::Line { times, left_out } = told {
            tracing::warn!(who, from, method, why, times, "refused");
            if left_out > 0 {
                tracing::warn!(left_out, "more was refused than the log has lines of");
            }
            return true;
        }
        false
    }
}

impl State {
    fn count(&mut self, refusal: Refusal, now: Instant) -> Tell {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < TELL_EVERY;
        let told = self.known.get_mut(&refusal);
        let more = match told {
            Some(told) if is_recent(told.at) => {
                told.more += 1;
                return Tell::Nothing;
            }
            Some(told) => told.more,
            None => 0,
        };
        let minute = self.minute.take().filter(|minute| is_recent(minute.since));
        let fresh = || Minute { since: now, lines: 0, of: HashMap::new() };
        let minute = self.minute.insert(minute.unwrap_or_else(fresh));
        let of_one = minute.of.get(&refusal.0).copied().unwrap_or(0);
        if minute.lines >= LINES_MAX || of_one >= LINES_OF_ONE_MAX {
            self.left_out += 1;
            return Tell::Nothing;
        }
        minute.lines += 1;
        minute.of.insert(refusal.0.clone(), of_one + 1);
        if self.known.len() >= KNOWN_MAX {
            let left_out = &mut self.left_out;
            self.known.retain(|_, told| {
                *left_out += if is_recent(told.at) { 0 } else { told.more };
                is_recent(told.at)
            });
        }
        self.known.insert(refusal, Told { at: now, more: 0 });
        Tell::Line { times: more + 1, left_out: std::mem::take(&mut self.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(who: &impl ToString) -> Refusal {
        (who.to_string(), "vsm.admin.v1.Admin/Status")
    }

    fn line(times: u64, left_out: u64) -> Tell {
        Tell::Line { times, left_out }
    }

    #[test]
    fn like_ones_are_counted_and_others_are_told_at_once() {
        let (mut refusals, start) = (State::default(), clock::now());
        assert_eq!(refusals.count(of(&"a"), start), line(1, 0));
        for _ in 0..1000 {
            assert_eq!(refusals.count(of(&"a"), start), Tell::Nothing);
        }
        assert_eq!(refusals.count(of(&"b"), start), line(1, 0), "a flood of one hides no other");
        assert_eq!(refusals.count(of(&"a"), start + TELL_EVERY), line(1001, 0));
    }

    #[test]
    fn a_flood_of_many_has_some_lines_a_minute_and_the_rest_is_counted() {
        let (mut refusals, start) = (State::default(), clock::now());
        let told = |refusals: &mut State, at: Instant, from: u32| {
            (from..from + 5000).filter(|n| refusals.count(of(n), at) != Tell::Nothing).count()
        };
        assert_eq!(told(&mut refusals, start, 0), 200);
        assert_eq!(refusals.count(of(&"b"), start + TELL_EVERY), line(1, 4800));
        for minute in 2..60 {
            assert_eq!(told(&mut refusals, start + TELL_EVERY * minute, 0), 200);
        }
        assert!(refusals.known.len() <= KNOWN_MAX);
    }

    #[test]
    fn one_who_tries_everything_hides_nobody() {
        let (mut refusals, start) = (State::default(), clock::now());
        let methods: Vec<&'static str> = crate::access::METHODS.iter().map(|m| m.path).collect();
        let tried = |method: &&'static str| {
            refusals.count(("mallory".to_owned(), method), start) != Tell::Nothing
        };
        assert_eq!(methods.iter().copied().filter(tried).count(), 10);
        assert!(methods.len() > 40);
        assert_eq!(refusals.count(of(&"bob"), start), line(1, methods.len() as u64 - 10));
    }
}
