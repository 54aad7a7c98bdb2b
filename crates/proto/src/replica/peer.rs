//! Broker to broker: the messages of the replication protocol.

use vsm_core::{
    Epoch, Lsn,
    replica::{Entry, Hello, Holds, Image, PeerMsg, Supply},
};

use super::{
    entries, entry_messages, epoch, epoch_message, epoch_or_zero, history, history_messages,
    not_above, position, seq,
};
use crate::{
    convert::{Invalid, required},
    sync::v1 as pb,
};

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

/// The last of the entries after a position.
fn end<'a>(prev: &'a Lsn, entries: &'a [Entry]) -> &'a Lsn {
    entries.last().map_or(prev, |entry| &entry.lsn)
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
            Kind::Promise(promise) => {
                let epoch = epoch("epoch", promise.epoch)?;
                let supply = Supply::try_from(required("supply", promise.supply)?)?;
                let last = match &supply {
                    Supply::Nothing => None,
                    Supply::Entries { prev, entries } => Some(end(prev, entries)),
                    Supply::Image(image) => Some(end(&image.at, &image.entries)),
                };
                last.map_or(Ok(()), |last| not_above("entries", &epoch, last))?;
                Self::Promise { epoch, holds: holds(promise.holds)?, supply }
            }
            Kind::Wish(wish) => Self::Wish { planned: wish.planned },
            Kind::Yield(it) => Self::Yield { epoch: epoch("epoch", it.epoch)? },
            Kind::Append(append) => {
                let (epoch, prev) = (epoch("epoch", append.epoch)?, position("prev", append.prev)?);
                let entries = entries(&prev, append.entries)?;
                not_above("entries", &epoch, end(&prev, &entries))?;
                let (commit, round) = (seq("commit", append.commit)?, append.round);
                Self::Append { epoch, prev, entries, commit, round }
            }
            Kind::Snapshot(snapshot) => {
                let epoch = epoch("epoch", snapshot.epoch)?;
                let image = Image::try_from(required("image", snapshot.image)?)?;
                not_above("entries", &epoch, end(&image.at, &image.entries))?;
                Self::Snapshot { epoch, image }
            }
            Kind::Ack(ack) => {
                let last = seq("last", ack.last)?;
                Self::Ack { epoch: epoch("epoch", ack.epoch)?, last, round: ack.round }
            }
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
            PeerMsg::Append { epoch, prev, entries, commit, round } => Kind::Append(pb::Append {
                epoch: some(epoch),
                prev: Some(prev.into()),
                entries: entry_messages(entries),
                commit: *commit,
                round: *round,
            }),
            PeerMsg::Snapshot { epoch, image } => {
                Kind::Snapshot(pb::Snapshot { epoch: some(epoch), image: Some(image.into()) })
            }
            PeerMsg::Ack { epoch, last, round } => {
                Kind::Ack(pb::Ack { epoch: some(epoch), last: *last, round: *round })
            }
            PeerMsg::Behind { epoch, holds } => {
                Kind::Behind(pb::Behind { epoch: some(epoch), holds: Some(holds.into()) })
            }
            PeerMsg::Stale { promised } => Kind::Stale(pb::Stale { promised: some(promised) }),
        };
        Self { kind: Some(kind) }
    }
}
