//! What brokers see: the gRPC service. Requests are parsed and refused here, in [`words`]. Behind it there are no
//! generated types but in what leaves by itself: reports, the load, announcements; and in the journal of promises,
//! whose records are the brokers' own messages.

pub(crate) mod words;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status};
use tracing::Instrument as _;
use vsm_core::{Epoch, Fence, Session, SessionId, State};
use vsm_daemon::{
    access,
    hole::{self, Hole},
    span, tls,
};
use vsm_proto::{
    agent::v1::{
        AcceptKeyRequest, AcceptKeyResponse, AllowShadowRequest, AllowShadowResponse,
        CancelStartRequest, CancelStartResponse, Cancelled, DisconnectViewerRequest,
        DisconnectViewerResponse, ExtendRequest, ExtendResponse, LimitsSet, NotifyRequest,
        NotifyResponse, ReportRequest, SessionLogRequest, SessionLogResponse, SetLimitsRequest,
        SetLimitsResponse, SetRevokedRequest, SetRevokedResponse, StartRequest, StartResponse,
        TerminateRequest, TerminateResponse, VerifyRequest, VerifyResponse, agent_server,
        cancel_start_response, set_limits_response, start_response, terminate_response,
    },
    convert,
    sync::v1::{
        QuarantineRequest, QuarantineResponse, WitnessRequest, WitnessResponse, witness_server,
    },
};

use super::{
    Agent, call_error::CallError, fence::Permit, keys, life, limits, link, notice, report,
    session_log, shadow, wish::NotDone,
};
use crate::{
    control::{self, Event, Request as Ask},
    refusal::one_line,
};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    agent: Arc<Agent>,
    stop: CancellationToken,
}

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

impl Service {
    pub(super) const fn new(agent: Arc<Agent>, stop: CancellationToken) -> Self {
        Self { agent, stop }
    }

    /// The right that a call bears, which has to be its caller's own.
    fn right(
        &self,
        extensions: &Extensions,
        fence: Option<vsm_proto::session::v1::Fence>,
    ) -> Result<Fence, Status> {
        let fence: Fence = convert::required("fence", fence)?.try_into()?;
        check_own(extensions, &fence.epoch)?;
        Ok(fence)
    }

    /// Lets a call act whose answer has no words for a promise to somebody else.
    async fn acts(
        &self,
        extensions: &Extensions,
        fence: Option<vsm_proto::session::v1::Fence>,
    ) -> Result<Permit<'_>, Status> {
        let fence = self.right(extensions, fence)?;
        Ok(self.agent.admit(&fence).await?)
    }
}

#[tonic::async_trait]
impl agent_server::Agent for Service {
    async fn start(
        &self,
        request: Request<StartRequest>,
    ) -> Result<Response<StartResponse>, Status> {
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let StartRequest { fence: _, session, limits, resources } = request.into_inner();
        let mut session: Session = convert::required("session", session)?.try_into()?;
        session.state = State::Starting;
        let limits = limits.unwrap_or_default().try_into()?;
        let resources = resources.unwrap_or_default().into();
        let span = span::session(&session);
        let start = life::begin(&self.agent, &fence, session, limits, resources);
        let started = start.instrument(span).await.map(words::started);
        let result = words::or_fenced(started, start_response::Result::Fenced)?;
        Ok(Response::new(StartResponse { result: Some(result) }))
    }

    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<VerifyResponse>, Status> {
        let right = self.right(request.extensions(), request.get_ref().fence.clone());
        let VerifyRequest { id, mut client, standing, fence: _ } = request.into_inner();
        let id = convert::text("id", &id)?;
        // Whoever asks may know whether it lives. A broker that was replaced changes nothing by asking.
        let acts = match right {
            Ok(fence) => self.agent.fence.check(&fence).await.is_ok(),
            Err(_) => false,
        };
        if !acts {
            client = None;
        }
        let standing = match self.agent.registry.slot(id).filter(|_| standing) {
            Some(slot) => limits::standing(&self.agent, &slot).await,
            None => None,
        };
        let client = client.map(TryInto::try_into).transpose()?;
        let found = life::verify(&self.agent, id, client).await;
        let result = Some(words::verified(found, standing.as_ref()));
        Ok(Response::new(VerifyResponse { result }))
    }

    async fn terminate(
        &self,
        request: Request<TerminateRequest>,
    ) -> Result<Response<TerminateResponse>, Status> {
        use terminate_response::Result as Answer;
        let broker = tls::peer(request.extensions())?.name;
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let id = convert::text("id", &request.get_ref().id)?;
        let end = async {
            let permit = self.agent.admit(&fence).await?;
            let Some(slot) = self.agent.registry.slot(id) else {
                return Ok(life::how_it_ended(&self.agent, id));
            };
            let why = format!("ended at the request of broker {broker}");
            let span = span::session(&slot.session());
            life::end(&self.agent, &slot, &why, permit).instrument(span).await
        };
        let ended = end.await.map(|ended| Answer::Ended((&ended).into()));
        let result = Some(words::or_fenced(ended, Answer::Fenced)?);
        Ok(Response::new(TerminateResponse { result }))
    }

    async fn disconnect_viewer(
        &self,
        request: Request<DisconnectViewerRequest>,
    ) -> Result<Response<DisconnectViewerResponse>, Status> {
        // Not held, here and below, where a session is asked that may hang: what is told to it is one line.
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        let DisconnectViewerRequest { id, reason, fence: _ } = request.into_inner();
        let id: SessionId = convert::text("id", &id)?;
        let slot = self.agent.registry.slot(id).ok_or(CallError::NoSession(id))?;
        let dir = control::session_dir(&self.agent.settings().session.run_dir, slot.id);
        match link::ask(&dir, &Ask::Disconnect { reason: one_line(&reason) }).await {
            Ok(Event::Disconnected { was_connected }) => {
                Ok(Response::new(DisconnectViewerResponse { was_connected }))
            }
            Ok(other) => Err(Status::internal(format!("the session answered {other:?}"))),
            Err(error) => Err(CallError::from(NotDone::from(error)).into()),
        }
    }

    async fn set_limits(
        &self,
        request: Request<SetLimitsRequest>,
    ) -> Result<Response<SetLimitsResponse>, Status> {
        use set_limits_response::Result as Answer;
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let sessions = words::limits(request.into_inner().sessions)?;
        let set = async {
            // Not held until all is done, which may take seconds where a session hangs. If a broker with other words is
            // promised meanwhile, it sees in its report what came of these, and says its own again.
            drop(self.agent.admit(&fence).await?);
            Ok(limits::set(&self.agent, sessions).await)
        };
        let set = set.await.map(|not_set| {
            let not_set = not_set.into_iter().map(words::not_set).collect();
            Answer::Set(LimitsSet { not_set })
        });
        let result = Some(words::or_fenced(set, Answer::Fenced)?);
        Ok(Response::new(SetLimitsResponse { result }))
    }

    async fn set_revoked(
        &self,
        request: Request<SetRevokedRequest>,
    ) -> Result<Response<SetRevokedResponse>, Status> {
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        let told = words::revoked(request.into_inner().identities)?;
        let agent = Arc::clone(&self.agent);
        let taken = tokio::task::spawn_blocking(move || agent.revoked.take(told, &agent.troubles));
        let taken = taken.await.map_err(|error| Status::internal(error.to_string()))?;
        taken.map_err(CallError::from)?;
        Ok(Response::new(SetRevokedResponse {}))
    }

    async fn extend(
        &self,
        request: Request<ExtendRequest>,
    ) -> Result<Response<ExtendResponse>, Status> {
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        let id: SessionId = convert::text("id", &request.into_inner().id)?;
        let slot = self.agent.registry.slot(id).ok_or(CallError::NoSession(id))?;
        Ok(Response::new(words::extended(limits::extend(&self.agent, &slot).await)?))
    }

    async fn notify(
        &self,
        request: Request<NotifyRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        let (ids, text) = words::notice(request.into_inner())?;
        Ok(Response::new(words::not_shown(notice::show(&self.agent, ids, &text).await)))
    }

    async fn session_log(
        &self,
        request: Request<SessionLogRequest>,
    ) -> Result<Response<SessionLogResponse>, Status> {
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        let SessionLogRequest { id, bytes, fence: _ } = request.into_inner();
        let (id, store) = (convert::text("id", &id)?, self.agent.store.clone());
        let read = tokio::task::spawn_blocking(move || session_log::tail(&store, id, bytes)).await;
        let text = read.map_err(std::io::Error::other).and_then(|text| text);
        let text = text.map_err(CallError::Log)?;
        Ok(Response::new(SessionLogResponse { text }))
    }

    async fn accept_key(
        &self,
        request: Request<AcceptKeyRequest>,
    ) -> Result<Response<AcceptKeyResponse>, Status> {
        let permit = self.acts(request.extensions(), request.get_ref().fence.clone()).await?;
        let host_keys = keys::accept(&self.agent, words::key(request.get_ref())?).await?;
        drop(permit);
        Ok(Response::new(AcceptKeyResponse { host_keys }))
    }

    async fn allow_shadow(
        &self,
        request: Request<AllowShadowRequest>,
    ) -> Result<Response<AllowShadowResponse>, Status> {
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        drop(self.agent.admit(&fence).await?);
        let verdict = shadow::allow(&self.agent, words::shadow(request.get_ref())?).await?;
        // The user may have taken their time. A right that nobody is told of lets nobody in.
        self.agent.fence.check(&fence).await?;
        Ok(Response::new(words::shadow_verdict(verdict)))
    }

    async fn cancel_start(
        &self,
        request: Request<CancelStartRequest>,
    ) -> Result<Response<CancelStartResponse>, Status> {
        use cancel_start_response::Result as Answer;
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let id: SessionId = convert::text("id", &request.get_ref().id)?;
        let forbid = async {
            let permit = self.agent.admit(&fence).await?;
            life::forbid(&self.agent, id, permit).await
        };
        let forbidden = forbid.await.map(|()| Answer::Cancelled(Cancelled {}));
        let result = Some(words::or_fenced(forbidden, Answer::Fenced)?);
        Ok(Response::new(CancelStartResponse { result }))
    }

    type ReportStream = report::Items;

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<report::Items>, Status> {
        let name = tls::peer(request.extensions())?.name;
        let broker = one_line(&request.into_inner().broker);
        tracing::info!(broker, certificate = name, "report opened");
        Ok(Response::new(report::open(Arc::clone(&self.agent), broker, self.stop.clone()).await))
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
        let is_empty = || self.agent.registry.live_count() == 0;
        Ok(Response::new(self.agent.fence.ask(request.into_inner(), is_empty).await?))
    }

    async fn quarantine(
        &self,
        request: Request<QuarantineRequest>,
    ) -> Result<Response<QuarantineResponse>, Status> {
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        // Nothing is promised: the journal is to be found as it is.
        self.agent.fence.check(&fence).await?;
        let QuarantineRequest { lineage, journal, journal_id, fence: _ } = request.into_inner();
        let lineage = convert::text("lineage", &lineage)?;
        let done = self.agent.fence.quarantine(lineage, journal_id, journal).await;
        let done = done.map_err(CallError::NotSetAside)?;
        Ok(Response::new(QuarantineResponse { done }))
    }
}
