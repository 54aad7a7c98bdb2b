//! What brokers see: the gRPC service. Requests are parsed here and refused here; behind this file there are no
//! generated types but in reports.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::{
    Extensions, Request, Response, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tracing::Instrument as _;
use vsm_core::{
    EndReason, Ended, Epoch, Fence, Limits, Resources, Session, SessionId, StartParams, State,
};
use vsm_daemon::{
    clock, span,
    tls::{self, Role},
};
use vsm_proto::{
    agent::v1::{
        AcceptKeyRequest, AcceptKeyResponse, AllowShadowRequest, AllowShadowResponse,
        CancelStartRequest, CancelStartResponse, Cancelled, DisconnectViewerRequest,
        DisconnectViewerResponse, ExtendRequest, ExtendResponse, Fenced, LimitsSet, NotifyRequest,
        NotifyResponse, ReportRequest, SessionLogRequest, SessionLogResponse, SetLimitsRequest,
        SetLimitsResponse, StartRefusal, StartRefused, StartRequest, StartResponse,
        TerminateRequest, TerminateResponse, VerifyRequest, VerifyResponse, agent_server,
        cancel_start_response, set_limits_response, start_response, terminate_response,
        verify_response,
    },
    convert,
    sync::v1::{
        QuarantineRequest, QuarantineResponse, WitnessRequest, WitnessResponse, witness_server,
    },
};

use super::{
    Agent, client,
    fence::{Denied, Permit},
    keys, limits, link, notice,
    registry::{Forbidden, Found, Slot, Status as SlotStatus, made_out},
    report, session_log, shadow, start,
};
use crate::{
    control::{self, Event, Request as Ask},
    record::{Done, Outcome},
    spec::{Refusal, Refused, one_line},
};

/// How long the end of a session may take: programs are asked, then killed.
const END_MAX: Duration = Duration::from_secs(15);
/// How long a verify waits for the span behind a desktop that it found dead.
const STORY_MAX: Duration = Duration::from_millis(500);

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    agent: Arc<Agent>,
    stop: CancellationToken,
}

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

fn refused(refused: Refused) -> start_response::Result {
    let reason = StartRefusal::from(refused.reason).into();
    start_response::Result::Refused(StartRefused { reason, detail: refused.detail })
}

fn over(done: Done) -> start_response::Result {
    match done.outcome {
        Outcome::Refused(why) => refused(why),
        Outcome::Ended { detail, .. } => refused(Refused::new(
            Refusal::Cancelled,
            format!("the session has ended already: {detail}"),
        )),
    }
}

fn fenced(epoch: &Epoch) -> Fenced {
    Fenced { promised: Some(epoch.into()) }
}

/// Where a call comes from.
fn address(extensions: &Extensions) -> Option<IpAddr> {
    let info = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?;
    Some(info.get_ref().remote_addr()?.ip().to_canonical())
}

/// An epoch is one broker's, and no other broker acts by it.
fn check_own(extensions: &Extensions, epoch: &Epoch) -> Result<(), Status> {
    let peer = tls::peer(extensions)?;
    if peer.speaks_for(epoch.node.as_str(), address(extensions)) {
        return Ok(());
    }
    tracing::error!(broker = peer.name, %epoch, "refused: a broker acts by an epoch of another one");
    Err(Status::permission_denied(format!(
        "epoch {epoch} is not one of the broker whose certificate says {}",
        peer.name
    )))
}

/// That a session is none of this agent's.
pub(super) fn no_session(id: SessionId) -> Status {
    Status::not_found(format!("there is no session {id} here"))
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Fenced(promised) => {
                Self::aborted(format!("this agent has promised to another broker ({promised})"))
            }
            Denied::Status(status) => status,
        }
    }
}

impl Service {
    pub(super) const fn new(agent: Arc<Agent>, stop: CancellationToken) -> Self {
        Self { agent, stop }
    }

    /// Lets only brokers of this cluster in that the configuration names.
    fn check_caller(&self, extensions: &Extensions) -> Result<String, Status> {
        let peer = tls::peer_with_role(extensions, Role::Broker)?;
        let address = address(extensions);
        let allowed = &self.agent.settings().allowed_brokers;
        if peer.is_among(allowed, address) {
            return Ok(peer.name);
        }
        let address = address.map_or_else(String::new, |address| format!(" at {address}"));
        tracing::warn!(broker = peer.name, "refused: not in /vsmagent/allowed_clients");
        Err(Status::permission_denied(format!(
            "broker {}{address} is not in /vsmagent/allowed_clients of {}",
            peer.name,
            self.agent.settings().public_name
        )))
    }

    async fn admit(&self, fence: &Fence) -> Result<Permit<'_>, Denied> {
        self.agent.fence.admit(fence, || self.agent.registry.live_count() == 0).await
    }

    /// The right that a call bears, which has to be its caller's own.
    fn right(
        &self,
        extensions: &Extensions,
        fence: Option<vsm_proto::session::v1::Fence>,
    ) -> Result<Fence, Status> {
        self.check_caller(extensions)?;
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
        self.admit(&fence).await.map_err(Status::from)
    }

    async fn start_session(
        &self,
        fence: &Fence,
        session: Session,
        limits: Limits,
        resources: Resources,
    ) -> Result<start_response::Result, Status> {
        let permit = match self.admit(fence).await {
            Ok(permit) => permit,
            Err(Denied::Fenced(epoch)) => {
                return Ok(start_response::Result::Fenced(fenced(&epoch)));
            }
            Err(Denied::Status(status)) => return Err(status),
        };
        let settings = self.agent.settings();
        let slot = match self.agent.registry.begin(session, limits, &settings) {
            Found::New(slot) => {
                start::begin(&self.agent, Arc::clone(&slot), resources, permit);
                slot
            }
            Found::Again(slot) => {
                drop(permit);
                slot
            }
            Found::Over(done) => return Ok(over(done)),
            Found::Refused(Forbidden { done, forget }) => {
                link::forget_on_disk(&self.agent, forget);
                return Ok(over(done));
            }
        };
        let status = tokio::time::timeout(start::longest(&settings) * 2, slot.started())
            .await
            .map_err(|_| {
                Status::deadline_exceeded(format!("session {} is still being started", slot.id))
            })?;
        // A broker that was replaced meanwhile learns it here; its successor finds the session in the inventory.
        if let Some(promised) = self.agent.fence.promise().await.epoch
            && promised > fence.epoch
        {
            return Ok(start_response::Result::Fenced(fenced(&promised)));
        }
        Ok(match status {
            SlotStatus::Over(done) => over(done),
            SlotStatus::Starting | SlotStatus::Running => {
                start_response::Result::Started((&slot.session()).into())
            }
        })
    }

    /// Ends a live session and waits until nothing is left of it.
    async fn end(&self, slot: &Arc<Slot>, why: &str, permit: Permit<'_>) -> Result<Ended, Status> {
        if matches!(slot.status(), SlotStatus::Starting) {
            slot.cancel();
        } else {
            let dir = control::session_dir(&self.agent.settings().session.run_dir, slot.id);
            let request = Ask::Terminate { reason: EndReason::Terminated, detail: one_line(why) };
            if let Err(error) = link::ask(&dir, &request).await {
                // Its end may be under way; the link makes out what became of it.
                tracing::info!(%error, "the session's monitor does not answer");
            }
        }
        // The deed is done; a higher promise need not wait for the last process.
        drop(permit);
        let done = slot.over(END_MAX).await;
        done.map(|done| done.ended()).ok_or_else(|| {
            Status::deadline_exceeded(format!("session {} is still ending", slot.id))
        })
    }

    async fn verify_session(
        &self,
        id: SessionId,
        client: Option<StartParams>,
    ) -> verify_response::Result {
        use verify_response::Result::{Alive, Gone};
        if let Some(slot) = self.agent.registry.slot(id) {
            if matches!(slot.status(), SlotStatus::Starting) {
                return Alive(report::live(&slot.live()));
            }
            if slot.is_alive() {
                if let Some(client) = client {
                    client::came(&self.agent, &slot, client).await;
                }
                return Alive(report::live(&slot.live()));
            }
            let story = slot.over(STORY_MAX).await;
            let done =
                story.unwrap_or_else(|| made_out(id, EndReason::XServer, "its X server is gone"));
            return Gone((&done.ended()).into());
        }
        let done = self.agent.registry.done(id);
        let done = done
            .unwrap_or_else(|| made_out(id, EndReason::Lost, "the agent knows no such session"));
        Gone((&done.ended()).into())
    }

    /// Makes durable that an id may never run. One that cannot be kept is forbidden until a restart, and its caller
    /// asks again.
    async fn keep(&self, Forbidden { done, forget }: Forbidden) -> Result<(), Status> {
        let store = self.agent.store.clone();
        tokio::task::spawn_blocking(move || store.save_done(&done))
            .await
            .map_err(std::io::Error::other)
            .and_then(|result| result)
            .map_err(|error| {
                Status::resource_exhausted(format!("the cancel cannot be kept: {error}"))
            })?;
        link::forget_on_disk(&self.agent, forget);
        Ok(())
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
        let started =
            self.start_session(&fence, session, limits, resources).instrument(span).await?;
        let result = Some(started);
        Ok(Response::new(StartResponse { result }))
    }

    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<VerifyResponse>, Status> {
        self.check_caller(request.extensions())?;
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
        let mut result = self.verify_session(id, client).await;
        if let (verify_response::Result::Alive(live), Some(standing)) = (&mut result, standing) {
            live.standing = Some((&standing).into());
        }
        let result = Some(result);
        Ok(Response::new(VerifyResponse { result }))
    }

    async fn terminate(
        &self,
        request: Request<TerminateRequest>,
    ) -> Result<Response<TerminateResponse>, Status> {
        use terminate_response::Result as Answer;
        let broker = self.check_caller(request.extensions())?;
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let id = convert::text("id", &request.get_ref().id)?;
        let permit = match self.admit(&fence).await {
            Ok(permit) => permit,
            Err(Denied::Fenced(epoch)) => {
                let result = Some(Answer::Fenced(fenced(&epoch)));
                return Ok(Response::new(TerminateResponse { result }));
            }
            Err(Denied::Status(status)) => return Err(status),
        };
        let ended = match self.agent.registry.slot(id) {
            Some(slot) => {
                let why = format!("ended at the request of broker {broker}");
                let span = span::session(&slot.session());
                self.end(&slot, &why, permit).instrument(span).await?
            }
            None => {
                let done = self.agent.registry.done(id);
                done.unwrap_or_else(|| {
                    made_out(id, EndReason::Lost, "the agent knows no such session")
                })
                .ended()
            }
        };
        let result = Some(Answer::Ended((&ended).into()));
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
        let slot = self.agent.registry.slot(id).ok_or_else(|| no_session(id))?;
        let dir = control::session_dir(&self.agent.settings().session.run_dir, slot.id);
        match link::ask(&dir, &Ask::Disconnect { reason: one_line(&reason) }).await {
            Ok(Event::Disconnected { was_connected }) => {
                Ok(Response::new(DisconnectViewerResponse { was_connected }))
            }
            Ok(other) => Err(Status::internal(format!("the session answered {other:?}"))),
            Err(error) => Err(Status::unavailable(format!("the session does not answer: {error}"))),
        }
    }

    async fn set_limits(
        &self,
        request: Request<SetLimitsRequest>,
    ) -> Result<Response<SetLimitsResponse>, Status> {
        use set_limits_response::Result as Answer;
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let sessions = limits::parse(request.into_inner().sessions)?;
        match self.admit(&fence).await {
            // Not held until all is done, which may take seconds where a session hangs. If a broker with other words is
            // promised meanwhile, it sees in its report what came of these, and says its own again.
            Ok(permit) => drop(permit),
            Err(Denied::Fenced(epoch)) => {
                let result = Some(Answer::Fenced(fenced(&epoch)));
                return Ok(Response::new(SetLimitsResponse { result }));
            }
            Err(Denied::Status(status)) => return Err(status),
        }
        let not_set = limits::set(&self.agent, sessions).await;
        Ok(Response::new(SetLimitsResponse { result: Some(Answer::Set(LimitsSet { not_set })) }))
    }

    async fn extend(
        &self,
        request: Request<ExtendRequest>,
    ) -> Result<Response<ExtendResponse>, Status> {
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        let id: SessionId = convert::text("id", &request.into_inner().id)?;
        let unknown = || Status::not_found(format!("there is no session {id} here"));
        let slot = self.agent.registry.slot(id).ok_or_else(unknown)?;
        Ok(Response::new(limits::extend(&self.agent, &slot).await?))
    }

    async fn notify(
        &self,
        request: Request<NotifyRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        drop(self.acts(request.extensions(), request.get_ref().fence.clone()).await?);
        Ok(Response::new(notice::show(&self.agent, request.into_inner()).await?))
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
        let text = text.map_err(|error| Status::internal(format!("the log: {error}")))?;
        Ok(Response::new(SessionLogResponse { text }))
    }

    async fn accept_key(
        &self,
        request: Request<AcceptKeyRequest>,
    ) -> Result<Response<AcceptKeyResponse>, Status> {
        let permit = self.acts(request.extensions(), request.get_ref().fence.clone()).await?;
        let accepted = keys::accept(&self.agent, request.into_inner()).await?;
        drop(permit);
        Ok(Response::new(accepted))
    }

    async fn allow_shadow(
        &self,
        request: Request<AllowShadowRequest>,
    ) -> Result<Response<AllowShadowResponse>, Status> {
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        drop(self.admit(&fence).await?);
        let answer = shadow::allow(&self.agent, request.into_inner()).await?;
        // The user may have taken their time. A right that nobody is told of lets nobody in.
        self.agent.fence.check(&fence).await?;
        Ok(Response::new(answer))
    }

    async fn cancel_start(
        &self,
        request: Request<CancelStartRequest>,
    ) -> Result<Response<CancelStartResponse>, Status> {
        use cancel_start_response::Result as Answer;
        let fence = self.right(request.extensions(), request.get_ref().fence.clone())?;
        let id: SessionId = convert::text("id", &request.get_ref().id)?;
        let permit = match self.admit(&fence).await {
            Ok(permit) => permit,
            Err(Denied::Fenced(epoch)) => {
                let result = Some(Answer::Fenced(fenced(&epoch)));
                return Ok(Response::new(CancelStartResponse { result }));
            }
            Err(Denied::Status(status)) => return Err(status),
        };
        let outcome = Outcome::Refused(Refused::new(Refusal::Cancelled, "the start was cancelled"));
        let done = Done { id, at: clock::unix_millis(), outcome };
        match self.agent.registry.forbid(&done, &self.agent.settings()) {
            // Running or not: a start that is cancelled was never handed to anybody.
            Err(slot) => drop(self.end(&slot, "its start was cancelled", permit).await?),
            Ok(forbidden) => self.keep(forbidden).await?,
        }
        Ok(Response::new(CancelStartResponse { result: Some(Answer::Cancelled(Cancelled {})) }))
    }

    type ReportStream = report::Items;

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<report::Items>, Status> {
        let name = self.check_caller(request.extensions())?;
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
        self.check_caller(request.extensions())?;
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
        let done =
            self.agent.fence.quarantine(lineage, journal_id, journal).await.map_err(|error| {
                Status::resource_exhausted(format!("cannot set the promise aside: {error}"))
            })?;
        Ok(Response::new(QuarantineResponse { done }))
    }
}
