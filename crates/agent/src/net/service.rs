//! What brokers see: the gRPC services. Requests are parsed and refused here, in [`words`]; each becomes one call of
//! `vsmagent`, or a few where it concerns more than one may. Whose an epoch is, only the certificate says: that is
//! looked at here, and nowhere else.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer that belongs to another call is an error, whichever it is"
)]

use std::sync::Arc;

use prost::Message as _;
use tonic::{Extensions, Request, Response, Status};
use vsm_core::{Epoch, Fence, SessionId};
use vsm_daemon::{
    access,
    hole::{self, Hole},
    tls,
};
use vsm_proto::{
    agent::v1::{
        AcceptKeyRequest, AcceptKeyResponse, AllowShadowRequest, AllowShadowResponse,
        CancelStartRequest, CancelStartResponse, Cancelled, DisconnectViewerRequest,
        DisconnectViewerResponse, ExtendRequest, ExtendResponse, LimitsSet, NotifyRequest,
        NotifyResponse, RenewCertificateRequest, RenewCertificateResponse, ReportRequest,
        SessionLogRequest, SessionLogResponse, SetLimitsRequest, SetLimitsResponse,
        SetRevokedRequest, SetRevokedResponse, StartRequest, StartResponse, TerminateRequest,
        TerminateResponse, VerifyRequest, VerifyResponse, agent_server, cancel_start_response,
        set_limits_response, terminate_response,
    },
    convert,
    sync::v1::{
        QuarantineRequest, QuarantineResponse, WitnessRequest, WitnessResponse, witness_server,
    },
};

use super::{Net, report, words};
use crate::{
    message::{Answer, Call, PART_MAX, Start},
    refusal::one_line,
};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Service(Arc<Net>);

/// An epoch is one broker's, and no other broker acts by it.
fn check_own(extensions: &Extensions, epoch: &Epoch) -> Result<(), Status> {
    let peer = tls::peer(extensions)?;
    if hole::is_open(Hole::Epoch) {
        return Ok(());
    }
    if peer.speaks_for(epoch.node.as_str(), access::address(extensions)) {
        return Ok(());
    }
    tracing::error!(broker = peer.name, %epoch, "refused: a broker acts by an epoch of another one");
    Err(Status::permission_denied(format!(
        "epoch {epoch} is not one of the broker whose certificate says {}",
        peer.name
    )))
}

/// The right that a call bears, which has to be its caller's own.
fn right(
    extensions: &Extensions,
    fence: Option<vsm_proto::session::v1::Fence>,
) -> Result<Fence, Status> {
    let fence: Fence = convert::required("fence", fence)?.try_into()?;
    check_own(extensions, &fence.epoch)?;
    Ok(fence)
}

/// As many as go into one call; at least one part, as who may act is to be seen also where there is nothing to do.
fn parts<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    match all {
        [] => vec![Vec::new()],
        all => all.chunks(PART_MAX).map(<[T]>::to_vec).collect(),
    }
}

impl Service {
    pub(super) const fn new(net: Arc<Net>) -> Self {
        Self(net)
    }

    async fn ask(&self, call: Call) -> Result<Answer, Status> {
        self.0.host.ask(call).await.map_err(words::failed)
    }

    /// Asks for something about sessions, in parts: those of which it is not done, or another answer.
    async fn ask_for_all(
        &self,
        calls: impl Iterator<Item = Call>,
    ) -> Result<Result<Vec<(SessionId, String)>, Answer>, Status> {
        let mut failed = Vec::new();
        for call in calls {
            match self.ask(call).await? {
                Answer::AllBut(these) => failed.extend(these),
                answer => return Ok(Err(answer)),
            }
        }
        Ok(Ok(failed))
    }
}

#[tonic::async_trait]
impl agent_server::Agent for Service {
    async fn start(
        &self,
        request: Request<StartRequest>,
    ) -> Result<Response<StartResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let StartRequest { fence: _, session, limits, resources } = request.into_inner();
        let start = Start {
            fence,
            session: convert::required("session", session)?.try_into()?,
            limits: limits.unwrap_or_default().try_into()?,
            resources: resources.unwrap_or_default().into(),
        };
        let answer = self.ask(Call::Start(Box::new(start))).await?;
        Ok(Response::new(StartResponse { result: Some(words::started(&answer)?) }))
    }

    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<VerifyResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone()).ok();
        let VerifyRequest { id, client, standing, fence: _ } = request.into_inner();
        let id = convert::text("id", &id)?;
        // Whoever asks may know whether it lives, and changes nothing by that without a right of their own.
        let client = client.filter(|_| fence.is_some()).map(TryInto::try_into).transpose()?;
        let client = client.map(Box::new);
        let answer = self.ask(Call::Verify { id, client, standing, fence }).await?;
        Ok(Response::new(VerifyResponse { result: Some(words::verified(&answer)?) }))
    }

    async fn terminate(
        &self,
        request: Request<TerminateRequest>,
    ) -> Result<Response<TerminateResponse>, Status> {
        use terminate_response::Result as Done;
        let broker = tls::peer(request.extensions())?.name;
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let id = convert::text("id", &request.get_ref().id)?;
        let result = match self.ask(Call::Terminate { fence, id, broker }).await? {
            Answer::Ended(ended) => Done::Ended((&ended).into()),
            Answer::Fenced(promised) => Done::Fenced(words::fenced(&promised)),
            answer => return Err(words::other(&answer)),
        };
        Ok(Response::new(TerminateResponse { result: Some(result) }))
    }

    async fn disconnect_viewer(
        &self,
        request: Request<DisconnectViewerRequest>,
    ) -> Result<Response<DisconnectViewerResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let DisconnectViewerRequest { id, reason, fence: _ } = request.into_inner();
        let (id, reason) = (convert::text("id", &id)?, one_line(&reason));
        match self.ask(Call::Disconnect { fence, id, reason }).await? {
            Answer::Disconnected { was_connected } => {
                Ok(Response::new(DisconnectViewerResponse { was_connected }))
            }
            answer => Err(words::other(&answer)),
        }
    }

    async fn set_limits(
        &self,
        request: Request<SetLimitsRequest>,
    ) -> Result<Response<SetLimitsResponse>, Status> {
        use set_limits_response::Result as Done;
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let sessions = parts(&words::limits(request.into_inner().sessions)?);
        let calls =
            sessions.into_iter().map(|sessions| Call::SetLimits { fence: fence.clone(), sessions });
        let result = match self.ask_for_all(calls).await? {
            Ok(failed) => {
                Done::Set(LimitsSet { not_set: failed.into_iter().map(words::not_set).collect() })
            }
            Err(Answer::Fenced(promised)) => Done::Fenced(words::fenced(&promised)),
            Err(answer) => return Err(words::other(&answer)),
        };
        Ok(Response::new(SetLimitsResponse { result: Some(result) }))
    }

    async fn set_revoked(
        &self,
        request: Request<SetRevokedRequest>,
    ) -> Result<Response<SetRevokedResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let told = words::revoked(request.into_inner().identities)?;
        for identities in parts(&told) {
            let call = Call::Revoke { fence: fence.clone(), identities: identities.clone() };
            let answer = self.ask(call).await?;
            // A disk that is full is no reason to let somebody in.
            if matches!(answer, Answer::Done | Answer::NotKept(_)) {
                self.0.revoke(identities);
            }
            if answer != Answer::Done {
                return Err(words::other(&answer));
            }
        }
        Ok(Response::new(SetRevokedResponse {}))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        // Of no session: what is asked is whether this broker is the one that may act.
        let may_act = Call::SetLimits { fence, sessions: Vec::new() };
        let answer = self.ask_for_all(std::iter::once(may_act)).await?;
        answer.map_err(|answer| words::other(&answer))?;
        Ok(Response::new(words::renewed(self.0.renewal.now().await)))
    }

    async fn extend(
        &self,
        request: Request<ExtendRequest>,
    ) -> Result<Response<ExtendResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let id = convert::text("id", &request.into_inner().id)?;
        let answer = self.ask(Call::Extend { fence, id }).await?;
        Ok(Response::new(words::extended(answer)?))
    }

    async fn notify(
        &self,
        request: Request<NotifyRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let (ids, text) = words::notice(request.into_inner())?;
        let calls = parts(&ids).into_iter().map(|ids| Call::Notify {
            fence: fence.clone(),
            ids,
            text: text.clone(),
        });
        match self.ask_for_all(calls).await? {
            Ok(failed) => {
                let not_shown = failed.into_iter().map(words::not_shown).collect();
                Ok(Response::new(NotifyResponse { not_shown }))
            }
            Err(answer) => Err(words::other(&answer)),
        }
    }

    async fn session_log(
        &self,
        request: Request<SessionLogRequest>,
    ) -> Result<Response<SessionLogResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let SessionLogRequest { id, bytes, fence: _ } = request.into_inner();
        let id = convert::text("id", &id)?;
        let text = self.0.host.log(fence, id, bytes).await.map_err(words::failed)?;
        let text = text.map_err(|answer| words::other(&answer))?;
        Ok(Response::new(SessionLogResponse { text }))
    }

    async fn accept_key(
        &self,
        request: Request<AcceptKeyRequest>,
    ) -> Result<Response<AcceptKeyResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let announced = words::key(request.get_ref())?;
        match self.ask(Call::AcceptKey { fence, announced }).await? {
            Answer::HostKeys(host_keys) => Ok(Response::new(AcceptKeyResponse { host_keys })),
            answer => Err(words::other(&answer)),
        }
    }

    async fn allow_shadow(
        &self,
        request: Request<AllowShadowRequest>,
    ) -> Result<Response<AllowShadowResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let wish = words::shadow(request.get_ref())?;
        let answer = self.ask(Call::Shadow { fence, wish }).await?;
        Ok(Response::new(words::shadowed(answer)?))
    }

    async fn cancel_start(
        &self,
        request: Request<CancelStartRequest>,
    ) -> Result<Response<CancelStartResponse>, Status> {
        use cancel_start_response::Result as Done;
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let id = convert::text("id", &request.get_ref().id)?;
        let result = match self.ask(Call::Cancel { fence, id }).await? {
            Answer::Done => Done::Cancelled(Cancelled {}),
            Answer::Fenced(promised) => Done::Fenced(words::fenced(&promised)),
            answer => return Err(words::other(&answer)),
        };
        Ok(Response::new(CancelStartResponse { result: Some(result) }))
    }

    type ReportStream = report::Items;

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<report::Items>, Status> {
        let name = tls::peer(request.extensions())?.name;
        let broker = one_line(&request.into_inner().broker);
        tracing::info!(broker, certificate = name, "report opened");
        Ok(Response::new(report::open(Arc::clone(&self.0), broker).await?))
    }
}

#[tonic::async_trait]
impl witness_server::Witness for Service {
    async fn ask(
        &self,
        request: Request<WitnessRequest>,
    ) -> Result<Response<WitnessResponse>, Status> {
        if let Some(epoch) = request.get_ref().epoch.clone() {
            check_own(request.extensions(), &epoch.try_into()?)?;
        }
        let message = request.into_inner().encode_to_vec();
        let answer = self.0.host.witness(&message).await.map_err(words::failed)?;
        let answer = WitnessResponse::decode(answer.as_slice());
        Ok(Response::new(answer.map_err(|error| Status::internal(error.to_string()))?))
    }

    async fn quarantine(
        &self,
        request: Request<QuarantineRequest>,
    ) -> Result<Response<QuarantineResponse>, Status> {
        let fence = right(request.extensions(), request.get_ref().fence.clone())?;
        let QuarantineRequest { lineage, journal, journal_id, fence: _ } = request.into_inner();
        let lineage = convert::text("lineage", &lineage)?;
        match self.ask(Call::Quarantine { fence, lineage, journal_id, journal }).await? {
            Answer::Was(done) => Ok(Response::new(QuarantineResponse { done })),
            answer => Err(words::other(&answer)),
        }
    }
}
