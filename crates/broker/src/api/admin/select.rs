//! Which sessions an administrator means, and the list of them, page by page.

use std::{collections::BTreeSet, sync::Arc};

use tonic::Status;
use vsm_core::{AgentName, Session, SessionId, Standing, UnixMillis, UserName};
use vsm_daemon::clock;
use vsm_proto::{
    admin::v1 as pb,
    broker::v1::{SessionCondition, SessionView},
    convert,
};

use crate::{
    api::{Edge, caller, view::Viewer},
    site::settings::Settings,
    users::LookupError,
};

/// Sessions in one message of a list.
pub(super) const PAGE: usize = 256;

/// A parsed selector: all that are set must match.
#[derive(Debug, Clone)]
pub(super) struct Selector {
    id: Option<String>,
    user: Option<UserName>,
    agents: Option<BTreeSet<AgentName>>,
    display: Option<u32>,
    condition: Option<SessionCondition>,
    older_than_ms: u64,
}

impl Selector {
    /// Parses; nothing set selects everything. A user, an agent or a subcluster that there is not is refused: it is a
    /// slip of the pen, and an empty list would say something else.
    pub(super) async fn parse(selector: pb::SessionSelector, edge: &Edge) -> Result<Self, Status> {
        let condition = SessionCondition::try_from(selector.condition)
            .map_err(|_| Status::invalid_argument("selector.condition: no such condition"))?;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let id = some(selector.id);
        if let Some(id) = id.as_ref().filter(|id| !is_id(id)) {
            return Err(Status::invalid_argument(format!(
                "selector.id: {id:?} is neither a session id nor the last 6 or more digits of one"
            )));
        }
        let settings = edge.site.settings();
        let of_agent = some(selector.agent).map(|name| agent(edge, &settings, &name));
        let of_subcluster = some(selector.subcluster).map(|name| subcluster(&settings, &name));
        let agents = match (of_agent.transpose()?, of_subcluster.transpose()?) {
            (Some(agent), Some(agents)) => {
                Some(agents.into_iter().filter(|a| *a == agent).collect())
            }
            (Some(agent), None) => Some([agent].into()),
            (None, agents) => agents,
        };
        let user = match some(selector.user) {
            Some(name) => Some(user(edge, &name).await?),
            None => None,
        };
        Ok(Self {
            id,
            user,
            agents,
            display: Some(selector.display).filter(|display| *display != 0),
            condition: Some(condition).filter(|c| *c != SessionCondition::Unspecified),
            older_than_ms: selector.older_than_seconds.saturating_mul(1000),
        })
    }

    /// Whether the record matches; what only the links know is for [`Selector::shown`] to say.
    fn matches(&self, session: &Session, now: UnixMillis) -> bool {
        self.id.as_ref().is_none_or(|id| session.id.ends_with(id))
            && self.user.as_ref().is_none_or(|user| session.user == *user)
            && self.agents.as_ref().is_none_or(|agents| agents.contains(&session.agent))
            && self.display.is_none_or(|display| session.state.display() == Some(display))
            && now.0.saturating_sub(session.created.0) >= self.older_than_ms
    }

    /// The records that match, oldest first.
    pub(super) fn records(&self, edge: &Edge) -> Vec<Arc<Session>> {
        let now = clock::unix_millis();
        if let Some(id) = self.id.as_ref().and_then(|id| id.parse::<SessionId>().ok()) {
            let one = edge.sessions.session(id).filter(|session| self.matches(session, now));
            return one.into_iter().collect();
        }
        let unvoted = edge.sessions.unvoted();
        let mut found: Vec<_> = edge.table.read(|view| {
            let all = view.table.sessions().chain(&unvoted);
            all.filter(|session| self.matches(session, now)).cloned().collect()
        });
        if !unvoted.is_empty() {
            found.sort_by_key(|session| session.id);
        }
        found
    }

    /// The sessions that match an id, and of the only one how it stands at this moment; none = no id is asked for.
    pub(super) async fn by_id(&self, edge: &Edge) -> Option<pb::ListSessionsResponse> {
        self.id.as_ref()?;
        let records = self.records(edge);
        let standing = match records.as_slice() {
            [session] => standing(edge, session).await,
            _ => None,
        };
        let mut viewer = Viewer::new(edge);
        let shown =
            records.iter().take(PAGE).filter_map(|session| self.shown(&mut viewer, session));
        let mut sessions: Vec<SessionView> = shown.collect();
        if let ([view], Some(standing)) = (sessions.as_mut_slice(), standing) {
            view.standing = Some((&standing).into());
        }
        Some(pb::ListSessionsResponse { sessions })
    }

    /// A session as it is shown, if it matches in all.
    pub(super) fn shown(&self, viewer: &mut Viewer<'_>, session: &Session) -> Option<SessionView> {
        let view = viewer.view(session);
        self.condition.is_none_or(|wanted| view.condition() == wanted).then_some(view)
    }
}

/// As the session itself says; one that cannot be asked is shown as it last stood.
async fn standing(edge: &Edge, session: &Session) -> Option<Standing> {
    let link = edge.agents.link(&session.agent).filter(|link| link.is_up())?;
    link.standing(session.id).await.ok().flatten()
}

fn is_id(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    digits >= 6 && text.len() <= 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Somebody who has sessions is known, whatever the user database says by now; while it does not answer everybody is.
async fn user(edge: &Edge, name: &str) -> Result<UserName, Status> {
    let user: UserName = convert::text("selector.user", name)?;
    let known = || edge.table.read(|view| view.table.of_user(&user).next().is_some());
    if !known() && matches!(edge.site.users.uid(&user).await, Err(LookupError::BadName(_))) {
        return Err(caller::no_such_user(edge, &user));
    }
    Ok(user)
}

fn agent(edge: &Edge, settings: &Settings, name: &str) -> Result<AgentName, Status> {
    let agent: AgentName = convert::text("selector.agent", name)?;
    let used = || edge.table.read(|view| view.table.agent_use(&agent).is_some());
    if settings.agents().contains_key(&agent) || used() {
        return Ok(agent);
    }
    Err(Status::not_found(format!("there is no agent {name}")))
}

fn subcluster(settings: &Settings, name: &str) -> Result<BTreeSet<AgentName>, Status> {
    let named = |(agent, its): (&AgentName, &crate::site::settings::AgentSettings)| {
        its.subclusters.iter().any(|other| other == name).then(|| agent.clone())
    };
    let agents: BTreeSet<AgentName> = settings.agents().iter().filter_map(named).collect();
    if agents.is_empty() {
        return Err(Status::not_found(format!("there is no subcluster {name} with agents")));
    }
    Ok(agents)
}

/// The list, made page by page as it is read.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) edge: Arc<Edge>,
    pub(super) selector: Selector,
    pub(super) sessions: std::vec::IntoIter<Arc<Session>>,
}

impl Pages {
    pub(super) fn new(edge: Arc<Edge>, selector: Selector) -> Self {
        let sessions = selector.records(&edge).into_iter();
        Self { edge, selector, sessions }
    }
}

impl Iterator for Pages {
    type Item = Result<pb::ListSessionsResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut viewer = Viewer::new(&self.edge);
        let selector = &self.selector;
        let shown =
            self.sessions.by_ref().filter_map(|session| selector.shown(&mut viewer, &session));
        let sessions: Vec<SessionView> = shown.take(PAGE).collect();
        (!sessions.is_empty()).then_some(Ok(pb::ListSessionsResponse { sessions }))
    }
}
