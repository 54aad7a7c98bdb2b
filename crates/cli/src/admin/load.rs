//! `vsmctl load`: how busy agents are, and how many more users fit.

use std::cmp::Reverse;

use clap::ValueEnum;
use serde::Serialize;
use vsm_core::{Bound, Room};
use vsm_proto::admin::v1::{self as pb, agents_client::AgentsClient};

use super::{
    AdminOptions, DEADLINE,
    agent::{agent, agents, state_word},
};
use crate::{
    broker::with_deadline,
    exit::Failure,
    output::{self, Cells, Columns, Format, or_dash},
};

/// By what `vsmctl load list` sorts; equal ones by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Sort {
    /// By name
    #[default]
    Agent,
    /// Most users first
    Users,
    /// Most sessions first
    Sessions,
    /// Most memory in use first
    Mem,
    /// Busiest CPUs first
    Cpu,
    /// Longest waits first
    Wait,
    /// Least room first
    Room,
}

/// An agent's load as `vsmctl load list` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct LoadRow {
    agent: String,
    state: &'static str,
    users: u32,
    sessions: u32,
    load1: Option<f64>,
    run_queue: Option<f64>,
    cpus: Option<u32>,
    cpu_busy_percent: Option<f64>,
    cpu_pressure_percent: Option<f64>,
    memory_total_mib: Option<u32>,
    memory_available_mib: Option<u32>,
    memory_pressure_percent: Option<f64>,
    measured: Option<String>,
    sessions_since: u32,
    max_users: u32,
    room: Option<u32>,
    room_by_memory: Option<u32>,
    room_by_cap: Option<u32>,
    bound: Option<&'static str>,
}

impl LoadRow {
    fn new(agent: pb::AgentView) -> Self {
        let load = agent.load;
        let thousandths = |milli: u32| f64::from(milli) / 1000.0;
        let percent = |milli: u32| f64::from(milli) / 10.0;
        let room = agent.room.unwrap_or_default();
        Self {
            state: state_word(&agent),
            users: agent.users,
            sessions: agent.sessions,
            load1: load.map(|load| thousandths(load.load1_milli)),
            run_queue: load.map(|load| thousandths(load.run_queue_milli)),
            cpus: load.map(|load| load.cpus),
            cpu_busy_percent: load.map(|load| percent(load.cpu_busy_milli)),
            cpu_pressure_percent: load.map(|load| percent(load.cpu_pressure_milli)),
            memory_total_mib: load.map(|load| load.memory_total_mib),
            memory_available_mib: load.map(|load| load.memory_available_mib),
            memory_pressure_percent: load.map(|load| percent(load.memory_pressure_milli)),
            measured: output::time(agent.load_unix_ms),
            sessions_since: agent.sessions_since_load,
            max_users: agent.max_users,
            bound: bound(&agent, room),
            room: room.users,
            room_by_memory: room.by_memory,
            room_by_cap: room.by_cap,
            agent: agent.name,
        }
    }

    /// Memory in use, in percent.
    fn memory_percent(&self) -> Option<f64> {
        let (total, available) = (self.memory_total_mib?, self.memory_available_mib?);
        (total > 0).then(|| f64::from(total.saturating_sub(available)) * 100.0 / f64::from(total))
    }

    /// The longer of the waits for CPU and memory, in percent.
    fn wait_percent(&self) -> Option<f64> {
        Some(self.cpu_pressure_percent?.max(self.memory_pressure_percent?))
    }
}

/// What bounds how many more users fit.
fn bound(agent: &pb::AgentView, room: pb::Room) -> Option<&'static str> {
    if agent.state() != pb::AgentState::Up {
        return Some("down");
    }
    if agent.draining {
        return Some("draining");
    }
    if agent.maintenance.is_some() {
        return Some("maintenance");
    }
    let room = Room { by_memory: room.by_memory, by_cap: room.by_cap };
    room.bound().map(|bound| match bound {
        Bound::Memory => "memory",
        Bound::Cap => "cap",
    })
}

impl Columns for LoadRow {
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "USERS", "SESSIONS", "MEM", "CPU", "WAIT", "CPUS", "MEM-FREE", "ROOM", "BOUND"];

    fn cells(&self) -> Vec<String> {
        let share = |share: Option<f64>| or_dash(share.map(|share| format!("{share:.0}%")));
        vec![
            self.agent.clone(),
            self.users.to_string(),
            self.sessions.to_string(),
            share(self.memory_percent()),
            share(self.cpu_busy_percent),
            share(self.wait_percent()),
            or_dash(self.cpus.map(|cpus| cpus.to_string())),
            or_dash(self.memory_available_mib.map(|mib| format!("{mib} MiB"))),
            or_dash(self.room.map(|room| room.to_string())),
            or_dash(self.bound.map(str::to_owned)),
        ]
    }
}

/// `vsmctl load list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn load_list(options: &AdminOptions, sort: Sort) -> Result<(), Failure> {
    let mut rows: Vec<LoadRow> = agents(options).await?.into_iter().map(LoadRow::new).collect();
    sort_by(&mut rows, sort);
    output::list(options.output, &rows)?;
    if options.output != Format::Table {
        return Ok(());
    }
    for row in subclusters(options).await? {
        output::say(&row.words())?;
    }
    Ok(())
}

/// The agents as `vsmctl load list` has them.
pub(crate) fn cells(agents: Vec<pb::AgentView>) -> Cells {
    Cells::of(&agents.into_iter().map(LoadRow::new).collect::<Vec<_>>())
}

/// The subclusters as `vsmctl load subclusters` has them.
pub(crate) fn subcluster_cells(views: Vec<pb::SubclusterView>) -> Cells {
    Cells::of(&views.into_iter().map(SubclusterRow::from).collect::<Vec<_>>())
}

fn sort_by(rows: &mut [LoadRow], sort: Sort) {
    let share = |share: Option<f64>| share.map_or(-1.0, |share| share);
    let most = |rows: &mut [LoadRow], of: fn(&LoadRow) -> Option<f64>| {
        rows.sort_by(|one, other| share(of(other)).total_cmp(&share(of(one))));
    };
    match sort {
        // They come by name.
        Sort::Agent => {}
        Sort::Users => rows.sort_by_key(|row| Reverse(row.users)),
        Sort::Sessions => rows.sort_by_key(|row| Reverse(row.sessions)),
        Sort::Mem => most(rows, LoadRow::memory_percent),
        Sort::Cpu => most(rows, |row| row.cpu_busy_percent),
        Sort::Wait => most(rows, LoadRow::wait_percent),
        Sort::Room => rows.sort_by_key(|row| row.room.unwrap_or(u32::MAX)),
    }
}

/// `vsmctl load show`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such agent.
pub async fn load_show(options: &AdminOptions, name: &str) -> Result<(), Failure> {
    output::value(options.output, &LoadRow::new(agent(options, name).await?))
}

/// A subcluster as `vsmctl load subclusters` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct SubclusterRow {
    subcluster: String,
    agents: Vec<String>,
    taking: u32,
    users: u32,
    room: Option<u32>,
    room_by_memory: Option<u32>,
    room_by_cap: Option<u32>,
    level: String,
}

impl From<pb::SubclusterView> for SubclusterRow {
    fn from(view: pb::SubclusterView) -> Self {
        let room = view.room.unwrap_or_default();
        Self {
            subcluster: view.name,
            agents: view.agents,
            taking: view.taking,
            users: view.users,
            room: room.users,
            room_by_memory: room.by_memory,
            room_by_cap: room.by_cap,
            level: view.level,
        }
    }
}

impl SubclusterRow {
    /// Below the table of agents.
    fn words(&self) -> String {
        let fit = match self.room {
            Some(room) => format!("{room} more user(s) fit"),
            None => "no bound on users is known".to_owned(),
        };
        let (name, taking, all) = (&self.subcluster, self.taking, self.agents.len());
        format!("{name}: {fit}; {taking} of {all} agent(s) take new sessions; {}", self.level)
    }
}

impl Columns for SubclusterRow {
    const HEADINGS: &'static [&'static str] =
        &["SUBCLUSTER", "AGENTS", "TAKING", "USERS", "ROOM", "BY-MEM", "BY-CAP", "LEVEL"];

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u32>| or_dash(number.map(|number| number.to_string()));
        vec![
            self.subcluster.clone(),
            self.agents.len().to_string(),
            self.taking.to_string(),
            self.users.to_string(),
            number(self.room),
            number(self.room_by_memory),
            number(self.room_by_cap),
            self.level.clone(),
        ]
    }
}

async fn subclusters(options: &AdminOptions) -> Result<Vec<SubclusterRow>, Failure> {
    let mut client = AgentsClient::new(options.channel().await?);
    let request = with_deadline(pb::ListSubclustersRequest {}, DEADLINE);
    let answer = client.list_subclusters(request).await?.into_inner();
    Ok(answer.subclusters.into_iter().map(Into::into).collect())
}

/// `vsmctl load subclusters`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn load_subclusters(options: &AdminOptions) -> Result<(), Failure> {
    output::list(options.output, &subclusters(options).await?)
}

#[cfg(test)]
mod tests {
    use vsm_proto::agent::v1::Load;

    use super::*;

    fn row(name: &str, users: u32, available: Option<u32>, room: Option<u32>) -> LoadRow {
        let mut view = pb::AgentView {
            name: name.to_owned(),
            users,
            load: available.map(|memory_available_mib| Load {
                memory_total_mib: 1000,
                memory_available_mib,
                ..Load::default()
            }),
            room: Some(pb::Room { by_memory: room, by_cap: Some(7), users: room }),
            ..pb::AgentView::default()
        };
        view.set_state(pb::AgentState::Up);
        LoadRow::new(view)
    }

    #[test]
    fn rows_are_sorted_with_the_most_urgent_first() {
        let names = |sort| {
            let mut rows = vec![
                row("a", 3, Some(900), Some(9)),
                row("b", 5, None, None),
                row("c", 4, Some(100), Some(1)),
            ];
            sort_by(&mut rows, sort);
            rows.into_iter().map(|row| row.agent).collect::<Vec<_>>().join("")
        };
        assert_eq!(names(Sort::Agent), "abc");
        assert_eq!(names(Sort::Users), "bca");
        assert_eq!(names(Sort::Mem), "cab");
        assert_eq!(names(Sort::Room), "cab");
    }

    #[test]
    fn what_binds_is_told() {
        assert_eq!(row("a", 0, Some(900), Some(9)).bound, Some("cap"));
        assert_eq!(row("a", 0, Some(900), Some(6)).bound, Some("memory"));
        let mut view = pb::AgentView { draining: true, ..pb::AgentView::default() };
        assert_eq!(bound(&view, pb::Room::default()), Some("down"));
        view.set_state(pb::AgentState::Up);
        assert_eq!(bound(&view, pb::Room::default()), Some("draining"));
        let view = pb::AgentView { draining: false, maintenance: Some(String::new()), ..view };
        assert_eq!(bound(&view, pb::Room::default()), Some("maintenance"));
    }
}
