//! Broker to witness and back, and what an agent keeps of it.

use vsm_core::{
    Epoch, Key, LineageId, Row,
    replica::{Window, Witness, WitnessMsg, WitnessReply},
};

use super::{epoch, epoch_message, epoch_or_zero, history, history_messages, not_above, position};
use crate::{
    convert::{Invalid, required, text},
    session::v1 as session,
    sync::v1 as pb,
};

fn optional(epoch: Option<session::Epoch>) -> Result<Option<Epoch>, Invalid> {
    epoch.map(TryInto::try_into).transpose()
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
            Kind::Probe(_) => Self::Probe { epoch },
            Kind::Claim(claim) => Self::Claim { epoch, life: optional(claim.life)? },
            Kind::Accept(accept) => {
                let window = Window::try_from(required("accept.window", accept.window)?)?;
                not_above("accept.window", &epoch, &window.last)?;
                Self::Accept {
                    epoch,
                    prev: accept.prev.map(TryInto::try_into).transpose()?,
                    window,
                    hold_ms: accept.hold_ms,
                }
            }
            Kind::Clear(clear) => {
                let at = position("clear.at", clear.at)?;
                Self::Clear { epoch, at, loss: clear.loss, life: optional(clear.life)? }
            }
        })
    }
}

/// The message of a request; the lineage is for the caller to set.
impl From<&WitnessMsg> for pb::WitnessRequest {
    fn from(message: &WitnessMsg) -> Self {
        use pb::witness_request::Kind;
        let (epoch, kind) = match message {
            WitnessMsg::Probe { epoch } => (epoch, Kind::Probe(pb::WitnessProbe {})),
            WitnessMsg::Claim { epoch, life } => {
                (epoch, Kind::Claim(pb::WitnessClaim { life: life.as_ref().map(Into::into) }))
            }
            WitnessMsg::Accept { epoch, prev, window, hold_ms } => {
                let (prev, window) = (prev.as_ref().map(Into::into), Some(window.into()));
                (epoch, Kind::Accept(pb::WitnessAccept { prev, window, hold_ms: *hold_ms }))
            }
            WitnessMsg::Clear { epoch, at, loss, life } => {
                let (at, life) = (Some(at.into()), life.as_ref().map(Into::into));
                (epoch, Kind::Clear(pb::WitnessClear { at, loss: *loss, life }))
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
            Kind::Promised(promised) => {
                let epoch = own()?;
                let window = promised.window.map(Window::try_from).transpose()?;
                if let Some(window) = &window {
                    not_above("promised.window", &epoch, &window.last)?;
                }
                Self::Promised { epoch, window }
            }
            Kind::Accepted(accepted) => {
                Self::Accepted { epoch: own()?, last: position("accepted.last", accepted.last)? }
            }
            Kind::Gap(_) => Self::Gap { epoch: own()? },
            Kind::Cleared(_) => Self::Cleared { epoch: own()? },
            Kind::Refused(refused) => {
                Self::Refused { promised: epoch("refused.promised", refused.promised)? }
            }
            Kind::Mute(mute) => Self::Mute { loss: mute.loss },
            Kind::Free(free) => Self::Free { promised: epoch_or_zero(free.promised)? },
            Kind::Foreign(it) => Self::Foreign { life: epoch("foreign.life", it.life)? },
            Kind::Held(held) => Self::Held { reign: epoch("held.reign", held.reign)? },
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
            WitnessReply::Mute { loss } => (None, Kind::Mute(pb::WitnessMute { loss: *loss })),
            WitnessReply::Free { promised } => {
                (None, Kind::Free(pb::WitnessFree { promised: epoch_message(promised) }))
            }
            WitnessReply::Foreign { life } => {
                (None, Kind::Foreign(pb::WitnessForeign { life: Some(life.into()) }))
            }
            WitnessReply::Held { reign } => {
                (None, Kind::Held(pb::WitnessHeld { reign: Some(reign.into()) }))
            }
        };
        Self { epoch: epoch.map(Into::into), kind: Some(kind), journal: 0, journal_id: 0 }
    }
}

/// What an agent keeps of its promises, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// The table whose brokers it promised to; none yet = `None`.
    pub lineage: Option<LineageId>,
    /// The promise, and what is kept for the pair.
    pub witness: Witness,
    /// Records that there ever were in this journal.
    pub position: u64,
    /// This journal, by a number drawn when it was begun; 0 = begun by a version that drew none.
    pub journal: u64,
    /// The name of the host that keeps it; empty = written by a version that did not tell.
    pub host: String,
    /// What it promised to the brokers of other tables before.
    pub former: Vec<(LineageId, Epoch)>,
}

impl Keeping {
    /// All that was ever promised, by table.
    #[must_use]
    pub fn promises(&self) -> Vec<(LineageId, Epoch)> {
        let now = self.lineage.zip(self.witness.promised.clone());
        self.former.iter().cloned().chain(now).collect()
    }
}

impl TryFrom<pb::WitnessState> for Keeping {
    type Error = Invalid;

    fn try_from(state: pb::WitnessState) -> Result<Self, Invalid> {
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
            mute: state.mute.then_some(state.loss),
            life: optional(state.life)?,
        };
        let (position, journal) = (state.position, state.journal_id);
        let former = |one: pb::FormerPromise| {
            let promised = required("former.promised", one.promised)?.try_into()?;
            Ok::<_, Invalid>((text("former.lineage", &one.lineage)?, promised))
        };
        let former = state.former.into_iter().map(former).collect::<Result<_, _>>()?;
        Ok(Self { lineage, witness, position, journal, host: state.host, former })
    }
}

impl From<&Keeping> for pb::WitnessState {
    fn from(keeping: &Keeping) -> Self {
        let witness = &keeping.witness;
        let former = |(lineage, promised): &(LineageId, Epoch)| pb::FormerPromise {
            lineage: lineage.to_string(),
            promised: Some(promised.into()),
        };
        Self {
            lineage: keeping.lineage.map(|id| id.to_string()).unwrap_or_default(),
            promised: witness.promised.as_ref().map(Into::into),
            kept_by: witness.kept.as_ref().map(|(by, _)| by.into()),
            window: witness.kept.as_ref().map(|(_, window)| window.into()),
            mute: witness.mute.is_some(),
            position: keeping.position,
            loss: witness.mute.unwrap_or(0),
            journal_id: keeping.journal,
            host: keeping.host.clone(),
            life: witness.life.as_ref().map(Into::into),
            former: keeping.former.iter().map(former).collect(),
        }
    }
}
