//! Broker to witness and back, and what an agent keeps of it.

use vsm_core::{
    Key, LineageId, Row,
    replica::{Window, Witness, WitnessMsg, WitnessReply},
};

use super::{epoch, epoch_message, epoch_or_zero, history, history_messages, not_above, position};
use crate::{
    convert::{Invalid, required, text},
    sync::v1 as pb,
};

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
            Kind::Accept(accept) => {
                let window = Window::try_from(required("accept.window", accept.window)?)?;
                not_above("accept.window", &epoch, &window.last)?;
                Self::Accept {
                    epoch,
                    prev: accept.prev.map(TryInto::try_into).transpose()?,
                    window,
                }
            }
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
