//! The administrator's API on the local admin socket, which only root and the admin group can open. A standby forwards
//! to the active node.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, transport::Channel};
use vsm_core::{AgentName, AgentUse, Session, SessionId};
use vsm_proto::{
    admin::v1::{self as pb, admin_client::AdminClient, admin_server::Admin},
    convert,
};

use crate::{
    agents::LinkState,
    broker::Broker,
    ending,
    ha::{
        api,
        place::{self, Place},
    },
    settings::AgentSettings,
    view::Viewer,
};

/// A list as it is streamed.
type Sessions = Pin<Box<dyn Stream<Item = Result<pb::ListSessionsResponse, Status>> + Send>>;

/// Sessions in one message of a list.
const PAGE: usize = 256;

/// Sessions that one call may end.
const TERMINATE_MAX: usize = 65_536;
/// Sessions that are ended at a time: each takes its agent some work.
const TERMINATE_TOGETHER: usize = 64;

/// The service.
#[derive(Debug, Clone)]
pub struct AdminApi {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Whether it is served to the other broker, over mutual TLS, and not on the local socket.
    pub remote: bool,
}

/// A parsed selector: all that are set must match.
#[derive(Debug)]
struct Selector {
    id: Option<SessionId>,
    user: Option<String>,
    agent: Option<String>,
    display: Option<u32>,
}

impl Selector {
    /// Parses; nothing set selects everything.
    fn parse(selector: pb::SessionSelector) -> Result<Self, Status> {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let id = some(selector.id).map(|id| convert::text("selector.id", &id)).transpose()?;
        let display = Some(selector.display).filter(|display| *display != 0);
        Ok(Self { id, user: some(selector.user), agent: some(selector.agent), display })
    }

    fn matches(&self, session: &Session) -> bool {
        self.id.is_none_or(|id| session.id == id)
            && self.user.as_deref().is_none_or(|user| session.user.as_str() == user)
            && self.agent.as_deref().is_none_or(|agent| session.agent.as_str() == agent)
            && self.display.is_none_or(|display| session.state.display() == Some(display))
    }
}

impl AdminApi {
    /// Where to serve: here, or on the active node.
    async fn place<T>(&self, request: &Request<T>) -> Result<Option<AdminClient<Channel>>, Status> {
        if self.remote {
            place::check_peer(&self.broker, request)?;
        }
        Ok(match place::find(&self.broker, request).await {
            Ok(Place::There(channel)) => Some(AdminClient::new(channel)),
            // While nobody is active each node shows what it has.
            Ok(Place::Here) | Err(_) => None,
        })
    }

    fn select(&self, selector: &Selector) -> Vec<Arc<Session>> {
        self.broker
            .table
            .read(|view| view.table.sessions().filter(|s| selector.matches(s)).cloned().collect())
    }
}

#[tonic::async_trait]
impl Admin for AdminApi {
    type ListSessionsStream = Sessions;

    async fn list_sessions(
        &self,
        request: Request<pb::SessionSelector>,
    ) -> Result<Response<Sessions>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            let list = there.list_sessions(place::forwarded(request.into_inner(), None)).await?;
            return Ok(list.map(|list| Box::pin(list) as Sessions));
        }
        let selector = Selector::parse(request.into_inner())?;
        let sessions = self.select(&selector);
        let broker = Arc::clone(&self.broker);
        Ok(Response::new(Box::pin(tokio_stream::iter(Pages { broker, sessions, next: 0 }))))
    }

    async fn terminate_sessions(
        &self,
        request: Request<pb::TerminateSessionsRequest>,
    ) -> Result<Response<pb::TerminateSessionsResponse>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            let actor = place::admin(&self.broker, &request).await;
            let request = place::forwarded_for(request.into_inner(), &actor);
            return there.terminate_sessions(request).await;
        }
        let ids = request.into_inner().ids;
        if ids.is_empty() || ids.len() > TERMINATE_MAX {
            return Err(Status::invalid_argument(format!(
                "ids: name 1 to {TERMINATE_MAX} sessions"
            )));
        }
        let ids: Vec<SessionId> =
            ids.iter().map(|id| convert::text("ids", id)).collect::<Result<_, _>>()?;
        let sessions: Vec<_> = self
            .broker
            .table
            .read(|view| ids.iter().filter_map(|id| view.table.session(*id)).cloned().collect());
        let together = Arc::new(Semaphore::new(TERMINATE_TOGETHER));
        let mut under_way = JoinSet::new();
        for session in sessions {
            tracing::info!(session = %session.id, user = %session.user, "an administrator ends a session");
            let (broker, together) = (Arc::clone(&self.broker), Arc::clone(&together));
            under_way.spawn(async move {
                // Never closed; were it, ending without a turn would only be less orderly.
                let _turn = together.acquire_owned().await;
                terminate(&broker, &session).await
            });
        }
        let terminated = under_way.join_all().await;
        Ok(Response::new(pb::TerminateSessionsResponse { terminated }))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            return there.list_agents(place::forwarded(request.into_inner(), None)).await;
        }
        let settings = self.broker.settings();
        let uses: BTreeMap<AgentName, (AgentUse, u64)> = self.broker.table.read(|view| {
            let penalty =
                u64::try_from(settings.agent_failure_penalty.as_millis()).unwrap_or(u64::MAX);
            let until =
                |agent| view.table.failed_at(agent).map_or(0, |at| at.0.saturating_add(penalty));
            let names = settings.agents().keys().chain(view.table.agents_in_use());
            let used = |agent: &AgentName| view.table.agent_use(agent).cloned().unwrap_or_default();
            names.map(|agent| (agent.clone(), (used(agent), until(agent)))).collect()
        });
        let now = vsm_daemon::clock::unix_millis().0;
        let agents = uses.into_iter().map(|(name, (used, until))| {
            let penalised_until_unix_ms = if until > now { until } else { 0 };
            let view = pb::AgentView {
                penalised_until_unix_ms,
                ..agent_view(&self.broker, &name, settings.agents().get(&name))
            };
            pb::AgentView { users: used.users(), sessions: used.sessions(), ..view }
        });
        Ok(Response::new(pb::ListAgentsResponse { agents: agents.collect() }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        if self.remote {
            place::check_peer(&self.broker, &request)?;
        }
        let (epoch, last_seq, sessions) = self
            .broker
            .table
            .read(|view| (view.epoch.clone(), view.last_seq, view.table.sessions().len()));
        Ok(Response::new(pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.broker.node.to_string(),
            role: api::role(&self.broker).to_owned(),
            epoch: Some((&epoch).into()),
            lineage: self.broker.table.fence().lineage.to_string(),
            last_seq,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            started_unix_ms: self.broker.started.0,
        }))
    }
}

async fn terminate(broker: &Arc<Broker>, session: &Arc<Session>) -> pb::Terminated {
    let outcome = match ending::end(broker, session).await {
        Ok(outcome) => outcome,
        Err(refusal) => Err(refusal.to_string()),
    };
    let (done, detail) = (outcome.is_ok(), outcome.err().unwrap_or_default());
    pb::Terminated { session: Some(session.as_ref().into()), done, detail }
}

fn agent_view(
    broker: &Broker,
    name: &AgentName,
    settings: Option<&AgentSettings>,
) -> pb::AgentView {
    let mut view = pb::AgentView {
        name: name.to_string(),
        weight: settings.map_or(0, |s| s.weight),
        // One that is in no subcluster any more takes no new sessions either.
        draining: settings.is_none_or(|s| s.draining),
        subclusters: settings.map(|s| s.subclusters.clone()).unwrap_or_default(),
        ..pb::AgentView::default()
    };
    match broker.agents.link(name).map(|link| link.state()) {
        Some(LinkState::Up(up)) => {
            view.set_state(pb::AgentState::Up);
            view.since_unix_ms = up.since.0;
            view.public_name.clone_from(&up.public_name);
            view.version.clone_from(&up.version);
            view.load = up.load;
        }
        Some(LinkState::Down { why, since }) => {
            view.set_state(pb::AgentState::Down);
            view.since_unix_ms = since.0;
            view.detail = why;
        }
        Some(LinkState::Connecting) | None => {
            view.set_state(pb::AgentState::Down);
            view.since_unix_ms = broker.started.0;
            "not reached yet".clone_into(&mut view.detail);
        }
    }
    view
}

/// The list, made page by page as it is read.
#[derive(Debug)]
pub struct Pages {
    broker: Arc<Broker>,
    sessions: Vec<Arc<Session>>,
    next: usize,
}

impl Iterator for Pages {
    type Item = Result<pb::ListSessionsResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let page = self.sessions.get(self.next..)?;
        let page = &page[..page.len().min(PAGE)];
        if page.is_empty() {
            return None;
        }
        self.next += page.len();
        let mut viewer = Viewer::new(&self.broker);
        let sessions = page.iter().map(|session| viewer.view(session)).collect();
        Some(Ok(pb::ListSessionsResponse { sessions }))
    }
}
