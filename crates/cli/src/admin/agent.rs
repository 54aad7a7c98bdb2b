//! `vsmctl agent` and `vsmctl load`: the agents as the broker sees them.

use serde::Serialize;
use vsm_daemon::clock;
use vsm_proto::admin::v1 as pb;

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::with_deadline,
    exit::Failure,
    output::{self, Columns},
};

/// An agent as `vsmctl agent list` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct AgentRow {
    agent: String,
    state: &'static str,
    detail: String,
    since: Option<String>,
    public_name: String,
    version: String,
    users: u32,
    sessions: u32,
    weight: u32,
    draining: bool,
    penalised_until: Option<String>,
    subclusters: Vec<String>,
    #[serde(skip)]
    age: String,
}

impl Columns for AgentRow {
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "STATE", "FOR", "USERS", "SESSIONS", "WEIGHT", "NOTE"];

    fn cells(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.draining {
            notes.push("draining".to_owned());
        }
        notes.extend(
            self.penalised_until
                .as_ref()
                .map(|until| format!("failed a start, last in the queue until {until}")),
        );
        if !self.detail.is_empty() {
            notes.push(self.detail.clone());
        }
        vec![
            self.agent.clone(),
            self.state.to_owned(),
            self.age.clone(),
            self.users.to_string(),
            self.sessions.to_string(),
            self.weight.to_string(),
            notes.join("; "),
        ]
    }
}

/// An agent's load as `vsmctl load list` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct LoadRow {
    agent: String,
    state: &'static str,
    users: u32,
    sessions: u32,
    load1: Option<f64>,
    cpus: Option<u32>,
    cpu_pressure_percent: Option<f64>,
    memory_total_mib: Option<u32>,
    memory_available_mib: Option<u32>,
}

impl Columns for LoadRow {
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "STATE", "USERS", "SESSIONS", "LOAD", "CPUS", "CPU-WAIT", "MEM-FREE"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.agent.clone(),
            self.state.to_owned(),
            self.users.to_string(),
            self.sessions.to_string(),
            or_dash(self.load1.map(|load| format!("{load:.2}"))),
            or_dash(self.cpus.map(|cpus| cpus.to_string())),
            or_dash(self.cpu_pressure_percent.map(|share| format!("{share:.1}%"))),
            or_dash(self.memory_available_mib.map(|mib| format!("{mib} MiB"))),
        ]
    }
}

pub(crate) async fn agents(options: &AdminOptions) -> Result<Vec<pb::AgentView>, Failure> {
    let request = with_deadline(pb::ListAgentsRequest {}, DEADLINE);
    Ok(options.dial().await?.list_agents(request).await?.into_inner().agents)
}

fn state_word(agent: &pb::AgentView) -> &'static str {
    match agent.state() {
        pb::AgentState::Up => "up",
        pb::AgentState::Down | pb::AgentState::Unspecified => "down",
    }
}

/// `vsmctl agent list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn agent_list(options: &AdminOptions) -> Result<(), Failure> {
    let now = clock::unix_millis().0;
    let row = |agent: pb::AgentView| AgentRow {
        state: state_word(&agent),
        since: output::time(agent.since_unix_ms),
        age: output::age(agent.since_unix_ms, now),
        penalised_until: output::time(agent.penalised_until_unix_ms),
        agent: agent.name,
        detail: agent.detail,
        public_name: agent.public_name,
        version: agent.version,
        users: agent.users,
        sessions: agent.sessions,
        weight: agent.weight,
        draining: agent.draining,
        subclusters: agent.subclusters,
    };
    let rows: Vec<AgentRow> = agents(options).await?.into_iter().map(row).collect();
    output::list(options.output, &rows)
}

/// `vsmctl load list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn load_list(options: &AdminOptions) -> Result<(), Failure> {
    let row = |agent: pb::AgentView| LoadRow {
        state: state_word(&agent),
        users: agent.users,
        sessions: agent.sessions,
        load1: agent.load.map(|load| f64::from(load.load1_milli) / 1000.0),
        cpus: agent.load.map(|load| load.cpus),
        cpu_pressure_percent: agent.load.map(|load| f64::from(load.cpu_pressure_milli) / 10.0),
        memory_total_mib: agent.load.map(|load| load.memory_total_mib),
        memory_available_mib: agent.load.map(|load| load.memory_available_mib),
        agent: agent.name,
    };
    let rows: Vec<LoadRow> = agents(options).await?.into_iter().map(row).collect();
    output::list(options.output, &rows)
}
