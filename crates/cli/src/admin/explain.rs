//! `vsmctl explain USER`: what a login of the user would come to, rule by rule.

use std::fmt::Write as _;

use serde::Serialize;
use vsm_proto::admin::v1::{self as pb, agents_client::AgentsClient};

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::with_deadline,
    desktops::SessionRow,
    exit::Failure,
    output::{self, Cells, Columns, or_dash},
};

/// What `vsmctl explain` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Explained {
    user: String,
    node: String,
    groups: Vec<String>,
    allowed: bool,
    allowed_by: Option<String>,
    allowed_groups: Vec<String>,
    sessions: Vec<SessionRow>,
    max_sessions: u32,
    subcluster: Option<String>,
    subcluster_rule: Option<String>,
    subcluster_group: Option<String>,
    placement: String,
    agents: Vec<Candidate>,
    chosen: Vec<String>,
    refused_reason: Option<String>,
    refused: Option<String>,
}

/// An agent in it.
#[derive(Debug, Serialize)]
struct Candidate {
    agent: String,
    eligible: bool,
    out: Option<String>,
    failed: bool,
    has_user: bool,
    users: u64,
    weight: u32,
    sessions: u32,
    busy_percent: Option<f64>,
    memory_percent: Option<f64>,
    cpu_percent: Option<f64>,
    wait_percent: Option<f64>,
}

impl From<pb::ExplainedAgent> for Candidate {
    fn from(agent: pb::ExplainedAgent) -> Self {
        let percent = |of: fn(&pb::BusyView) -> u32| {
            agent.busy.as_ref().map(|busy| f64::from(of(busy)) / 10.0)
        };
        Self {
            eligible: agent.out.is_empty(),
            busy_percent: percent(|busy| busy.total_milli),
            memory_percent: percent(|busy| busy.memory_milli),
            cpu_percent: percent(|busy| busy.cpu_milli),
            wait_percent: percent(|busy| busy.stall_milli),
            agent: agent.agent,
            out: some(agent.out),
            failed: agent.failed,
            has_user: agent.has_user,
            users: agent.users,
            weight: agent.weight,
            sessions: agent.sessions,
        }
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<pb::ExplainResponse> for Explained {
    fn from(told: pb::ExplainResponse) -> Self {
        Self {
            user: told.user,
            node: told.node,
            groups: told.groups,
            allowed: told.allowed,
            allowed_by: some(told.allowed_by),
            allowed_groups: told.allowed_groups,
            sessions: told.sessions.into_iter().map(Into::into).collect(),
            max_sessions: told.max_sessions,
            subcluster: some(told.subcluster),
            subcluster_rule: some(told.subcluster_rule),
            subcluster_group: some(told.subcluster_group),
            placement: told.placement,
            agents: told.agents.into_iter().map(Into::into).collect(),
            chosen: told.chosen,
            refused_reason: some(told.refused_reason),
            refused: some(told.refused),
        }
    }
}

impl Columns for Candidate {
    const HEADINGS: &'static [&'static str] =
        &["  AGENT", "USERS", "WEIGHT", "SESSIONS", "BUSY", "MEM", "CPU", "WAIT", "NOTE"];

    fn cells(&self) -> Vec<String> {
        let figure = |shown: String| if self.eligible { shown } else { "-".to_owned() };
        let share = |share: Option<f64>| or_dash(share.map(|share| format!("{share:.0}%")));
        let mut notes = Vec::new();
        notes.extend(self.out.clone());
        if self.failed {
            notes.push("failed a start lately: last".to_owned());
        }
        if self.has_user {
            notes.push("has a session: first".to_owned());
        }
        vec![
            format!("  {}", self.agent),
            figure(self.users.to_string()),
            self.weight.to_string(),
            figure(self.sessions.to_string()),
            share(self.busy_percent),
            share(self.memory_percent),
            share(self.cpu_percent),
            share(self.wait_percent),
            notes.join("; "),
        ]
    }
}

/// `vsmctl explain`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such user.
pub async fn explain(options: &AdminOptions, user: String) -> Result<(), Failure> {
    let mut client = AgentsClient::new(options.channel().await?);
    let request = with_deadline(pb::ExplainRequest { user }, DEADLINE);
    let told = Explained::from(client.explain(request).await?.into_inner());
    output::report(options.output, &told, Explained::words)
}

/// Why a login would come to what it would come to, as texts.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Whose login, on which node, and their groups.
    pub who: String,
    /// Rule by rule.
    pub steps: Vec<String>,
    /// What each agent has for it; empty = no agent was looked at.
    pub agents: Cells,
    /// What comes of it.
    pub outcome: String,
}

impl From<pb::ExplainResponse> for Explanation {
    fn from(told: pb::ExplainResponse) -> Self {
        let told = Explained::from(told);
        let mut steps = vec![told.access(), told.sessions(), told.subcluster()];
        let mut agents = Cells::default();
        if told.subcluster.is_some() {
            steps.push(told.how());
            agents = Cells::of(&told.agents);
        }
        Self { who: told.who(), steps, agents, outcome: told.outcome() }
    }
}

impl Explained {
    fn who(&self) -> String {
        let groups =
            if self.groups.is_empty() { "none".to_owned() } else { self.groups.join(", ") };
        format!("{} on {}: groups {groups}", self.user, self.node)
    }

    fn how(&self) -> String {
        let how = match self.placement.as_str() {
            "load" => "the least busy per weight, then the fewest users",
            _ => "the fewest users per weight",
        };
        format!("Placement {}: {how}; the best first", self.placement)
    }

    fn words(&self) -> String {
        let mut text = format!("{}\n", self.who());
        let _ = writeln!(text, "1. {}", self.access());
        let _ = writeln!(text, "2. {}", self.sessions());
        for session in &self.sessions {
            let SessionRow { session, agent, display, state, .. } = session;
            let id = output::short_id(session);
            let _ = writeln!(text, "  {id}  {agent}:{display}  {state}");
        }
        let _ = writeln!(text, "3. {}", self.subcluster());
        if self.subcluster.is_some() {
            let _ = writeln!(text, "4. {}", self.how());
            text += &output::table(&self.agents);
        }
        if !self.sessions.is_empty() && self.allowed {
            text += "5. A login comes back to a session that its agent says is alive; else:\n   ";
        } else {
            text += "5. ";
        }
        text += &self.outcome();
        text.push('\n');
        text
    }

    fn access(&self) -> String {
        match (&self.allowed_by, self.allowed) {
            (Some(group), _) => {
                format!("May use the service: group {group} (/vsmserver/allowed_groups)")
            }
            (None, true) => {
                "May use the service: everybody may (/vsmserver/allowed_groups)".to_owned()
            }
            (None, false) => format!(
                "May not use the service: in none of {} (/vsmserver/allowed_groups)",
                self.allowed_groups.join(", ")
            ),
        }
    }

    fn sessions(&self) -> String {
        let limit = match self.max_sessions {
            0 => "no limit".to_owned(),
            most => format!("at most {most}"),
        };
        let has = self.sessions.len();
        format!("Has {has} session(s), {limit} (/vsmserver/max_sessions_per_user)")
    }

    fn subcluster(&self) -> String {
        let Some(name) = &self.subcluster else {
            return "No subcluster for new sessions".to_owned();
        };
        let because = match (self.subcluster_rule.as_deref(), &self.subcluster_group) {
            (Some("user"), _) => "it names the user".to_owned(),
            (_, Some(group)) => format!("it names their group {group}"),
            _ => "the default one".to_owned(),
        };
        format!("New sessions go to subcluster {name}: {because}")
    }

    fn outcome(&self) -> String {
        match (&self.refused_reason, &self.refused, &self.chosen[..]) {
            (Some(reason), Some(refused), _) => {
                format!("A new session would be refused: {reason}: {refused}")
            }
            (_, _, [one]) => format!("A new session would go to {one}"),
            (_, _, several) => {
                format!("A new session would go to one of these, by chance: {}", several.join(", "))
            }
        }
    }
}
