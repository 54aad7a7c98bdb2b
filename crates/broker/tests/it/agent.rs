//! A session host with no desktops behind it: the agent's real protocol on an address of loopback, which does what it
//! is asked unless a test says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::RoutesBuilder};
use vsm_daemon::{
    access::{ByRole, Guard},
    grpc,
};
use vsm_proto::{
    agent::v1::{
        self as pb, agent_server::AgentServer, cancel_start_response, renew_certificate_response,
        report_response::Item, set_limits_response, start_response, terminate_response,
        verify_response,
    },
    session::v1::{EndReason, Ended, LiveSession, Session, SessionState},
};

use super::lab::Authority;

/// What a host says at each report, in place of the truth.
type Says = Box<dyn FnMut() -> Vec<Item> + Send>;

type Items = Pin<Box<dyn Stream<Item = Result<pb::ReportResponse, Status>> + Send>>;

/// What a start comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// It runs.
    Runs,
    /// It never will, with this word for it.
    Refused(pb::StartRefusal),
    /// It has promised to a broker this much above whoever asks.
    Fenced(u64),
    /// It is answered with nothing.
    Empty,
    /// It runs, and the answer is lost.
    RunsUnheard,
    /// It runs, and the host loses its network before it answers.
    RunsAndIsGone,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    /// Ids that may never run.
    forbidden: BTreeSet<String>,
    /// The next starts; then each runs.
    starts: VecDeque<Start>,
    /// All that was asked: the call, and the session.
    asked: Vec<(&'static str, String)>,
    says: Option<Says>,
    /// What comes of renewing its certificate; none = it is of an older version.
    renews: Option<renew_certificate_response::Result>,
}

/// What the server and the test share.
#[derive(Clone)]
struct Agent {
    number: u8,
    state: Arc<Mutex<State>>,
    tells: broadcast::Sender<Item>,
    /// Of the server that runs.
    stop: CancellationToken,
}

/// The host.
pub(crate) struct Host {
    pub(crate) name: String,
    agent: Agent,
    port: u16,
    tls: vsm_daemon::tls::Tls,
    server: Option<JoinHandle<()>>,
}

/// The address of a host of this test.
pub(crate) fn name_of(number: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{number}", high.max(1))
}

impl Host {
    /// Hosts on addresses of this test's own, all on one port, which the broker's settings have. A port on an address
    /// that others use too may be taken while its host is down.
    pub(crate) async fn several(authority: &Authority, count: u8) -> (u16, Vec<Self>) {
        let mut hosts: Vec<Self> = Vec::new();
        let mut port = 0;
        for number in 2..2 + count {
            let name = name_of(number);
            let agent = Agent {
                number,
                state: Arc::default(),
                tells: broadcast::channel(16).0,
                stop: CancellationToken::new(),
            };
            let tls = authority.issue("agent", &name);
            let mut host = Self { name, agent, port, tls, server: None };
            host.up().await;
            port = host.port;
            hosts.push(host);
        }
        (port, hosts)
    }

    /// Comes up, with all that ran.
    pub(crate) async fn up(&mut self) {
        if let Some(former) = self.server.take() {
            former.await.unwrap();
        }
        let listener = TcpListener::bind((self.name.as_str(), self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        self.agent.stop = CancellationToken::new();
        let mut routes = RoutesBuilder::default();
        routes.add_service(AgentServer::new(self.agent.clone()));
        let (tls, stop) = (self.tls.clone(), self.agent.stop.clone());
        self.server = Some(tokio::spawn(async move {
            // A connection that is cut is no failure here.
            drop(grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(ByRole), stop).await);
        }));
    }

    /// Nobody reaches it any more; what runs goes on.
    pub(crate) fn down(&self) {
        self.agent.stop.cancel();
    }

    /// What its next starts come to.
    pub(crate) fn starts(&self, starts: impl IntoIterator<Item = Start>) {
        self.agent.state().starts.extend(starts);
    }

    /// What runs here.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.agent.state().sessions.keys().cloned().collect()
    }

    /// How often this was asked.
    pub(crate) fn asked(&self, call: &str) -> usize {
        self.agent.state().asked.iter().filter(|(asked, _)| *asked == call).count()
    }

    /// How many brokers' reports were opened.
    pub(crate) fn reports(&self) -> usize {
        self.asked("report")
    }

    /// It is in the wrong hands: each report has this, and ends.
    pub(crate) fn says(&self, says: impl FnMut() -> Vec<Item> + Send + 'static) {
        self.agent.state().says = Some(Box::new(says));
    }

    /// What comes of renewing its certificate from now on.
    pub(crate) fn renews(&self, answer: renew_certificate_response::Result) {
        self.agent.state().renews = Some(answer);
    }

    /// Something runs here that no broker asked for.
    pub(crate) fn runs(&self, session: Session) {
        self.agent.state().sessions.insert(session.id.clone(), session);
    }

    /// A desktop is gone, and nobody is told.
    pub(crate) fn forgets(&self, id: &str) {
        assert!(self.agent.state().sessions.remove(id).is_some());
    }

    /// A user logs out.
    pub(crate) fn logs_out(&self, id: &str) {
        self.forgets(id);
        let ended = Ended { reason: EndReason::Logout.into(), ..ended(id, "the user logged out") };
        self.agent.tells.send(Item::Ended(ended)).unwrap();
    }
}

fn ended(id: &str, detail: &str) -> Ended {
    Ended {
        id: id.to_owned(),
        reason: EndReason::Lost.into(),
        detail: detail.to_owned(),
        at_unix_ms: 1,
    }
}

fn live(session: &Session) -> LiveSession {
    LiveSession { session: Some(session.clone()), ..LiveSession::default() }
}

impl Agent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A call about a session, noted.
    fn about(&self, call: &'static str, id: &str) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.asked.push((call, id.to_owned()));
        state
    }
}

#[tonic::async_trait]
impl pb::agent_server::Agent for Agent {
    type ReportStream = Items;

    async fn start(
        &self,
        request: Request<pb::StartRequest>,
    ) -> Result<Response<pb::StartResponse>, Status> {
        let pb::StartRequest { session, fence, .. } = request.into_inner();
        let session = session.unwrap();
        let answer = |result| Ok(Response::new(pb::StartResponse { result: Some(result) }));
        let start = {
            let mut state = self.about("start", &session.id);
            if let Some(runs) = state.sessions.get(&session.id) {
                return answer(start_response::Result::Started(runs.clone()));
            }
            let start = state.starts.pop_front().unwrap_or(Start::Runs);
            let may_run = matches!(start, Start::Runs | Start::RunsUnheard | Start::RunsAndIsGone);
            if may_run && !state.forbidden.contains(&session.id) {
                let display = 10 + u32::try_from(state.sessions.len()).unwrap();
                let running = SessionState::Running.into();
                let runs = Session { display, state: running, ..session.clone() };
                state.sessions.insert(session.id.clone(), runs);
            }
            start
        };
        let runs = self.state().sessions.get(&session.id).cloned();
        match (start, runs) {
            (Start::Runs, Some(runs)) => {
                // Nobody need follow its report.
                let _ = self.tells.send(Item::Changed(live(&runs)));
                answer(start_response::Result::Started(runs))
            }
            (Start::Refused(reason), _) => {
                let detail = format!("no: {}", reason.as_str_name());
                let refused = pb::StartRefused { reason: reason.into(), detail };
                answer(start_response::Result::Refused(refused))
            }
            (Start::Fenced(above), _) => {
                let mut promised = fence.unwrap().epoch.unwrap();
                promised.counter += above;
                answer(start_response::Result::Fenced(pb::Fenced { promised: Some(promised) }))
            }
            (Start::Empty, _) => Ok(Response::new(pb::StartResponse { result: None })),
            (_, None) => {
                let reason = pb::StartRefusal::Cancelled.into();
                let refused = pb::StartRefused { reason, detail: "it was cancelled".to_owned() };
                answer(start_response::Result::Refused(refused))
            }
            (Start::RunsUnheard, _) => Err(Status::unavailable("the answer is lost")),
            (Start::RunsAndIsGone, _) => {
                self.stop.cancel();
                Err(Status::unavailable("the connection is gone"))
            }
        }
    }

    async fn verify(
        &self,
        request: Request<pb::VerifyRequest>,
    ) -> Result<Response<pb::VerifyResponse>, Status> {
        use verify_response::Result::{Alive, Gone};
        let id = request.into_inner().id;
        let state = self.about("verify", &id);
        let result = match state.sessions.get(&id) {
            Some(session) => Alive(live(session)),
            None => Gone(ended(&id, "the host was restarted")),
        };
        Ok(Response::new(pb::VerifyResponse { result: Some(result) }))
    }

    async fn terminate(
        &self,
        request: Request<pb::TerminateRequest>,
    ) -> Result<Response<pb::TerminateResponse>, Status> {
        let id = request.into_inner().id;
        self.about("terminate", &id).sessions.remove(&id);
        let result = Some(terminate_response::Result::Ended(ended(&id, "ended as asked")));
        Ok(Response::new(pb::TerminateResponse { result }))
    }

    async fn cancel_start(
        &self,
        request: Request<pb::CancelStartRequest>,
    ) -> Result<Response<pb::CancelStartResponse>, Status> {
        let id = request.into_inner().id;
        let mut state = self.about("cancel", &id);
        state.sessions.remove(&id);
        state.forbidden.insert(id);
        let result = Some(cancel_start_response::Result::Cancelled(pb::Cancelled {}));
        Ok(Response::new(pb::CancelStartResponse { result }))
    }

    async fn set_revoked(
        &self,
        request: Request<pb::SetRevokedRequest>,
    ) -> Result<Response<pb::SetRevokedResponse>, Status> {
        let names = request.into_inner().identities.into_iter().map(|one| one.name);
        self.state().asked.extend(names.map(|name| ("set_revoked", name)));
        Ok(Response::new(pb::SetRevokedResponse {}))
    }

    async fn renew_certificate(
        &self,
        _: Request<pb::RenewCertificateRequest>,
    ) -> Result<Response<pb::RenewCertificateResponse>, Status> {
        let renews = self.about("renew", "").renews.clone();
        match renews {
            None => Err(Status::unimplemented("")),
            Some(answer) => {
                Ok(Response::new(pb::RenewCertificateResponse { result: Some(answer) }))
            }
        }
    }

    async fn set_limits(
        &self,
        _: Request<pb::SetLimitsRequest>,
    ) -> Result<Response<pb::SetLimitsResponse>, Status> {
        let result = Some(set_limits_response::Result::Set(pb::LimitsSet::default()));
        Ok(Response::new(pb::SetLimitsResponse { result }))
    }

    async fn report(&self, _: Request<pb::ReportRequest>) -> Result<Response<Items>, Status> {
        let inventory = pb::Inventory {
            public_name: format!("desk{}", self.number),
            sessions: self.state().sessions.values().map(live).collect(),
            version: "1".to_owned(),
            journal_id: self.number.into(),
            ..pb::Inventory::default()
        };
        let said = self.about("report", "").says.as_mut().map(|says| says());
        if let Some(items) = said {
            let items = items.into_iter().map(|item| Ok(pb::ReportResponse { item: Some(item) }));
            return Ok(Response::new(Box::pin(tokio_stream::iter(items.collect::<Vec<_>>()))));
        }
        let (sender, items) = mpsc::channel(16);
        let (mut told, stop) = (self.tells.subscribe(), self.stop.clone());
        tokio::spawn(async move {
            let mut next = Item::Inventory(inventory);
            loop {
                let item = pb::ReportResponse { item: Some(next) };
                if sender.send(Ok(item)).await.is_err() {
                    return;
                }
                // A host that is gone holds no report open.
                next = tokio::select! {
                    () = stop.cancelled() => return,
                    item = told.recv() => item.unwrap(),
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(items))))
    }

    async fn disconnect_viewer(
        &self,
        request: Request<pb::DisconnectViewerRequest>,
    ) -> Result<Response<pb::DisconnectViewerResponse>, Status> {
        drop(self.about("disconnect", &request.into_inner().id));
        Ok(Response::new(pb::DisconnectViewerResponse { was_connected: true }))
    }

    async fn extend(
        &self,
        _: Request<pb::ExtendRequest>,
    ) -> Result<Response<pb::ExtendResponse>, Status> {
        Err(Status::unimplemented("extend"))
    }

    async fn notify(
        &self,
        _: Request<pb::NotifyRequest>,
    ) -> Result<Response<pb::NotifyResponse>, Status> {
        Err(Status::unimplemented("notify"))
    }

    async fn session_log(
        &self,
        _: Request<pb::SessionLogRequest>,
    ) -> Result<Response<pb::SessionLogResponse>, Status> {
        Err(Status::unimplemented("log"))
    }

    async fn accept_key(
        &self,
        _: Request<pb::AcceptKeyRequest>,
    ) -> Result<Response<pb::AcceptKeyResponse>, Status> {
        Err(Status::unimplemented("key"))
    }

    async fn allow_shadow(
        &self,
        _: Request<pb::AllowShadowRequest>,
    ) -> Result<Response<pb::AllowShadowResponse>, Status> {
        Err(Status::unimplemented("shadow"))
    }
}
