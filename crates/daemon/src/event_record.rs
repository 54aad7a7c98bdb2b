//! An event of the trail as it is printed and exported: one JSON object, whose fields are stable.

use serde::{Deserialize, Serialize};
use vsm_core::{Event, Hash, InvalidId, UnixMillis};

use crate::clock;

/// An event.
// A field of somebody else's would not be in the chain, and be read by people all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRecord {
    /// Counts up by one with each event of a table's life.
    pub number: u64,
    /// When, as RFC 3339 in UTC.
    pub time: Option<String>,
    /// The same in milliseconds since 1970.
    pub unix_ms: u64,
    /// Who did it.
    pub actor: String,
    /// What, as a stable word.
    pub action: String,
    /// The session that it was done to.
    pub session: Option<String>,
    /// The user whom it concerns.
    pub user: Option<String>,
    /// The agent that it concerns.
    pub agent: Option<String>,
    /// Why, or the outcome.
    pub detail: String,
    /// [`Event::link`] in hexadecimal digits.
    pub chain: Option<String>,
}

impl From<&Event> for EventRecord {
    fn from(event: &Event) -> Self {
        Self {
            number: event.number,
            time: clock::exact(event.at),
            unix_ms: event.at.0,
            actor: event.actor.clone(),
            action: event.action.clone(),
            session: event.session.map(|id| id.to_string()),
            user: event.user.as_ref().map(ToString::to_string),
            agent: event.agent.as_ref().map(ToString::to_string),
            detail: event.detail.clone(),
            chain: event.chain.map(|hash| hash.to_string()),
        }
    }
}

/// Why a record is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEvent {
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// Its two times differ.
    #[error("its time and unix_ms are not the same moment")]
    Time,
    /// A value is not written as it was recorded.
    #[error("an id or its chain is spelled otherwise than vsmserver does")]
    Spelling,
}

impl TryFrom<EventRecord> for Event {
    type Error = NoEvent;

    fn try_from(record: EventRecord) -> Result<Self, NoEvent> {
        fn name<T: std::str::FromStr<Err = InvalidId>>(
            text: Option<&String>,
        ) -> Result<Option<T>, NoEvent> {
            Ok(text.map(|text| text.parse()).transpose()?)
        }
        let at = UnixMillis(record.unix_ms);
        // Only one of them is in the chain, and people read the other.
        if clock::exact(at) != record.time {
            return Err(NoEvent::Time);
        }
        let event = Self {
            number: record.number,
            at,
            session: name(record.session.as_ref())?,
            user: name(record.user.as_ref())?,
            agent: name(record.agent.as_ref())?,
            chain: name::<Hash>(record.chain.as_ref())?,
            actor: record.actor.clone(),
            action: record.action.clone(),
            detail: record.detail.clone(),
        };
        if EventRecord::from(&event) == record { Ok(event) } else { Err(NoEvent::Spelling) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_event() {
        let event = Event {
            number: 7,
            at: UnixMillis(1_700_000_000_123),
            actor: "root".to_owned(),
            action: "agent-drained".to_owned(),
            session: Some("01a22bc6-4acd-725a-bcb4-4a1e0e7bc4f8".parse().unwrap()),
            user: Some("ann".parse().unwrap()),
            agent: Some("lab7".parse().unwrap()),
            detail: "new kernel".to_owned(),
            chain: Some(Hash([7; 32])),
        };
        let record = EventRecord::from(&event);
        assert_eq!(record.time.as_deref(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(Event::try_from(record.clone()), Ok(event));
        let other = |from: &str, to: &str| {
            let line = serde_json::to_string(&record).unwrap().replace(from, to);
            serde_json::from_str::<EventRecord>(&line).map(|record| Event::try_from(record).err())
        };
        assert_eq!(other("01a22bc6", "01A22BC6").unwrap(), Some(NoEvent::Spelling));
        assert!(other("{", "{\"approved\":true,").is_err(), "what is not in the chain");
        let earlier = EventRecord { time: Some("2023-11-14T22:13:20.122Z".to_owned()), ..record };
        assert_eq!(Event::try_from(earlier), Err(NoEvent::Time));
    }
}
