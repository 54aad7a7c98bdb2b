//! An exported trail, as somebody may have changed it: lines of JSON.
//!
//! The first byte says which line of a good trail is put in front of the input, so that it has something to fit to.

use vsm_core::{Event, UnixMillis, Walk};
use vsm_daemon::event_record::EventRecord;

/// Events before the input, at most.
const BEFORE_MAX: u8 = 4;

pub(crate) fn run(bytes: &[u8]) {
    let Some((before, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut walk = Walk::default();
    for event in good(before % (BEFORE_MAX + 1)) {
        assert_eq!(walk.next(&event), Ok(()), "a good trail is whole");
    }
    let mut seen = walk.events;
    for line in text.lines() {
        let Ok(record) = serde_json::from_str::<EventRecord>(line) else { continue };
        let Ok(event) = Event::try_from(record.clone()) else { continue };
        assert_eq!(EventRecord::from(&event), record, "it is printed as it was read");
        let (last, lives) = (walk.last(), walk.lives);
        let is_next = last.is_none_or(|(last, _)| last.checked_add(1) == Some(event.number));
        let fits = event.chain == Some(event.link(last.and_then(|(_, own)| own)));
        let told = walk.next(&event);
        if is_next && last.is_some() {
            assert!(!fits || told.is_ok(), "what follows is whole: {told:?}");
        }
        if told.is_ok() && is_next && last.is_some() && event.chain.is_some() {
            assert!(fits, "{event:?} was taken after {last:?}");
        }
        assert!(walk.lives >= lives && walk.events >= seen && walk.unchained <= walk.events);
        seen = walk.events;
        // The same again is no news, and nothing is forgotten by it.
        if told.is_ok() {
            assert_eq!((walk.next(&event), walk.events), (Ok(()), seen));
        }
    }
    assert!(walk.first() <= walk.last().map(|(last, _)| last));
}

/// The beginning of a trail.
fn good(count: u8) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    for number in 1..=u64::from(count) {
        let mut event = Event {
            number,
            at: UnixMillis(1_700_000_000_000 + number),
            actor: "root".to_owned(),
            action: "agent-drained".to_owned(),
            session: None,
            user: None,
            agent: "lab7".parse().ok(),
            detail: format!("for the {number}th time"),
            chain: None,
        };
        event.chain = Some(event.link(all.last().and_then(|before| before.chain)));
        all.push(event);
    }
    all
}
