//! Conversions of what replicas say: to the peer, and to the witnesses.
//!
//! A position, or a promise, before everything has no epoch in a message.
//!
//! What is taken here keeps the replica's own rules: positions follow each other without a gap, no entry is of a later
//! reign than the message that brings it, and no number is so high that nothing could follow it.

mod peer;
mod witness;

use vsm_core::{
    AgentName, Change, Epoch, Event, Lsn, Row, Session, UnixMillis,
    replica::{Entry, History, Holds},
};

use crate::{
    convert::{Invalid, required, text},
    session::v1 as session,
    sync::v1 as pb,
};

pub use witness::Keeping;

/// Most epochs in a message: a replica keeps 128.
const HISTORY_MAX: usize = 1024;
/// Highest number of a position: what a store can keep, and no sum of it overflows.
const SEQ_MAX: u64 = i64::MAX.unsigned_abs();

fn epoch(field: &'static str, epoch: Option<session::Epoch>) -> Result<Epoch, Invalid> {
    required(field, epoch)?.try_into()
}

/// An epoch that may be below all.
///
/// # Errors
/// If its node is no name.
pub fn epoch_or_zero(epoch: Option<session::Epoch>) -> Result<Epoch, Invalid> {
    epoch.map_or_else(|| Ok(Epoch::zero()), TryInto::try_into)
}

/// The message of an epoch; none = below all.
#[must_use]
pub fn epoch_message(epoch: &Epoch) -> Option<session::Epoch> {
    (*epoch != Epoch::zero()).then(|| epoch.into())
}

fn position(field: &'static str, lsn: Option<pb::Lsn>) -> Result<Lsn, Invalid> {
    required(field, lsn)?.try_into()
}

fn seq(field: &'static str, seq: u64) -> Result<u64, Invalid> {
    if seq > SEQ_MAX {
        return Err(Invalid { field, why: format!("{seq} is above every number of a change") });
    }
    Ok(seq)
}

impl TryFrom<pb::Lsn> for Lsn {
    type Error = Invalid;

    fn try_from(lsn: pb::Lsn) -> Result<Self, Invalid> {
        Ok(Self { epoch: epoch_or_zero(lsn.epoch)?, seq: seq("seq", lsn.seq)? })
    }
}

impl From<&Lsn> for pb::Lsn {
    fn from(lsn: &Lsn) -> Self {
        Self { epoch: epoch_message(&lsn.epoch), seq: lsn.seq }
    }
}

impl TryFrom<pb::Entry> for Entry {
    type Error = Invalid;

    fn try_from(entry: pb::Entry) -> Result<Self, Invalid> {
        let (epoch, seq) = (epoch("entry.epoch", entry.epoch)?, seq("entry.seq", entry.seq)?);
        let lsn = Lsn { epoch, seq };
        let change = Change::try_from(required("entry.change", entry.change)?)?;
        Ok(Self { lsn, change })
    }
}

impl From<&Entry> for pb::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            epoch: Some((&entry.lsn.epoch).into()),
            seq: entry.lsn.seq,
            change: Some((&entry.change).into()),
        }
    }
}

/// Nothing in a log is of a later reign than the one that the message speaks for.
fn not_above(field: &'static str, epoch: &Epoch, last: &Lsn) -> Result<(), Invalid> {
    if last.epoch > *epoch {
        return Err(Invalid { field, why: format!("{last} is of a reign above {epoch}") });
    }
    Ok(())
}

/// Entries that follow a position without a gap.
fn entries(prev: &Lsn, list: Vec<pb::Entry>) -> Result<Vec<Entry>, Invalid> {
    let mut last = prev.clone();
    let mut entries = Vec::with_capacity(list.len());
    for entry in list {
        let entry = Entry::try_from(entry)?;
        if entry.lsn.seq != last.seq + 1 || entry.lsn.epoch < last.epoch {
            let why = format!("{} does not follow {last}", entry.lsn);
            return Err(Invalid { field: "entries", why });
        }
        last = entry.lsn.clone();
        entries.push(entry);
    }
    Ok(entries)
}

fn entry_messages(entries: &[Entry]) -> Vec<pb::Entry> {
    entries.iter().map(Into::into).collect()
}

fn history(list: Vec<pb::Reign>) -> Result<History, Invalid> {
    if list.len() > HISTORY_MAX {
        return Err(Invalid { field: "history", why: format!("has more than {HISTORY_MAX}") });
    }
    let history: History = list
        .into_iter()
        .map(|reign| {
            Ok((epoch("history.epoch", reign.epoch)?, seq("history.first_seq", reign.first_seq)?))
        })
        .collect::<Result<_, Invalid>>()?;
    if history.windows(2).any(|pair| pair[0].0 >= pair[1].0 || pair[0].1 >= pair[1].1) {
        return Err(Invalid { field: "history", why: "is not in order".into() });
    }
    Ok(history)
}

fn history_messages(history: &History) -> Vec<pb::Reign> {
    history
        .iter()
        .map(|(epoch, first)| pb::Reign { epoch: Some(epoch.into()), first_seq: *first })
        .collect()
}

impl TryFrom<pb::Row> for Row {
    type Error = Invalid;

    fn try_from(row: pb::Row) -> Result<Self, Invalid> {
        use pb::row::Kind;
        Ok(match required("row.kind", row.kind)? {
            Kind::Session(row) => {
                let id = text("row.id", &row.id)?;
                let session = row.session.map(Session::try_from).transpose()?;
                if session.as_ref().is_some_and(|session| session.id != id) {
                    return Err(Invalid { field: "row.session", why: "has another id".into() });
                }
                let tombstone = row
                    .tombstone
                    .map(|stone| {
                        let agent = text::<AgentName>("row.tombstone.agent", &stone.agent)?;
                        Ok::<_, Invalid>((agent, UnixMillis(stone.at_unix_ms)))
                    })
                    .transpose()?;
                Self::Session { id, session: session.map(Into::into), tombstone }
            }
            Kind::Agent(mark) => Self::Agent {
                agent: text("row.agent", &mark.agent)?,
                failed: UnixMillis(mark.at_unix_ms),
            },
            Kind::Roster(roster) => {
                let agents = roster.witnesses.iter().map(|agent| text("row.roster", agent));
                Self::Roster(agents.collect::<Result<_, _>>()?)
            }
            Kind::Drain(drained) => {
                let (agent, mark) = drained.try_into()?;
                Self::Drain { agent, mark }
            }
            Kind::Event(event) => Self::Event(Event::try_from(event)?.into()),
            Kind::Identity(identity) => {
                let (name, known) = identity.try_into()?;
                Self::Identity { name, known }
            }
            Kind::WebKeys(keys) => {
                let (user, keys) = keys.try_into()?;
                Self::WebKeys { user, keys }
            }
        })
    }
}

impl From<&Row> for pb::Row {
    fn from(row: &Row) -> Self {
        use pb::row::Kind;
        let kind = match row {
            Row::Session { id, session, tombstone } => Kind::Session(pb::SessionRow {
                id: id.to_string(),
                session: session.as_deref().map(Into::into),
                tombstone: tombstone.as_ref().map(|(agent, at)| pb::Tombstone {
                    id: id.to_string(),
                    agent: agent.to_string(),
                    at_unix_ms: at.0,
                }),
            }),
            Row::Agent { agent, failed } => {
                Kind::Agent(pb::AgentFailed { agent: agent.to_string(), at_unix_ms: failed.0 })
            }
            Row::Roster(agents) => Kind::Roster(pb::Roster {
                witnesses: agents.iter().map(ToString::to_string).collect(),
            }),
            Row::Drain { agent, mark } => Kind::Drain((agent, mark.as_deref()).into()),
            Row::Event(event) => Kind::Event(event.as_ref().into()),
            Row::Identity { name, known } => Kind::Identity((name, known.as_ref()).into()),
            Row::WebKeys { user, keys } => Kind::WebKeys((user, keys.as_ref()).into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::Holds> for Holds {
    type Error = Invalid;

    fn try_from(holds: pb::Holds) -> Result<Self, Invalid> {
        Ok(Self {
            joined: holds.joined,
            paired: holds.paired,
            last: position("holds.last", holds.last)?,
            history: history(holds.history)?,
            reach: holds.reach,
        })
    }
}

impl From<&Holds> for pb::Holds {
    fn from(holds: &Holds) -> Self {
        Self {
            joined: holds.joined,
            paired: holds.paired,
            last: Some((&holds.last).into()),
            history: history_messages(&holds.history),
            reach: holds.reach,
        }
    }
}
