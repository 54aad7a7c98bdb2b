//! The chain of the trail: each event bears a hash over itself and over the hash of the one before it. So whoever
//! changes, takes out or puts in an event has to change all that follow, also where they were exported to.

use std::collections::BTreeMap;

use crate::{Event, Hash};

/// What stands for the hash of the event before, where there is none or it has none.
const BEFORE_ALL: Hash = Hash([0; 32]);

impl Event {
    /// Its hash, after an event with the hash `before`: SHA-256 of these, joined by line feeds, in UTF-8: `before` (64
    /// hexadecimal digits; zeros = none), number, time in milliseconds since 1970, actor, action, session, user,
    /// agent (each of these three may be empty), detail. No field has a line feed.
    #[must_use]
    pub fn link(&self, before: Option<Hash>) -> Hash {
        fn text(value: Option<&impl ToString>) -> String {
            value.map(ToString::to_string).unwrap_or_default()
        }
        let lines = [
            before.unwrap_or(BEFORE_ALL).to_string(),
            self.number.to_string(),
            self.at.0.to_string(),
            self.actor.clone(),
            self.action.clone(),
            text(self.session.as_ref()),
            text(self.user.as_ref()),
            text(self.agent.as_ref()),
            self.detail.clone(),
        ];
        Hash::of(lines.join("\n").as_bytes())
    }
}

/// Why events are not the trail that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// There are none between these.
    #[error("events {first} to {last} are missing")]
    Missing {
        /// The first of them.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Its hash is not over what it says and the event before it.
    #[error("event {0}, or the one before it, is not as it was recorded")]
    Changed(u64),
    /// Another event has its number.
    #[error("event {0} is there twice, and not the same")]
    Twice(u64),
    /// It comes after later ones, and was not there before them.
    #[error("event {0} comes after later ones")]
    Order(u64),
    /// It has no hash, and the one before it has.
    #[error("event {0} has no hash: an older vsmserver recorded it, or it was put in")]
    Unchained(u64),
}

/// What is kept of an event.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its own hash, as it says.
    own: Option<Hash>,
    /// Over what it says, after no other: the same event again has the same.
    text: Hash,
}

/// Goes through events, oldest first, and looks whether their chain is whole. Events may come again, as they do where
/// both nodes write theirs to one place.
#[derive(Debug, Default)]
pub struct Walk {
    /// By number.
    known: BTreeMap<u64, Known>,
    /// Tables, each of which begins anew with event 1.
    pub lives: u64,
    /// Different events, of all lives.
    pub events: u64,
    /// Those without a hash.
    pub unchained: u64,
}

impl Walk {
    /// The last event so far, and its hash.
    #[must_use]
    pub fn last(&self) -> Option<(u64, Option<Hash>)> {
        self.known.last_key_value().map(|(number, known)| (*number, known.own))
    }

    /// The first event of this life.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.known.first_key_value().map(|(number, _)| *number)
    }

    /// The next event. After one that is broken it goes on as if that one were right.
    ///
    /// # Errors
    /// What is wrong.
    pub fn next(&mut self, event: &Event) -> Result<(), Broken> {
        let number = event.number;
        let text = event.link(None);
        if let Some(known) = self.known.get(&number) {
            if (known.own, known.text) == (event.chain, text) {
                return Ok(());
            }
            if number != 1 || event.chain != Some(text) {
                return Err(Broken::Twice(number));
            }
            // Another table, from its beginning on.
            self.known.clear();
        }
        let last = self.last();
        if last.is_some_and(|(last, _)| number < last) {
            return self.fill(number, event, text);
        }
        self.lives += u64::from(last.is_none());
        self.events += 1;
        self.unchained += u64::from(event.chain.is_none());
        let next = last.map_or(1, |(last, _)| last + 1);
        let before = last.filter(|_| number == next).and_then(|(_, own)| own);
        self.known.insert(number, Known { own: event.chain, text });
        match last {
            _ if number == next => judge(event, before),
            Some(_) => Err(Broken::Missing { first: next, last: number - 1 }),
            // What was before the first one is not known.
            None => Ok(()),
        }
    }

    /// One that was missing, after the one before it.
    fn fill(&mut self, number: u64, event: &Event, text: Hash) -> Result<(), Broken> {
        let Some(before) = number.checked_sub(1).and_then(|before| self.known.get(&before)) else {
            return Err(Broken::Order(number));
        };
        let judged = judge(event, before.own);
        self.events += 1;
        self.unchained += u64::from(event.chain.is_none());
        self.known.insert(number, Known { own: event.chain, text });
        judged
    }
}

/// Whether an event has the hash that it has to have after one with the hash `before`.
fn judge(event: &Event, before: Option<Hash>) -> Result<(), Broken> {
    match event.chain {
        Some(own) if own == event.link(before) => Ok(()),
        Some(_) => Err(Broken::Changed(event.number)),
        None if before.is_some() => Err(Broken::Unchained(event.number)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Proposal, Table, UnixMillis};

    fn note(detail: &str) -> Event {
        Event {
            number: 0,
            at: UnixMillis(1_700_000_000_000),
            actor: "root".to_owned(),
            action: "agent-drained".to_owned(),
            session: None,
            user: Some("ann".parse().unwrap()),
            agent: None,
            detail: detail.to_owned(),
            chain: None,
        }
    }

    /// As a table records them.
    fn events(count: u64) -> Vec<Event> {
        let mut table = Table::default();
        for n in 0..count {
            let change = table.check(Proposal::Note(note(&n.to_string()))).unwrap();
            table.apply(&change);
        }
        table.events_after(0).map(|event| Event::clone(event)).collect()
    }

    fn walk<'a>(events: impl IntoIterator<Item = &'a Event>) -> (Walk, Vec<Broken>) {
        let mut walk = Walk::default();
        let broken = events.into_iter().filter_map(|event| walk.next(event).err()).collect();
        (walk, broken)
    }

    #[test]
    fn a_trail_as_it_was_recorded_is_whole() {
        let all = events(20);
        let (seen, broken) = walk(&all);
        assert_eq!(broken, []);
        assert_eq!((seen.events, seen.lives, seen.unchained), (20, 1, 0));
        assert_eq!(seen.last(), Some((20, all[19].chain)));
        // A ring that has lost its beginning, and what comes again.
        assert_eq!(walk(all[7..].iter().chain(&all[7..12]).chain(&all[12..])).1, []);
        // What is missing is told once, also where it comes later.
        let late = walk(all[..5].iter().chain(&all[9..]).chain(&all));
        assert_eq!(late.1, [Broken::Missing { first: 6, last: 9 }]);
        assert_eq!(late.0.events, 20);
        // Another table follows.
        let mut other = note("another table");
        other.number = 1;
        other.chain = Some(other.link(None));
        let (seen, broken) = walk(all.iter().chain([&other]));
        assert_eq!((seen.lives, seen.events, broken), (2, 21, Vec::new()));
    }

    #[test]
    fn what_was_changed_taken_out_or_put_in_is_found() {
        let all = events(20);
        let with = |change: &dyn Fn(&mut Vec<Event>)| {
            let mut all = all.clone();
            change(&mut all);
            walk(&all).1
        };
        assert_eq!(with(&|all| all[4].detail.push('x')), [Broken::Changed(5)]);
        assert_eq!(with(&|all| all[4].at = UnixMillis(1)), [Broken::Changed(5)]);
        assert_eq!(with(&|all| all[4].user = None), [Broken::Changed(5)]);
        let one = Broken::Missing { first: 5, last: 5 };
        assert_eq!(with(&|all| drop(all.remove(4))), [one]);
        assert_eq!(with(&|all| all.insert(4, note("put in"))), [Broken::Order(0)]);
        assert_eq!(with(&|all| all[4].chain = None), [Broken::Unchained(5), Broken::Changed(6)]);
        // With a hash that fits: the next one tells.
        let forged = with(&|all| {
            all[4].detail = "nothing".to_owned();
            all[4].chain = Some(all[4].link(all[3].chain));
        });
        assert_eq!(forged, [Broken::Changed(6)]);
        let twice = with(&|all| {
            let mut other = all[4].clone();
            other.detail.push('x');
            all.push(other);
        });
        assert_eq!(twice, [Broken::Twice(5)]);
    }

    /// So that others can compute it.
    #[test]
    fn the_hash_is_over_the_lines_that_the_documents_name() {
        let event = Event { number: 7, ..note("new kernel") };
        let lines = "0000000000000000000000000000000000000000000000000000000000000000\n7\n1700000000000\nroot\n\
                     agent-drained\n\nann\n\nnew kernel";
        assert_eq!(event.link(None), Hash::of(lines.as_bytes()));
    }
}
