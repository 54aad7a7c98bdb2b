//! What may be asked of the table ([`Proposal`]), what is then committed ([`Change`]), and why not ([`Rejected`]).
//!
//! A proposal is checked against the table and becomes a change; only changes are logged and applied, and applying
//! one never fails on the table that it was checked against.

use std::sync::Arc;

use crate::{
    AgentName, Asked, Drain, Eligible, Event, Identity, IdentityName, NotGiven, RequestId, Rule,
    Session, SessionId, StartParams, UnixMillis, UserName, WebKey, WebKeyId, WebKeysAsked,
    web_key::WEB_KEYS_MAX,
};

/// A session that is wanted but has no agent yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id if it comes to be.
    pub id: SessionId,
    /// Owner.
    pub user: UserName,
    /// The request that asks for it.
    pub request: RequestId,
    /// What the client asked for.
    pub params: StartParams,
}

/// Something asked of the table.
#[derive(Debug, Clone)]
pub enum Proposal {
    /// Promise a new session to a user on the best agent. Placement happens in the same step as the promise, so that
    /// a storm of logins sees every start under way.
    Reserve {
        /// The session.
        draft: Draft,
        /// Most sessions that the user may have; 0 = no limit.
        cap: u32,
        /// Sessions of the user that do not count, as their agents have been silent for too long.
        uncounted: Vec<SessionId>,
        /// Agents to choose from.
        eligible: Arc<[Eligible]>,
        /// How one of them is chosen.
        rule: Rule,
    },
    /// The agent started it.
    Running {
        /// Session.
        id: SessionId,
        /// Display number.
        display: u32,
    },
    /// Give a start up: it may never become running.
    GiveUp {
        /// Session.
        id: SessionId,
        /// Now.
        now: UnixMillis,
    },
    /// The agent holds to a tombstone.
    TombstoneDone {
        /// Session.
        id: SessionId,
    },
    /// Its user or an administrator wants its end.
    End {
        /// Session.
        id: SessionId,
    },
    /// Its agent says that it is gone.
    Gone {
        /// Session.
        id: SessionId,
    },
    /// An agent runs it and the table does not know it.
    Adopt(Session),
    /// Name the agents that vote as witnesses.
    SetRoster(Arc<[AgentName]>),
    /// A start failed by the agent's fault.
    AgentFailed {
        /// Agent.
        agent: AgentName,
        /// When.
        at: UnixMillis,
    },
    /// An agent is to take no new sessions, or takes them again.
    Drain {
        /// Agent.
        agent: AgentName,
        /// By whose word; none = it takes them again.
        mark: Option<Arc<Drain>>,
    },
    /// Something for the trail; it is given its number.
    Note(Event),
    /// Something about a host's identity.
    Identity {
        /// Which.
        name: IdentityName,
        /// What.
        asked: Asked,
    },
    /// Something about the web keys of a user.
    WebKeys {
        /// Whose.
        user: UserName,
        /// What.
        asked: WebKeysAsked,
    },
}

/// A checked change of the table: what the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session in state `starting`.
    Reserved(Arc<Session>),
    /// It runs.
    Running {
        /// Session.
        id: SessionId,
        /// Display number.
        display: u32,
    },
    /// Its start was given up.
    Tombstone {
        /// Session.
        id: SessionId,
        /// The agent that was asked.
        agent: AgentName,
        /// When.
        at: UnixMillis,
    },
    /// The tombstone is no longer needed.
    TombstoneDone {
        /// Session.
        id: SessionId,
    },
    /// Its end was asked for.
    Ending {
        /// Session.
        id: SessionId,
    },
    /// It is gone.
    Gone {
        /// Session.
        id: SessionId,
    },
    /// Found running on its agent.
    Adopted(Arc<Session>),
    /// The agent goes to the back of the queue for a while.
    AgentFailed {
        /// Agent.
        agent: AgentName,
        /// When.
        at: UnixMillis,
    },
    /// A reign began; changes no record. Once it is committed, so is all before it.
    Began {
        /// Whether it is one of a pair; a single server's otherwise.
        pair: bool,
    },
    /// The agents that vote as witnesses from here on.
    Roster(Arc<[AgentName]>),
    /// An agent takes no new sessions by an administrator's word; none = it takes them again.
    Drained {
        /// Agent.
        agent: AgentName,
        /// The word.
        mark: Option<Arc<Drain>>,
    },
    /// An event of the trail.
    Noted(Arc<Event>),
    /// What is remembered of a host's identity from here on.
    Identity {
        /// Which.
        name: IdentityName,
        /// What.
        known: Arc<Identity>,
    },
    /// The web keys that a user has from here on.
    WebKeys {
        /// Whose.
        user: UserName,
        /// Oldest first; empty = none.
        keys: Arc<[WebKey]>,
    },
}

/// What a change touches: the unit in which a state is handed over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A session and its tombstone.
    Session(SessionId),
    /// An agent's failure mark.
    Agent(AgentName),
    /// The witnesses.
    Roster,
    /// Whether an agent is drained by an administrator's word.
    Drain(AgentName),
    /// A place in the ring of events.
    Event(u64),
    /// A host's identity.
    Identity(IdentityName),
    /// The web keys of a user.
    WebKeys(UserName),
}

/// The state of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A session as it is, if it is, and its tombstone, if there is one.
    Session {
        /// Session id.
        id: SessionId,
        /// The record.
        session: Option<Arc<Session>>,
        /// Agent and time of the start that was given up.
        tombstone: Option<(AgentName, UnixMillis)>,
    },
    /// When an agent last failed.
    Agent {
        /// Agent.
        agent: AgentName,
        /// When.
        failed: UnixMillis,
    },
    /// The witnesses.
    Roster(Arc<[AgentName]>),
    /// By whose word an agent takes no new sessions.
    Drain {
        /// Agent.
        agent: AgentName,
        /// The word; none = it takes them.
        mark: Option<Arc<Drain>>,
    },
    /// The event in a place of the ring.
    Event(Arc<Event>),
    /// What is remembered of a host's identity.
    Identity {
        /// Which.
        name: IdentityName,
        /// What.
        known: Arc<Identity>,
    },
    /// The web keys of a user.
    WebKeys {
        /// Whose.
        user: UserName,
        /// Oldest first; empty = none.
        keys: Arc<[WebKey]>,
    },
}

impl Row {
    /// What it is the state of.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Session { id, .. } => Key::Session(*id),
            Self::Agent { agent, .. } => Key::Agent(agent.clone()),
            Self::Roster(_) => Key::Roster,
            Self::Drain { agent, .. } => Key::Drain(agent.clone()),
            Self::Event(event) => Key::Event(event.slot()),
            Self::Identity { name, .. } => Key::Identity(name.clone()),
            Self::WebKeys { user, .. } => Key::WebKeys(user.clone()),
        }
    }
}

impl Change {
    /// The session whose record it touches; none = something else.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Reserved(session) | Self::Adopted(session) => Some(session.id),
            Self::Running { id, .. }
            | Self::Tombstone { id, .. }
            | Self::TombstoneDone { id }
            | Self::Ending { id }
            | Self::Gone { id } => Some(*id),
            Self::AgentFailed { .. }
            | Self::Began { .. }
            | Self::Roster(_)
            | Self::Drained { .. }
            | Self::Noted(_)
            | Self::Identity { .. }
            | Self::WebKeys { .. } => None,
        }
    }

    /// What it touches; none = nothing.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::AgentFailed { agent, .. } => Some(Key::Agent(agent.clone())),
            Self::Roster(_) => Some(Key::Roster),
            Self::Drained { agent, .. } => Some(Key::Drain(agent.clone())),
            Self::Noted(event) => Some(Key::Event(event.slot())),
            Self::Identity { name, .. } => Some(Key::Identity(name.clone())),
            Self::WebKeys { user, .. } => Some(Key::WebKeys(user.clone())),
            Self::Began { .. } => None,
            Self::Reserved(_)
            | Self::Adopted(_)
            | Self::Running { .. }
            | Self::Tombstone { .. }
            | Self::TombstoneDone { .. }
            | Self::Ending { .. }
            | Self::Gone { .. } => self.session().map(Key::Session),
        }
    }
}

/// Why a proposal is not allowed. The table is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The user has as many sessions as they may.
    #[error("{user} has {cap} session(s), which is the limit (/vsmserver/max_sessions_per_user)")]
    AtLimit {
        /// User.
        user: UserName,
        /// The limit.
        cap: u32,
    },
    /// No agent is eligible, or all are full.
    #[error("no agent takes new sessions")]
    NoAgent,
    /// The same request has made a session already.
    #[error("the request has made session {0} already")]
    Repeated(SessionId),
    /// No such session.
    #[error("there is no session {0}")]
    UnknownSession(SessionId),
    /// The start was given up.
    #[error("the start of session {0} was given up")]
    GivenUp(SessionId),
    /// A session that runs cannot be given up as a start.
    #[error("session {0} is running already")]
    AlreadyRunning(SessionId),
    /// The id is in the table already.
    #[error("session {0} is in the table already")]
    IdUsed(SessionId),
    /// An identity is not given what was asked for.
    #[error("{name}: {why}")]
    NotGiven {
        /// Which.
        name: IdentityName,
        /// Why.
        why: NotGiven,
    },
    /// There are as many web keys as are kept.
    #[error("there are {WEB_KEYS_MAX} web keys already, which is the limit of all users together")]
    TooManyWebKeys,
    /// The user has no such web key.
    #[error("{user} has no web key {id}")]
    UnknownWebKey {
        /// User.
        user: UserName,
        /// Web key.
        id: WebKeyId,
    },
}
