//! Conversions of what replicas say: to the peer, and to the witnesses.
//!
//! A position, or a promise, before everything has no epoch in a message.

use vsm_core::{
    AgentName, Change, Epoch, Key, LineageId, Lsn, Row, Session, UnixMillis,
    replica::{
        Entry, Hello, History, Holds, Image, PeerMsg, Supply, Window, Witness, WitnessMsg,
        WitnessReply,
    },
};

use crate::{
    convert::{Invalid, required, text},
    session::v1 as session,
    sync::v1 as pb,
};

/// Most epochs in a message: a replica keeps 128.
const HISTORY_MAX: usize = 1024;

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

impl TryFrom<pb::Lsn> for Lsn {
    type Error = Invalid;

    fn try_from(lsn: pb::Lsn) -> Result<Self, Invalid> {
        Ok(Self { epoch: epoch_or_zero(lsn.epoch)?, seq: lsn.seq })
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
        let lsn = Lsn { epoch: epoch("entry.epoch", entry.epoch)?, seq: entry.seq };
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

/// Entries that follow a position without a gap.
fn entries(prev: &Lsn, list: Vec<pb::Entry>) -> Result<Vec<Entry>, Invalid> {
    let mut last = prev.clone();
    let mut entries = Vec::with_capacity(list.len());
    for entry in list {
        let entry = Entry::try_from(entry)?;
        if entry.lsn.seq != last.seq.saturating_add(1) || entry.lsn.epoch < last.epoch {
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
        .map(|reign| Ok((epoch("history.epoch", reign.epoch)?, reign.first_seq)))
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

impl TryFrom<pb::Image> for Image {
    type Error = Invalid;

    fn try_from(image: pb::Image) -> Result<Self, Invalid> {
        let at = position("image.at", image.at)?;
        Ok(Self {
            rows: image.rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            history: history(image.history)?,
            entries: entries(&at, image.entries)?,
            at,
        })
    }
}

impl From<&Image> for pb::Image {
    fn from(image: &Image) -> Self {
        Self {
            at: Some((&image.at).into()),
            rows: image.rows.iter().map(Into::into).collect(),
            history: history_messages(&image.history),
            entries: entry_messages(&image.entries),
        }
    }
}

impl TryFrom<pb::Supply> for Supply {
    type Error = Invalid;

    fn try_from(supply: pb::Supply) -> Result<Self, Invalid> {
        use pb::supply::Kind;
        Ok(match supply.kind {
            None => Self::Nothing,
            Some(Kind::Entries(list)) => {
                let prev = position("supply.prev", list.prev)?;
                Self::Entries { entries: entries(&prev, list.entries)?, prev }
            }
            Some(Kind::Image(image)) => Self::Image(image.try_into()?),
        })
    }
}

impl From<&Supply> for pb::Supply {
    fn from(supply: &Supply) -> Self {
        use pb::supply::Kind;
        let kind = match supply {
            Supply::Nothing => None,
            Supply::Entries { prev, entries } => Some(Kind::Entries(pb::Entries {
                prev: Some(prev.into()),
                entries: entry_messages(entries),
            })),
            Supply::Image(image) => Some(Kind::Image(image.into())),
        };
        Self { kind }
    }
}

impl TryFrom<pb::PeerMessage> for PeerMsg {
    type Error = Invalid;

    fn try_from(message: pb::PeerMessage) -> Result<Self, Invalid> {
        use pb::peer_message::Kind;
        let holds = |holds: Option<pb::Holds>| Holds::try_from(required("holds", holds)?);
        Ok(match required("message.kind", message.kind)? {
            Kind::Hello(hello) => Self::Hello(Hello {
                holds: holds(hello.holds)?,
                promised: epoch_or_zero(hello.promised)?,
                active: hello.active.map(TryInto::try_into).transpose()?,
            }),
            Kind::Claim(claim) => {
                Self::Claim { epoch: epoch("epoch", claim.epoch)?, holds: holds(claim.holds)? }
            }
            Kind::Promise(promise) => Self::Promise {
                epoch: epoch("epoch", promise.epoch)?,
                holds: holds(promise.holds)?,
                supply: required("supply", promise.supply)?.try_into()?,
            },
            Kind::Wish(wish) => Self::Wish { planned: wish.planned },
            Kind::Yield(it) => Self::Yield { epoch: epoch("epoch", it.epoch)? },
            Kind::Append(append) => {
                let prev = position("prev", append.prev)?;
                Self::Append {
                    epoch: epoch("epoch", append.epoch)?,
                    entries: entries(&prev, append.entries)?,
                    prev,
                    commit: append.commit,
                }
            }
            Kind::Snapshot(snapshot) => Self::Snapshot {
                epoch: epoch("epoch", snapshot.epoch)?,
                image: required("image", snapshot.image)?.try_into()?,
            },
            Kind::Ack(ack) => Self::Ack { epoch: epoch("epoch", ack.epoch)?, last: ack.last },
            Kind::Behind(behind) => {
                Self::Behind { epoch: epoch("epoch", behind.epoch)?, holds: holds(behind.holds)? }
            }
            Kind::Stale(stale) => Self::Stale { promised: epoch("promised", stale.promised)? },
        })
    }
}

impl From<&PeerMsg> for pb::PeerMessage {
    fn from(message: &PeerMsg) -> Self {
        use pb::peer_message::Kind;
        let some = |epoch: &Epoch| Some(epoch.into());
        let kind = match message {
            PeerMsg::Hello(hello) => Kind::Hello(pb::Hello {
                holds: Some((&hello.holds).into()),
                promised: epoch_message(&hello.promised),
                active: hello.active.as_ref().map(Into::into),
            }),
            PeerMsg::Claim { epoch, holds } => {
                Kind::Claim(pb::Claim { epoch: some(epoch), holds: Some(holds.into()) })
            }
            PeerMsg::Promise { epoch, holds, supply } => Kind::Promise(pb::Promise {
                epoch: some(epoch),
                holds: Some(holds.into()),
                supply: Some(supply.into()),
            }),
            PeerMsg::Wish { planned } => Kind::Wish(pb::Wish { planned: *planned }),
            PeerMsg::Yield { epoch } => Kind::Yield(pb::Yield { epoch: some(epoch) }),
            PeerMsg::Append { epoch, prev, entries, commit } => Kind::Append(pb::Append {
                epoch: some(epoch),
                prev: Some(prev.into()),
                entries: entry_messages(entries),
                commit: *commit,
            }),
            PeerMsg::Snapshot { epoch, image } => {
                Kind::Snapshot(pb::Snapshot { epoch: some(epoch), image: Some(image.into()) })
            }
            PeerMsg::Ack { epoch, last } => Kind::Ack(pb::Ack { epoch: some(epoch), last: *last }),
            PeerMsg::Behind { epoch, holds } => {
                Kind::Behind(pb::Behind { epoch: some(epoch), holds: Some(holds.into()) })
            }
            PeerMsg::Stale { promised } => Kind::Stale(pb::Stale { promised: some(promised) }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::Window> for Window {
    type Error = Invalid;

    fn try_from(window: pb::Window) -> Result<Self, Invalid> {
        let row = |row: pb::Row| {
            let row = Row::try_from(row)?;
            Ok::<(Key, Row), Invalid>((row.key(), row))
        };
        Ok(Self {
            base: position("window.base", window.base)?,
            last: position("window.last", window.last)?,
            rows: window.rows.into_iter().map(row).collect::<Result<_, _>>()?,
            history: history(window.history)?,
        })
    }
}

impl From<&Window> for pb::Window {
    fn from(window: &Window) -> Self {
        Self {
            base: Some((&window.base).into()),
            last: Some((&window.last).into()),
            rows: window.rows.values().map(Into::into).collect(),
            history: history_messages(&window.history),
        }
    }
}

impl TryFrom<pb::WitnessRequest> for WitnessMsg {
    type Error = Invalid;

    fn try_from(request: pb::WitnessRequest) -> Result<Self, Invalid> {
        use pb::witness_request::Kind;
        let epoch = epoch("epoch", request.epoch)?;
        Ok(match required("kind", request.kind)? {
            Kind::Claim(_) => Self::Claim { epoch },
            Kind::Accept(accept) => Self::Accept {
                epoch,
                prev: accept.prev.map(TryInto::try_into).transpose()?,
                window: required("accept.window", accept.window)?.try_into()?,
            },
            Kind::Clear(clear) => Self::Clear { epoch, at: position("clear.at", clear.at)? },
        })
    }
}

/// The message of a request; the lineage is for the caller to set.
impl From<&WitnessMsg> for pb::WitnessRequest {
    fn from(message: &WitnessMsg) -> Self {
        use pb::witness_request::Kind;
        let (epoch, kind) = match message {
            WitnessMsg::Claim { epoch } => (epoch, Kind::Claim(pb::WitnessClaim {})),
            WitnessMsg::Accept { epoch, prev, window } => {
                let prev = prev.as_ref().map(Into::into);
                (epoch, Kind::Accept(pb::WitnessAccept { prev, window: Some(window.into()) }))
            }
            WitnessMsg::Clear { epoch, at } => {
                (epoch, Kind::Clear(pb::WitnessClear { at: Some(at.into()) }))
            }
        };
        Self { lineage: String::new(), epoch: Some(epoch.into()), kind: Some(kind) }
    }
}

impl TryFrom<pb::WitnessResponse> for WitnessReply {
    type Error = Invalid;

    fn try_from(response: pb::WitnessResponse) -> Result<Self, Invalid> {
        use pb::witness_response::Kind;
        let own = || epoch("epoch", response.epoch.clone());
        Ok(match required("kind", response.kind)? {
            Kind::Promised(promised) => Self::Promised {
                epoch: own()?,
                window: promised.window.map(TryInto::try_into).transpose()?,
            },
            Kind::Accepted(accepted) => {
                Self::Accepted { epoch: own()?, last: position("accepted.last", accepted.last)? }
            }
            Kind::Gap(_) => Self::Gap { epoch: own()? },
            Kind::Cleared(_) => Self::Cleared { epoch: own()? },
            Kind::Refused(refused) => {
                Self::Refused { promised: epoch("refused.promised", refused.promised)? }
            }
        })
    }
}

impl From<&WitnessReply> for pb::WitnessResponse {
    fn from(reply: &WitnessReply) -> Self {
        use pb::witness_response::Kind;
        let (epoch, kind) = match reply {
            WitnessReply::Promised { epoch, window } => {
                let window = window.as_ref().map(Into::into);
                (Some(epoch), Kind::Promised(pb::WitnessPromised { window }))
            }
            WitnessReply::Accepted { epoch, last } => {
                (Some(epoch), Kind::Accepted(pb::WitnessAccepted { last: Some(last.into()) }))
            }
            WitnessReply::Gap { epoch } => (Some(epoch), Kind::Gap(pb::WitnessGap {})),
            WitnessReply::Cleared { epoch } => (Some(epoch), Kind::Cleared(pb::WitnessCleared {})),
            WitnessReply::Refused { promised } => {
                (None, Kind::Refused(pb::WitnessRefused { promised: Some(promised.into()) }))
            }
        };
        Self { epoch: epoch.map(Into::into), kind: Some(kind), journal: 0 }
    }
}

/// A witness with the rest of what an agent keeps: the lineage, and how many records there ever were.
///
/// # Errors
/// If a part is not what it should be.
pub fn witness_state(
    state: pb::WitnessState,
) -> Result<(Option<LineageId>, Witness, u64), Invalid> {
    let lineage = match state.lineage.as_str() {
        "" => None,
        id => Some(text("lineage", id)?),
    };
    let kept = match (state.kept_by, state.window) {
        (Some(by), Some(window)) => Some((by.try_into()?, window.try_into()?)),
        _ => None,
    };
    let witness = Witness {
        promised: state.promised.map(TryInto::try_into).transpose()?,
        kept,
        mute: if state.mute { Some(epoch_or_zero(state.floor)?) } else { None },
    };
    Ok((lineage, witness, state.position))
}

/// The message of what an agent keeps.
#[must_use]
pub fn witness_state_message(
    lineage: Option<LineageId>,
    witness: &Witness,
    position: u64,
) -> pb::WitnessState {
    pb::WitnessState {
        lineage: lineage.map(|id| id.to_string()).unwrap_or_default(),
        promised: witness.promised.as_ref().map(Into::into),
        kept_by: witness.kept.as_ref().map(|(by, _)| by.into()),
        window: witness.kept.as_ref().map(|(_, window)| window.into()),
        mute: witness.mute.is_some(),
        floor: witness.mute.as_ref().and_then(epoch_message),
        position,
    }
}
