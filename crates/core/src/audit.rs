//! What administrators do and what becomes of sessions, as a trail: who did what when, and why.
//!
//! The trail is part of the table, a ring of the last [`EVENTS_MAX`]: so it is on both brokers, survives whatever the
//! table survives, and is never larger than the ring. What is older is in the journal of the node that did it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{AgentName, Hash, SessionId, UnixMillis, UserName, printable};

/// Events that are kept. About 2 MiB in memory; a node that joins is sent them with the table.
pub const EVENTS_MAX: u64 = 8192;

/// Something that was done or that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts up by one with each event of a table's life; 0 in an event that is not recorded yet.
    pub number: u64,
    /// When, by the recording node's clock.
    pub at: UnixMillis,
    /// Who did it: a login name, `agent NAME` or `vsmserver`.
    pub actor: String,
    /// What, as a stable word such as `session-started`; docs/json.md lists them. One that this version does not know
    /// is kept and shown.
    pub action: String,
    /// The session that it was done to.
    pub session: Option<SessionId>,
    /// The user whom it concerns.
    pub user: Option<UserName>,
    /// The agent that it concerns.
    pub agent: Option<AgentName>,
    /// One line for people: why, or the outcome.
    pub detail: String,
    /// [`Event::link`], as it was recorded; none = by a version that knew none, or not recorded yet.
    pub chain: Option<Hash>,
}

impl Event {
    /// Its place in the ring.
    #[must_use]
    pub const fn slot(&self) -> u64 {
        self.number % EVENTS_MAX
    }
}

/// That an agent takes no new sessions, by an administrator's word at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Who said so.
    pub by: String,
    /// Why, in their words; may be empty.
    pub why: String,
    /// Since when.
    pub since: UnixMillis,
    /// When it ends by itself; none = when it is taken back.
    pub until: Option<UnixMillis>,
}

impl Drain {
    /// Whether it holds at this time.
    #[must_use]
    pub fn holds(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The ring of events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    slots: BTreeMap<u64, Arc<Event>>,
    last: u64,
}

impl Trail {
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn slot(&self, slot: u64) -> Option<&Arc<Event>> {
        self.slots.get(&slot)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = u64> {
        self.slots.keys().copied()
    }

    /// The event as it is recorded next: one line in each text, a number, and its place in the chain.
    pub(crate) fn next(&self, event: Event) -> Event {
        let before = self.slots.get(&(self.last % EVENTS_MAX)).and_then(|last| last.chain);
        let mut event = Event {
            number: self.last + 1,
            actor: printable(&event.actor),
            action: printable(&event.action),
            detail: printable(&event.detail),
            ..event
        };
        event.chain = Some(event.link(before));
        event
    }

    pub(crate) fn put(&mut self, event: &Arc<Event>) {
        self.last = self.last.max(event.number);
        self.slots.insert(event.slot(), Arc::clone(event));
    }

    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Arc<Event>> {
        let first = number.max(self.last.saturating_sub(EVENTS_MAX)) + 1;
        (first..=self.last).filter_map(|number| {
            self.slots.get(&(number % EVENTS_MAX)).filter(|e| e.number == number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Arc<Event> {
        Arc::new(Event {
            number,
            at: UnixMillis(number),
            actor: "root".to_owned(),
            action: "agent-drained".to_owned(),
            session: None,
            user: None,
            agent: None,
            detail: String::new(),
            chain: None,
        })
    }

    #[test]
    fn the_ring_keeps_the_last_events_in_order() {
        let mut trail = Trail::default();
        for number in 1..=EVENTS_MAX + 5 {
            trail.put(&event(number));
        }
        let all: Vec<u64> = trail.after(0).map(|event| event.number).collect();
        assert_eq!(all.first(), Some(&6));
        assert_eq!(all.last(), Some(&(EVENTS_MAX + 5)));
        assert_eq!(all.len() as u64, EVENTS_MAX);
        assert!(all.is_sorted());
        assert_eq!(trail.after(EVENTS_MAX + 4).count(), 1);
        assert_eq!(trail.after(EVENTS_MAX + 5).count(), 0);
    }

    #[test]
    fn a_drain_ends_by_itself() {
        let drain = Drain {
            by: "root".to_owned(),
            why: String::new(),
            since: UnixMillis(5),
            until: Some(UnixMillis(10)),
        };
        assert!(drain.holds(UnixMillis(9)));
        assert!(!drain.holds(UnixMillis(10)));
        assert!(Drain { until: None, ..drain }.holds(UnixMillis(u64::MAX)));
    }
}
