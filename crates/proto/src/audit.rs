//! The trail of events and the marks of drained agents, to and from their messages.

use std::sync::Arc;

use vsm_core::{AgentName, Drain, Event, Hash, UnixMillis};

use crate::{
    convert::{Invalid, bounded, text},
    sync::v1 as pb,
};

/// Highest number of an event: what a store can keep, and no sum of it overflows.
const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();

impl TryFrom<pb::Drained> for (AgentName, Option<Arc<Drain>>) {
    type Error = Invalid;

    fn try_from(drained: pb::Drained) -> Result<Self, Invalid> {
        let agent = text("drained.agent", &drained.agent)?;
        let mark = drained.mark.map(Drain::try_from).transpose()?;
        Ok((agent, mark.map(Arc::new)))
    }
}

impl From<(&AgentName, Option<&Drain>)> for pb::Drained {
    fn from((agent, mark): (&AgentName, Option<&Drain>)) -> Self {
        Self { agent: agent.to_string(), mark: mark.map(Into::into) }
    }
}

impl TryFrom<pb::Drain> for Drain {
    type Error = Invalid;

    fn try_from(drain: pb::Drain) -> Result<Self, Invalid> {
        Ok(Self {
            by: bounded("drain.by", drain.by)?,
            why: bounded("drain.why", drain.why)?,
            since: UnixMillis(drain.since_unix_ms),
            until: Some(drain.until_unix_ms).filter(|until| *until != 0).map(UnixMillis),
        })
    }
}

impl From<&Drain> for pb::Drain {
    fn from(drain: &Drain) -> Self {
        Self {
            by: drain.by.clone(),
            why: drain.why.clone(),
            since_unix_ms: drain.since.0,
            until_unix_ms: drain.until.map_or(0, |until| until.0),
        }
    }
}

impl TryFrom<pb::Event> for Event {
    type Error = Invalid;

    fn try_from(event: pb::Event) -> Result<Self, Invalid> {
        if event.number > NUMBER_MAX {
            return Err(Invalid::new("event.number", format!("{} is out of range", event.number)));
        }
        Ok(Self {
            number: event.number,
            at: UnixMillis(event.at_unix_ms),
            actor: bounded("event.actor", event.actor)?,
            action: bounded("event.action", event.action)?,
            session: optional("event.session", &event.session)?,
            user: optional("event.user", &event.user)?,
            agent: optional("event.agent", &event.agent)?,
            detail: bounded("event.detail", event.detail)?,
            chain: chain(&event.chain)?,
        })
    }
}

impl From<&Event> for pb::Event {
    fn from(event: &Event) -> Self {
        fn optional(value: Option<&impl ToString>) -> String {
            value.map(ToString::to_string).unwrap_or_default()
        }
        Self {
            number: event.number,
            at_unix_ms: event.at.0,
            actor: event.actor.clone(),
            action: event.action.clone(),
            session: optional(event.session.as_ref()),
            user: optional(event.user.as_ref()),
            agent: optional(event.agent.as_ref()),
            detail: event.detail.clone(),
            chain: event.chain.map_or_else(Vec::new, |hash| hash.0.to_vec()),
        }
    }
}

fn chain(bytes: &[u8]) -> Result<Option<Hash>, Invalid> {
    let hash = (!bytes.is_empty()).then(|| Hash::of_bytes(bytes)).transpose();
    hash.map_err(|error| Invalid::new("event.chain", error.to_string()))
}

fn optional<T: std::str::FromStr<Err: ToString>>(
    field: &'static str,
    value: &str,
) -> Result<Option<T>, Invalid> {
    if value.is_empty() { Ok(None) } else { text(field, value).map(Some) }
}
