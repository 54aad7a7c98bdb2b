//! Calls to an agent: each has a deadline, and an answer that is not one of ours is an error in one line.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tonic::{Code, Status};
use vsm_core::{
    Ended, Epoch, Extension, Fence, IdentityName, Resources, Session, SessionId, SshKey,
    StartParams, UnixMillis, UserName, printable,
};
use vsm_daemon::{
    cause::{self, Fault},
    grpc,
    open::Revoked,
};
use vsm_proto::agent::v1 as pb;

use super::Link;
use crate::{hosts::told, site::settings::Bounds};

/// A verify, a cancel or a disconnect is answered from the agent's memory; more means that it hangs.
pub(super) const SHORT_CALL: Duration = Duration::from_secs(5);
/// Ending a session includes the grace that its processes get.
pub(super) const TERMINATE_CALL: Duration = Duration::from_secs(20);
/// Renewing a certificate: the agent makes a key, and asks this broker for a signature, for 10 s at most.
const RENEW_CALL: Duration = Duration::from_secs(20);
/// The user of a desktop has 45 s to say whether it may be shadowed.
const SHADOW_CALL: Duration = Duration::from_secs(60);

/// An answer, or the agent's refusal of our epoch.
#[derive(Debug)]
pub(crate) enum Fenced<T> {
    /// The answer.
    Done(T),
    /// It has promised to this one.
    Refused(Epoch),
}

/// What became of a start.
#[derive(Debug)]
pub(crate) enum Started {
    /// It runs on this display.
    Running(u32),
    /// It never will.
    Refused(pb::StartRefusal, String),
}

/// What somebody wants who wants to shadow a session.
#[derive(Debug)]
pub(crate) struct ShadowWish<'a> {
    pub(crate) by: &'a UserName,
    pub(crate) control: bool,
    pub(crate) key: Option<&'a SshKey>,
    pub(crate) valid: Duration,
}

/// Leave to shadow a session.
#[derive(Debug)]
pub(crate) struct Shadowed {
    /// Whether to do more than look.
    pub(crate) control: bool,
    /// The right, for `vsm-login` on the agent's host.
    pub(crate) right: String,
    /// The keys of the agent's sshd, where it takes the key; none = it takes none.
    pub(crate) host_keys: Option<Vec<SshKey>>,
}

/// What came of asking to shadow a session.
#[derive(Debug)]
pub(crate) enum ShadowAnswer {
    /// They may.
    Granted(Shadowed),
    /// They may not, and why.
    Refused(String),
}

/// What came of asking for more time.
#[derive(Debug)]
pub(crate) enum ExtendAnswer {
    /// There is more.
    Extended(Extension),
    /// There is not, and why.
    Refused(String),
}

/// What came of asking an agent to renew its certificate.
#[derive(Debug)]
pub(crate) enum RenewAnswer {
    /// It has a new one, which ends then.
    Until(UnixMillis),
    /// It has not.
    NotRenewed {
        /// Why.
        why: String,
        /// What is to be done.
        next_step: String,
    },
    /// It is an older agent, which does not know the call.
    Older,
}

/// What a verify found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Alive.
    Alive,
    /// Gone, with the reason where the agent remembers it.
    Gone(Option<Ended>),
}

/// A call that got no answer, or not one of ours.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct CallError {
    /// In one line.
    pub why: String,
    /// Whether the agent may still be at it, as it did not answer in time.
    pub timed_out: bool,
    /// Whether the call never left this host, as no connection could be made.
    pub unsent: bool,
    /// Whether the agent's `/vsmagent/allowed_clients` lacks this broker.
    pub not_allowed: bool,
    /// What is the matter with the agent's certificate, if it is that.
    pub fault: Option<Fault>,
}

impl CallError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        let why = printable(&why.into());
        Self { why, timed_out: false, unsent: false, not_allowed: false, fault: None }
    }

    /// No answer came in this time.
    pub(crate) fn timed_out(deadline: Duration) -> Self {
        let why = format!("no answer within {} s", deadline.as_secs());
        Self { timed_out: true, ..Self::new(why) }
    }

    pub(crate) fn fenced(promised: &Epoch) -> Self {
        Self::new(format!("it has promised to another broker ({promised})"))
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self {
            why: printable(&cause::of(&status)),
            timed_out: status.code() == Code::DeadlineExceeded,
            unsent: grpc::is_unsent(&status),
            not_allowed: grpc::reason(&status) == Some(grpc::BROKER_NOT_ALLOWED),
            fault: cause::fault(&status),
        }
    }
}

impl Link {
    pub(crate) async fn report(
        &self,
        broker: &str,
    ) -> Result<tonic::Streaming<pb::ReportResponse>, Status> {
        let request = pb::ReportRequest { broker: broker.to_owned() };
        Ok(self.client.clone().report(request).await?.into_inner())
    }

    pub(crate) async fn start(
        &self,
        fence: Fence,
        session: &Session,
        bounds: &Bounds,
        deadline: Duration,
    ) -> Result<Fenced<Started>, CallError> {
        use pb::start_response::Result as Answer;
        let Bounds { limits, resources } = bounds;
        let limits = (!limits.is_none()).then(|| limits.into());
        let resources = (*resources != Resources::default()).then(|| (*resources).into());
        let (fence, session) = (Some((&fence).into()), Some(session.into()));
        let request = pb::StartRequest { fence, session, limits, resources };
        let response = bounded(deadline, self.client.clone().start(request)).await?;
        match response.result {
            Some(Answer::Started(started)) => Ok(Fenced::Done(Started::Running(started.display))),
            Some(Answer::Refused(refused)) => {
                Ok(Fenced::Done(Started::Refused(refused.reason(), printable(&refused.detail))))
            }
            Some(Answer::Fenced(fenced)) => promised(fenced),
            None => Err(CallError::new("it gave an empty answer")),
        }
    }

    /// Whether a session lives; `client` is who asks for it, if it is for a login.
    pub(crate) async fn verify(
        &self,
        id: SessionId,
        client: Option<(&StartParams, Fence)>,
    ) -> Result<Verdict, CallError> {
        use pb::verify_response::Result as Answer;
        let (client, fence) = client.unzip();
        let (client, fence) = (client.map(Into::into), fence.map(|fence| (&fence).into()));
        let request = pb::VerifyRequest { id: id.to_string(), client, standing: false, fence };
        let response = bounded(SHORT_CALL, self.client.clone().verify(request)).await?;
        match response.result {
            Some(Answer::Alive(_)) => Ok(Verdict::Alive),
            Some(Answer::Gone(gone)) => Ok(Verdict::Gone(Ended::try_from(gone).ok())),
            None => Err(CallError::new("it gave an empty answer")),
        }
    }

    pub(crate) async fn terminate(
        &self,
        fence: Fence,
        id: SessionId,
    ) -> Result<Fenced<Option<Ended>>, CallError> {
        use pb::terminate_response::Result as Answer;
        let request = pb::TerminateRequest { fence: Some((&fence).into()), id: id.to_string() };
        let response = bounded(TERMINATE_CALL, self.client.clone().terminate(request)).await?;
        match response.result {
            Some(Answer::Ended(ended)) => Ok(Fenced::Done(Ended::try_from(ended).ok())),
            Some(Answer::Fenced(fenced)) => promised(fenced),
            None => Err(CallError::new("it gave an empty answer")),
        }
    }

    pub(crate) async fn cancel_start(
        &self,
        fence: Fence,
        id: SessionId,
    ) -> Result<Fenced<()>, CallError> {
        use pb::cancel_start_response::Result as Answer;
        let request = pb::CancelStartRequest { fence: Some((&fence).into()), id: id.to_string() };
        let response = bounded(TERMINATE_CALL, self.client.clone().cancel_start(request)).await?;
        match response.result {
            Some(Answer::Cancelled(_)) => Ok(Fenced::Done(())),
            Some(Answer::Fenced(fenced)) => promised(fenced),
            None => Err(CallError::new("it gave an empty answer")),
        }
    }

    /// Tells it which certificates count no more.
    pub(crate) async fn set_revoked(
        &self,
        fence: Fence,
        revoked: &Arc<Revoked>,
    ) -> Result<(), CallError> {
        let one = |(name, before): (&IdentityName, &UnixMillis)| pb::RevokedIdentity {
            name: name.to_string(),
            before_unix_ms: before.0,
        };
        let identities = revoked.iter().map(one).collect();
        let request = pb::SetRevokedRequest { fence: Some((&fence).into()), identities };
        bounded(SHORT_CALL, self.client.clone().set_revoked(request)).await?;
        *self.revoked.lock() = Arc::clone(revoked);
        Ok(())
    }

    /// Has it renew its certificate now.
    pub(crate) async fn renew_certificate(&self, fence: Fence) -> Result<RenewAnswer, CallError> {
        use pb::renew_certificate_response::Result as Answer;
        let request = pb::RenewCertificateRequest { fence: Some((&fence).into()) };
        let mut client = self.client.clone();
        let call = async {
            match client.renew_certificate(request).await {
                Err(status) if status.code() == Code::Unimplemented => {
                    Ok(tonic::Response::new(None))
                }
                answer => answer.map(|answer| answer.map(Some)),
            }
        };
        match bounded(RENEW_CALL, call).await?.map(|response| response.result) {
            None => Ok(RenewAnswer::Older),
            Some(Some(Answer::UntilUnixMs(until))) => Ok(RenewAnswer::Until(UnixMillis(until))),
            Some(Some(Answer::NotRenewed(pb::NotRenewed { why, next_step }))) => {
                let [why, next_step] = [why, next_step].map(|text| told::line(&text));
                Ok(RenewAnswer::NotRenewed { why, next_step })
            }
            Some(None) => Err(CallError::new("it gave an empty answer")),
        }
    }

    /// Has a text shown on the desktops of sessions; why not, by session id, where it is not shown.
    pub(crate) async fn notify(
        &self,
        fence: Fence,
        ids: impl Iterator<Item = SessionId>,
        text: &str,
    ) -> Result<HashMap<String, String>, CallError> {
        let ids = ids.map(|id| id.to_string()).collect();
        let request =
            pb::NotifyRequest { ids, text: text.to_owned(), fence: Some((&fence).into()) };
        let response = bounded(TERMINATE_CALL, self.client.clone().notify(request)).await?;
        Ok(response.not_shown.into_iter().map(|not| (not.id, printable(&not.detail))).collect())
    }

    /// Has the agent take a client's key for one login of a session's owner; the keys of its sshd that are of a known
    /// kind.
    pub(crate) async fn accept_key(
        &self,
        fence: Fence,
        session: &Session,
        key: &SshKey,
        valid: Duration,
    ) -> Result<Vec<SshKey>, CallError> {
        let request = pb::AcceptKeyRequest {
            id: session.id.to_string(),
            user: session.user.to_string(),
            public_key: key.to_string(),
            valid_ms: millis(valid),
            fence: Some((&fence).into()),
        };
        let response = bounded(SHORT_CALL, self.client.clone().accept_key(request)).await?;
        Ok(known_keys(&response.host_keys))
    }

    /// Asks whether somebody may shadow a session.
    pub(crate) async fn allow_shadow(
        &self,
        fence: Fence,
        id: SessionId,
        wish: ShadowWish<'_>,
    ) -> Result<ShadowAnswer, CallError> {
        let request = pb::AllowShadowRequest {
            id: id.to_string(),
            by: wish.by.to_string(),
            control: wish.control,
            public_key: wish.key.map(ToString::to_string).unwrap_or_default(),
            valid_ms: millis(wish.valid),
            fence: Some((&fence).into()),
        };
        let answer = bounded(SHADOW_CALL, self.client.clone().allow_shadow(request)).await?;
        if !answer.granted {
            return Ok(ShadowAnswer::Refused(printable(&answer.why)));
        }
        let host_keys = answer.key_accepted.then(|| known_keys(&answer.host_keys));
        let right = printable(&answer.right);
        Ok(ShadowAnswer::Granted(Shadowed { control: answer.control, right, host_keys }))
    }

    /// The end of a session's log; none = there is no log.
    pub(crate) async fn session_log(
        &self,
        fence: Fence,
        id: SessionId,
        bytes: u64,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let request =
            pb::SessionLogRequest { id: id.to_string(), bytes, fence: Some((&fence).into()) };
        Ok(bounded(SHORT_CALL, self.client.clone().session_log(request)).await?.text)
    }

    pub(crate) async fn disconnect(
        &self,
        fence: Fence,
        id: SessionId,
        reason: &str,
    ) -> Result<bool, CallError> {
        let (id, reason, fence) = (id.to_string(), reason.to_owned(), Some((&fence).into()));
        let request = pb::DisconnectViewerRequest { id, reason, fence };
        Ok(bounded(SHORT_CALL, self.client.clone().disconnect_viewer(request)).await?.was_connected)
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Those of a host's keys that are of a known kind.
fn known_keys(told: &[String]) -> Vec<SshKey> {
    told.iter().filter_map(|key| key.parse().ok()).collect()
}

pub(super) async fn bounded<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CallError::timed_out(deadline)),
    }
}

pub(super) fn promised<T>(fenced: pb::Fenced) -> Result<Fenced<T>, CallError> {
    let promised = fenced
        .promised
        .ok_or_else(|| CallError::new("it refused our epoch without naming its promise"))?;
    let promised = Epoch::try_from(promised).map_err(|error| CallError::new(error.to_string()))?;
    Ok(Fenced::Refused(promised))
}
