//! Requests of brokers in the agent's own types, and its answers in theirs.

use std::time::Duration;

use tonic::{Code, Status};
use vsm_core::{Epoch, Limits, SessionId, UnixMillis};
use vsm_daemon::{one_time::VALID_MAX, open::Revoked};
use vsm_proto::{
    agent::v1::{
        AcceptKeyRequest, AllowShadowRequest, AllowShadowResponse, ExtendResponse, Extended,
        Fenced, LimitsNotSet, NotShown, NotifyRequest, NotifyResponse, RevokedIdentity,
        SessionLimits, StartRefusal, StartRefused, extend_response, start_response,
        verify_response,
    },
    convert,
};

use super::super::{
    call_error::CallError, fence::Denied, keys::Announced, life::Start, limits, report, shadow,
    wish::NotDone,
};
use crate::refusal::Refusal;

/// Sessions in one request.
const SESSIONS_MAX: usize = 65_536;
/// Longest text, in bytes.
const TEXT_MAX: usize = 2048;

impl From<Refusal> for StartRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownUser => Self::UnknownUser,
            Refusal::Account => Self::Account,
            Refusal::Home => Self::Home,
            Refusal::XServer => Self::XServer,
            Refusal::Full => Self::Full,
            Refusal::Storage => Self::Storage,
            Refusal::Cancelled => Self::Cancelled,
            Refusal::Profile => Self::Profile,
            Refusal::Internal => Self::Internal,
        }
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Invalid(invalid) => return invalid.into(),
            Denied::Fenced(_) => Code::Aborted,
            Denied::Damaged(_) | Denied::OtherLineage { .. } | Denied::BeyondReason { .. } => {
                Code::FailedPrecondition
            }
            Denied::NotKept(_) => Code::ResourceExhausted,
        };
        Self::new(code, denied.to_string())
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let code = match error {
            CallError::Denied(denied) => return denied.into(),
            CallError::NoSession(_) => Code::NotFound,
            CallError::NotOwned(..) => Code::PermissionDenied,
            CallError::TooManyKeys(_)
            | CallError::TooManyShadowers
            | CallError::CancelNotKept(_)
            | CallError::Revoked(_)
            | CallError::NotSetAside(_) => Code::ResourceExhausted,
            CallError::StillStarting(_) | CallError::StillEnding(_) => Code::DeadlineExceeded,
            CallError::NotDone(_) => Code::Unavailable,
            CallError::Log(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// What counts no more, in a broker's words.
pub(super) fn revoked(identities: Vec<RevokedIdentity>) -> Result<Revoked, Status> {
    let one = |one: RevokedIdentity| {
        let name = convert::text("identities.name", &one.name)?;
        Ok((name, UnixMillis(one.before_unix_ms)))
    };
    identities.into_iter().map(one).collect()
}

/// The answer of a call whose words have one for a promise to somebody else.
pub(super) fn or_fenced<T>(
    done: Result<T, CallError>,
    fenced: impl FnOnce(Fenced) -> T,
) -> Result<T, Status> {
    match done {
        Err(CallError::Denied(Denied::Fenced(promised))) => Ok(fenced(self::fenced(&promised))),
        done => done.map_err(Status::from),
    }
}

fn fenced(promised: &Epoch) -> Fenced {
    Fenced { promised: Some(promised.into()) }
}

pub(super) fn started(start: Start) -> start_response::Result {
    use start_response::Result::{Fenced, Refused, Started};
    match start {
        Start::Running(slot) => Started((&slot.session()).into()),
        Start::Refused(refused) => {
            let reason = StartRefusal::from(refused.reason).into();
            Refused(StartRefused { reason, detail: refused.detail })
        }
        Start::Fenced(promised) => Fenced(fenced(&promised)),
    }
}

pub(super) fn verified(
    found: Result<super::super::registry::Live, vsm_core::Ended>,
    standing: Option<&vsm_core::Standing>,
) -> verify_response::Result {
    match found {
        Ok(live) => {
            let mut live = report::live(&live);
            if let Some(standing) = standing {
                live.standing = Some(standing.into());
            }
            verify_response::Result::Alive(live)
        }
        Err(ended) => verify_response::Result::Gone((&ended).into()),
    }
}

pub(super) fn limits(sessions: Vec<SessionLimits>) -> Result<Vec<(SessionId, Limits)>, Status> {
    if sessions.len() > SESSIONS_MAX {
        return Err(Status::invalid_argument(format!("sessions: at most {SESSIONS_MAX}")));
    }
    let one = |session: SessionLimits| {
        let limits = session.limits.unwrap_or_default().try_into()?;
        Ok((convert::text("sessions.id", &session.id)?, limits))
    };
    sessions.into_iter().map(one).collect()
}

pub(super) fn not_set((id, why): (SessionId, NotDone)) -> LimitsNotSet {
    LimitsNotSet { id: id.to_string(), detail: why.to_string() }
}

/// What was put off. A session that does not answer is no refusal.
pub(super) fn extended(done: Result<limits::Extended, NotDone>) -> Result<ExtendResponse, Status> {
    let result = match done {
        Ok(limits::Extended { limit, left_ms, more }) => {
            extend_response::Result::Extended(Extended { limit, left_ms, more })
        }
        Err(error @ NotDone::NoAnswer(_)) => return Err(CallError::from(error).into()),
        Err(why) => extend_response::Result::Refused(why.to_string()),
    };
    Ok(ExtendResponse { result: Some(result) })
}

/// On which desktops a text is to be shown.
pub(crate) fn notice(request: NotifyRequest) -> Result<(Vec<SessionId>, String), Status> {
    let NotifyRequest { ids, text, fence: _ } = request;
    if ids.is_empty() || ids.len() > SESSIONS_MAX {
        return Err(Status::invalid_argument(format!("ids: name 1 to {SESSIONS_MAX} sessions")));
    }
    if text.is_empty() || text.len() > TEXT_MAX || text.contains('\0') {
        return Err(Status::invalid_argument("text: 1 to 2048 bytes without NUL"));
    }
    let ids = ids.iter().map(|id| convert::text("ids", id)).collect::<Result<_, _>>()?;
    Ok((ids, text))
}

pub(super) fn not_shown(failed: Vec<(SessionId, NotDone)>) -> NotifyResponse {
    let one =
        |(id, why): (SessionId, NotDone)| NotShown { id: id.to_string(), detail: why.to_string() };
    NotifyResponse { not_shown: failed.into_iter().map(one).collect() }
}

/// How long a broker wants a key, or a right, to be good.
fn valid(valid_ms: u32) -> Result<Duration, Status> {
    let valid = Duration::from_millis(valid_ms.into());
    if valid.is_zero() || valid > VALID_MAX {
        return Err(Status::invalid_argument("valid_ms: 1 to 600000"));
    }
    Ok(valid)
}

pub(crate) fn key(request: &AcceptKeyRequest) -> Result<Announced, Status> {
    Ok(Announced {
        session: convert::text("id", &request.id)?,
        user: convert::text("user", &request.user)?,
        key: convert::text("public_key", &request.public_key)?,
        valid: valid(request.valid_ms)?,
    })
}

pub(crate) fn shadow(request: &AllowShadowRequest) -> Result<shadow::Wish, Status> {
    Ok(shadow::Wish {
        session: convert::text("id", &request.id)?,
        by: convert::text("by", &request.by)?,
        control: request.control,
        key: match request.public_key.as_str() {
            "" => None,
            key => Some(convert::text("public_key", key)?),
        },
        valid: valid(request.valid_ms)?,
    })
}

pub(super) fn shadow_verdict(verdict: shadow::Verdict) -> AllowShadowResponse {
    match verdict {
        shadow::Verdict::Refused(why) => AllowShadowResponse { why, ..Default::default() },
        shadow::Verdict::Granted { control, right, host_keys } => AllowShadowResponse {
            granted: true,
            control,
            right: right.to_string(),
            key_accepted: host_keys.is_some(),
            host_keys: host_keys.unwrap_or_default(),
            ..Default::default()
        },
    }
}
