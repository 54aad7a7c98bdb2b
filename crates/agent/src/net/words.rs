//! Requests of brokers in the agent's own types, and its answers in theirs.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer that belongs to another call is an error, whichever it is"
)]

use std::fmt::Display;

use tonic::{Code, Status};
use vsm_core::{Epoch, IdentityName, Limits, SessionId, Standing, UnixMillis};
use vsm_proto::{
    agent::v1::{
        AcceptKeyRequest, AllowShadowRequest, AllowShadowResponse, ExtendResponse, Extended,
        Fenced, LimitsNotSet, NotRenewed, NotShown, NotifyRequest, RenewCertificateResponse,
        RevokedIdentity, SessionLimits, StartRefusal, StartRefused, extend_response,
        renew_certificate_response, start_response, verify_response,
    },
    convert,
    session::v1::LiveSession,
};

use super::{host::unexpected, renew};
use crate::{
    message::{Announced, Answer, Failure, Kind, Live, Notice, Valid, Wish},
    refusal::Refusal,
};

/// Sessions in one request.
const SESSIONS_MAX: usize = 65_536;

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

/// Why a call did nothing.
pub(super) fn failed(failure: Failure) -> Status {
    let code = match failure.kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NoSession => Code::NotFound,
        Kind::NotAllowed => Code::PermissionDenied,
        Kind::NotNow => Code::FailedPrecondition,
        Kind::Full => Code::ResourceExhausted,
        Kind::UnderWay => Code::DeadlineExceeded,
        Kind::Away => Code::Unavailable,
        Kind::Broken => Code::Internal,
    };
    Status::new(code, failure.text)
}

/// An answer that has no words in a call's response.
pub(super) fn other(answer: &Answer) -> Status {
    match answer {
        Answer::Fenced(promised) => {
            let text = format!("this agent has promised to another broker ({promised})");
            Status::new(Code::Aborted, text)
        }
        Answer::NotKept(why) => Status::new(Code::ResourceExhausted, why),
        answer => failed(unexpected(answer)),
    }
}

/// What counts no more, in a broker's words.
pub(super) fn revoked(
    identities: Vec<RevokedIdentity>,
) -> Result<Vec<(IdentityName, UnixMillis)>, Status> {
    let one = |one: RevokedIdentity| {
        let name = convert::text("identities.name", &one.name)?;
        Ok((name, UnixMillis(one.before_unix_ms)))
    };
    identities.into_iter().map(one).collect()
}

/// What came of renewing the certificate.
pub(super) fn renewed(done: Result<UnixMillis, renew::NotRenewed>) -> RenewCertificateResponse {
    use renew_certificate_response::Result::{NotRenewed as Not, UntilUnixMs};
    let result = match done {
        Ok(until) => UntilUnixMs(until.0),
        Err(why) => Not(NotRenewed { why: why.to_string(), next_step: why.next_step().to_owned() }),
    };
    RenewCertificateResponse { result: Some(result) }
}

pub(super) fn fenced(promised: &Epoch) -> Fenced {
    Fenced { promised: Some(promised.into()) }
}

pub(super) fn started(answer: &Answer) -> Result<start_response::Result, Status> {
    use start_response::Result::{Fenced, Refused, Started};
    Ok(match answer {
        Answer::Started(session) => Started(session.as_ref().into()),
        Answer::Refused(refused) => {
            let (reason, detail) = (StartRefusal::from(refused.reason), refused.detail.clone());
            Refused(StartRefused { reason: reason.into(), detail })
        }
        Answer::Fenced(promised) => Fenced(fenced(promised)),
        answer => return Err(other(answer)),
    })
}

pub(super) fn verified(answer: &Answer) -> Result<verify_response::Result, Status> {
    Ok(match answer {
        Answer::Alive(found) => verify_response::Result::Alive(live(found)),
        Answer::Ended(ended) => verify_response::Result::Gone(ended.into()),
        answer => return Err(other(answer)),
    })
}

/// A session as the broker is told of it.
pub(super) fn live(live: &Live) -> LiveSession {
    let (session, viewer) = (Some((&live.session).into()), live.viewer.as_ref().map(Into::into));
    let (last_client, shadowers) = (live.last_client.clone(), live.shadowers.clone());
    let standing = live.standing.as_deref().map(|standing: &Standing| standing.into());
    LiveSession { session, viewer, last_client, shadowers, standing }
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

pub(super) fn not_set((id, detail): (SessionId, String)) -> LimitsNotSet {
    LimitsNotSet { id: id.to_string(), detail }
}

/// What was put off.
pub(super) fn extended(answer: Answer) -> Result<ExtendResponse, Status> {
    let result = match answer {
        Answer::Extended { limit, left_ms, more } => {
            extend_response::Result::Extended(Extended { limit, left_ms, more })
        }
        Answer::NotExtended(why) => extend_response::Result::Refused(why),
        answer => return Err(other(&answer)),
    };
    Ok(ExtendResponse { result: Some(result) })
}

/// On which desktops a text is to be shown.
pub(crate) fn notice(request: NotifyRequest) -> Result<(Vec<SessionId>, Notice), Status> {
    let NotifyRequest { ids, text, fence: _ } = request;
    if ids.is_empty() || ids.len() > SESSIONS_MAX {
        return Err(Status::invalid_argument(format!("ids: name 1 to {SESSIONS_MAX} sessions")));
    }
    let text = Notice::try_from(text).map_err(invalid)?;
    let ids = ids.iter().map(|id| convert::text("ids", id)).collect::<Result<_, _>>()?;
    Ok((ids, text))
}

pub(super) fn not_shown((id, detail): (SessionId, String)) -> NotShown {
    NotShown { id: id.to_string(), detail }
}

fn invalid(why: impl Display) -> Status {
    Status::invalid_argument(why.to_string())
}

pub(crate) fn key(request: &AcceptKeyRequest) -> Result<Announced, Status> {
    Ok(Announced {
        session: convert::text("id", &request.id)?,
        user: convert::text("user", &request.user)?,
        key: convert::text("public_key", &request.public_key)?,
        valid: Valid::try_from(request.valid_ms).map_err(invalid)?,
    })
}

pub(crate) fn shadow(request: &AllowShadowRequest) -> Result<Wish, Status> {
    Ok(Wish {
        session: convert::text("id", &request.id)?,
        by: convert::text("by", &request.by)?,
        control: request.control,
        key: match request.public_key.as_str() {
            "" => None,
            key => Some(convert::text("public_key", key)?),
        },
        valid: Valid::try_from(request.valid_ms).map_err(invalid)?,
    })
}

pub(super) fn shadowed(answer: Answer) -> Result<AllowShadowResponse, Status> {
    Ok(match answer {
        Answer::NotShadowed(why) => AllowShadowResponse { why, ..Default::default() },
        Answer::Shadow { control, right, host_keys } => AllowShadowResponse {
            granted: true,
            control,
            right: right.to_string(),
            key_accepted: host_keys.is_some(),
            host_keys: host_keys.unwrap_or_default(),
            ..Default::default()
        },
        answer => return Err(other(&answer)),
    })
}
