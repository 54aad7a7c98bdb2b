//! What `vsm-sync` prints: nodes, the table, and changes, in columns, JSON or YAML.

use serde::Serialize;
use vsm_core::{AgentName, Drain, Row, Session, Table};
use vsm_daemon::event_record::EventRecord;

use super::{node::Standing, pair::Answer};
use crate::{
    exit::Failure,
    output::{self, Columns, Format},
    trail,
};

/// A node of `vsm-sync status`; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub(super) struct NodeRow {
    address: String,
    unreachable: Option<String>,
    /// Changes that another node has committed and this one has not, or has not said so yet.
    lag: Option<u64>,
    #[serde(flatten)]
    standing: Option<Standing>,
}

impl NodeRow {
    pub(super) fn list(answers: Vec<Answer>) -> Vec<Self> {
        let standings = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let most = standings.map(|standing| standing.commit).max().unwrap_or(0);
        let row = |(address, answer): Answer| {
            let (standing, unreachable) = match answer {
                Ok(standing) => (Some(standing), None),
                Err(why) => (None, Some(why)),
            };
            let lag = standing.as_ref().map(|standing| most - standing.commit);
            Self { address: address.to_string(), unreachable, lag, standing }
        };
        answers.into_iter().map(row).collect()
    }

    pub(super) const fn reached(&self) -> bool {
        self.standing.is_some()
    }
}

impl Columns for NodeRow {
    const HEADINGS: &'static [&'static str] =
        &["ADDRESS", "NODE", "ROLE", "SERVES", "EPOCH", "COMMITTED", "LAG", "NOTE"];

    fn cells(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let standing = self.standing.as_ref();
        let cell = |of: fn(&Standing) -> String| standing.map_or_else(dash, of);
        vec![
            self.address.clone(),
            cell(|standing| standing.node.clone()),
            cell(|standing| standing.role.clone()),
            cell(|standing| if standing.ready { "yes".into() } else { "no".into() }),
            cell(|standing| standing.epoch.clone().unwrap_or_else(|| "-".into())),
            cell(|standing| standing.commit.to_string()),
            self.lag.map_or_else(dash, |lag| lag.to_string()),
            self.unreachable.clone().unwrap_or_default(),
        ]
    }
}

/// A session; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub(super) struct SessionRecord {
    session: String,
    user: String,
    agent: String,
    display: u32,
    state: &'static str,
    created: Option<String>,
    start_command: String,
    request: String,
}

impl From<&Session> for SessionRecord {
    fn from(session: &Session) -> Self {
        Self {
            session: session.id.to_string(),
            user: session.user.to_string(),
            agent: session.agent.to_string(),
            display: session.state.display().unwrap_or(0),
            state: session.state.word(),
            created: output::time(session.created.0),
            start_command: session.params.start_command.clone().into(),
            request: session.request.to_string(),
        }
    }
}

impl Columns for SessionRecord {
    const HEADINGS: &'static [&'static str] =
        &["SESSION", "USER", "AGENT", "DISPLAY", "STATE", "CREATED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.session.clone(),
            self.user.clone(),
            self.agent.clone(),
            format!(":{}", self.display),
            self.state.to_owned(),
            self.created.clone().unwrap_or_default(),
        ]
    }
}

/// A start that was given up; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub(super) struct GivenUp {
    session: String,
    agent: String,
    at: Option<String>,
}

/// An agent that failed a start; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct AgentMark {
    agent: String,
    failed: Option<String>,
}

/// An agent that an administrator drained; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct DrainMark {
    agent: String,
    by: String,
    why: String,
    since: Option<String>,
    until: Option<String>,
}

impl DrainMark {
    fn new(agent: &AgentName, mark: &Drain) -> Self {
        Self {
            agent: agent.to_string(),
            by: mark.by.clone(),
            why: mark.why.clone(),
            since: output::time(mark.since.0),
            until: mark.until.and_then(|until| output::time(until.0)),
        }
    }
}

/// The whole table; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub(super) struct Dump {
    from: Standing,
    commit: u64,
    sessions: Vec<SessionRecord>,
    given_up: Vec<GivenUp>,
    agents_failed: Vec<AgentMark>,
    witnesses: Vec<String>,
    drained: Vec<DrainMark>,
    events: Vec<EventRecord>,
}

impl Dump {
    pub(super) fn new(from: Standing, table: &Table, commit: u64) -> Self {
        let given_up = table.tombstones().map(|(id, agent, at)| GivenUp {
            session: id.to_string(),
            agent: agent.to_string(),
            at: output::time(at.0),
        });
        let marks = table.failures().map(|(agent, failed)| AgentMark {
            agent: agent.to_string(),
            failed: output::time(failed.0),
        });
        Self {
            from,
            commit,
            sessions: table.sessions().map(|session| session.as_ref().into()).collect(),
            given_up: given_up.collect(),
            agents_failed: marks.collect(),
            witnesses: table
                .roster()
                .iter()
                .flat_map(|all| all.iter())
                .map(ToString::to_string)
                .collect(),
            drained: table.drains().map(|(agent, mark)| DrainMark::new(agent, mark)).collect(),
            events: table.events_after(0).map(|event| event.as_ref().into()).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = output::table(&self.sessions);
        for stone in &self.given_up {
            text.push_str(&format!("given up: {} on {}\n", stone.session, stone.agent));
        }
        text.push_str(&format!(
            "{} session(s) at change {} of {} ({}, epoch {})\n",
            self.sessions.len(),
            self.commit,
            self.from.node,
            self.from.role,
            self.from.epoch.as_deref().unwrap_or("-"),
        ));
        text
    }
}

/// Something that `vsm-sync follow` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) at: Option<String>,
    pub(super) node: String,
    pub(super) commit: u64,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened; the JSON fields are stable.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum What {
    /// This node is followed from here on, or its role changed.
    Following { role: String, epoch: Option<String> },
    /// The first whole table has come; changes follow.
    Table { sessions: usize },
    /// A session is so now; without record it is gone.
    Session { id: String, record: Option<Box<SessionRecord>>, given_up: Option<GivenUp> },
    /// An agent failed a start.
    AgentFailed { agent: String, failed: Option<String> },
    /// An agent takes no new sessions by an administrator's word, or takes them again.
    Drained { agent: String, by: Option<String>, why: Option<String>, until: Option<String> },
    /// Something that was done or that happened.
    Trail(EventRecord),
    /// What is known of a host's identity changed.
    Identity { name: String, revoked: Option<String> },
    /// The web keys of a user changed.
    WebKeys { user: String, ids: Vec<String> },
    /// The agents that vote from here on.
    Witnesses { witnesses: Vec<String> },
}

impl From<&Row> for What {
    fn from(row: &Row) -> Self {
        match row {
            Row::Session { id, session, tombstone } => Self::Session {
                id: id.to_string(),
                record: session.as_deref().map(|session| Box::new(session.into())),
                given_up: tombstone.as_ref().map(|(agent, at)| GivenUp {
                    session: id.to_string(),
                    agent: agent.to_string(),
                    at: output::time(at.0),
                }),
            },
            Row::Agent { agent, failed } => {
                Self::AgentFailed { agent: agent.to_string(), failed: output::time(failed.0) }
            }
            Row::Drain { agent, mark } => Self::Drained {
                agent: agent.to_string(),
                by: mark.as_ref().map(|mark| mark.by.clone()),
                why: mark.as_ref().map(|mark| mark.why.clone()),
                until: mark.as_ref().and_then(|m| m.until).and_then(|until| output::time(until.0)),
            },
            Row::Event(event) => Self::Trail(event.as_ref().into()),
            Row::Identity { name, known } => Self::Identity {
                name: name.to_string(),
                revoked: known.revoked.as_ref().and_then(|was| output::time(was.before.0)),
            },
            Row::WebKeys { user, keys } => Self::WebKeys {
                user: user.to_string(),
                ids: keys.iter().map(|key| key.id.to_string()).collect(),
            },
            Row::Roster(all) => {
                Self::Witnesses { witnesses: all.iter().map(ToString::to_string).collect() }
            }
        }
    }
}

impl Event {
    /// One line for people and one for JSON, a document for YAML.
    pub(super) fn text(&self, format: Format) -> Result<String, Failure> {
        match format {
            Format::Json | Format::Yaml => output::one_of_many(format, self),
            Format::Table => {
                let at = self.at.as_deref().unwrap_or("-");
                Ok(format!("{at}  {}  {}  {}\n", self.node, self.commit, self.what.words()))
            }
        }
    }
}

impl What {
    fn words(&self) -> String {
        match self {
            Self::Following { role, epoch } => {
                format!("following, {role}, epoch {}", epoch.as_deref().unwrap_or("-"))
            }
            Self::Table { sessions } => format!("{sessions} session(s) so far"),
            Self::Session { id, record: Some(record), .. } => {
                let (user, agent, display) = (&record.user, &record.agent, record.display);
                format!("session {id}  {}  {user} on {agent}:{display}", record.state)
            }
            Self::Session { id, given_up: Some(stone), .. } => {
                format!("session {id}  given up on {}", stone.agent)
            }
            Self::Session { id, .. } => format!("session {id}  gone"),
            Self::AgentFailed { agent, .. } => format!("agent {agent} failed a start"),
            Self::Drained { agent, by: Some(by), .. } => {
                format!("agent {agent} is drained by {by}")
            }
            Self::Drained { agent, .. } => format!("agent {agent} is not drained"),
            Self::Trail(event) => trail::words(event),
            Self::Identity { name, revoked: Some(at) } => format!("{name} is revoked before {at}"),
            Self::Identity { name, .. } => format!("{name} is invited or has a new certificate"),
            Self::WebKeys { user, ids } => format!("{user} has {} web key(s)", ids.len()),
            Self::Witnesses { witnesses } => format!("witnesses {}", witnesses.join(" ")),
        }
    }
}
