//! `vsmctl` on the local admin socket.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use vsm_config::{Config, keys};
use vsm_daemon::{clock, grpc, socket};
use vsm_proto::admin::v1::{self as pb, admin_client::AdminClient};

use crate::{
    broker::{SessionRow, with_deadline},
    exit::{CONFIG, Failure, NOT_ALLOWED, NOT_FOUND, SOFTWARE, UNAVAILABLE, USAGE},
    output::{self, Columns, Format},
};

const DEADLINE: Duration = Duration::from_secs(30);
/// Ending many sessions, each with the grace of its processes.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(120);

/// How to reach the broker.
#[derive(Debug, Clone, Args)]
pub struct AdminOptions {
    /// Directory of the configuration files, which name the admin socket
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d", global = true)]
    pub config: PathBuf,
    /// Admin socket, instead of /vsmserver/admin_socket
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t, global = true)]
    pub output: Format,
}

/// Which sessions; all that are given must match.
#[derive(Debug, Clone, Default, Args)]
pub struct Selector {
    /// Only this session
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub id: String,
    /// Only those of this user
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    pub user: String,
    /// Only those on this agent
    #[arg(long, value_name = "AGENT", default_value = "", hide_default_value = true)]
    pub agent: String,
    /// Only those with this display number
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub display: u32,
}

impl Selector {
    const fn is_empty(&self) -> bool {
        self.id.is_empty() && self.user.is_empty() && self.agent.is_empty() && self.display == 0
    }

    fn message(&self) -> pb::SessionSelector {
        pb::SessionSelector {
            id: self.id.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            display: self.display,
        }
    }
}

impl AdminOptions {
    fn dial(&self) -> Result<AdminClient<Channel>, Failure> {
        let path = match &self.socket {
            Some(path) => path.clone(),
            None if self.config.is_dir() => Config::load(&self.config)
                .map_err(|error| Failure::new(CONFIG, error.to_string()))?
                .get(&keys::vsmserver::ADMIN_SOCKET),
            None => Config::defaults().get(&keys::vsmserver::ADMIN_SOCKET),
        };
        // Tried here once, as the channel's own error would not say which socket nor why.
        if let Err(error) = std::os::unix::net::UnixStream::connect(&path) {
            let path = path.display();
            return Err(if error.kind() == std::io::ErrorKind::PermissionDenied {
                Failure::new(
                    NOT_ALLOWED,
                    format!("{path} is for root and the admin group (/vsmserver/admin_group)"),
                )
            } else {
                Failure::new(UNAVAILABLE, format!("vsmserver does not run here: {path}: {error}"))
            });
        }
        Ok(AdminClient::new(socket::channel(path)).max_decoding_message_size(grpc::MESSAGE_MAX))
    }
}

async fn sessions(
    client: &mut AdminClient<Channel>,
    selector: &Selector,
) -> Result<Vec<SessionRow>, Failure> {
    let mut pages =
        client.list_sessions(with_deadline(selector.message(), DEADLINE)).await?.into_inner();
    let mut rows = Vec::new();
    while let Some(page) = pages.next().await {
        rows.extend(page?.sessions.into_iter().map(SessionRow::from));
    }
    Ok(rows)
}

/// `vsmctl session list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn session_list(options: &AdminOptions, selector: &Selector) -> Result<(), Failure> {
    let rows = sessions(&mut options.dial()?, selector).await?;
    output::list(options.output, &rows)?;
    if options.output == Format::Table {
        output::say(&format!("{} session(s)", rows.len()))
    } else {
        Ok(())
    }
}

/// `vsmctl session show`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such session.
pub async fn session_show(options: &AdminOptions, id: String) -> Result<(), Failure> {
    let selector = Selector { id, ..Selector::default() };
    match sessions(&mut options.dial()?, &selector).await?.pop() {
        Some(row) => output::value(options.output, &row),
        None => Err(Failure::new(NOT_FOUND, format!("there is no session {}", selector.id))),
    }
}

/// What `vsmctl session terminate` prints of each session.
#[derive(Debug, Serialize)]
struct TerminatedRow {
    session: String,
    user: String,
    agent: String,
    done: bool,
    detail: String,
}

impl Columns for TerminatedRow {
    const HEADINGS: &'static [&'static str] = &["SESSION", "USER", "AGENT", "RESULT"];

    fn cells(&self) -> Vec<String> {
        let result = if self.done { "ended".to_owned() } else { self.detail.clone() };
        vec![self.session.clone(), self.user.clone(), self.agent.clone(), result]
    }
}

/// Which sessions to end, and whether it has been thought over.
#[derive(Debug, Args)]
pub struct TerminateArgs {
    #[command(flatten)]
    selector: Selector,
    /// Every session of the cluster
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    assume_yes: bool,
}

/// `vsmctl session terminate`: shows which, asks, ends them.
///
/// # Errors
/// If the broker cannot be asked, nothing matches, or one cannot be ended now.
pub async fn session_terminate(
    options: &AdminOptions,
    arguments: &TerminateArgs,
) -> Result<(), Failure> {
    if arguments.selector.is_empty() && !arguments.all {
        return Err(Failure::new(USAGE, "say which: --id, --user, --agent, --display or --all"));
    }
    let mut client = options.dial()?;
    let rows = sessions(&mut client, &arguments.selector).await?;
    if rows.is_empty() {
        return Err(Failure::new(NOT_FOUND, "no session matches"));
    }
    if !arguments.assume_yes {
        confirm(&rows)?;
    }
    // Just those that were shown, whatever has come meanwhile.
    let ids = rows.iter().map(|row| row.session.clone()).collect();
    let request = with_deadline(pb::TerminateSessionsRequest { ids }, TERMINATE_DEADLINE);
    let terminated = client.terminate_sessions(request).await?.into_inner().terminated;
    let rows: Vec<TerminatedRow> = terminated
        .into_iter()
        .map(|row| {
            let session = row.session.unwrap_or_default();
            let (done, detail) = (row.done, row.detail);
            TerminatedRow {
                session: session.id,
                user: session.user,
                agent: session.agent,
                done,
                detail,
            }
        })
        .collect();
    output::list(options.output, &rows)?;
    let left = rows.iter().filter(|row| !row.done).count();
    if left == 0 {
        Ok(())
    } else {
        Err(Failure::new(UNAVAILABLE, format!("{left} of {} not ended yet", rows.len())))
    }
}

#[expect(clippy::print_stderr, reason = "the question is for the person, not part of the data")]
fn confirm(rows: &[SessionRow]) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new(USAGE, "there is no terminal to ask on; add --assume-yes"));
    }
    for row in rows {
        eprintln!("{}  {}  {}:{}  {}", row.session, row.user, row.agent, row.display, row.state);
    }
    eprint!("End {} session(s)? What is not saved is lost. [y/N] ", rows.len());
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = input.lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(1, "nothing was ended"))
    }
}

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

async fn agents(options: &AdminOptions) -> Result<Vec<pb::AgentView>, Failure> {
    let request = with_deadline(pb::ListAgentsRequest {}, DEADLINE);
    Ok(options.dial()?.list_agents(request).await?.into_inner().agents)
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

/// What `vsmctl status` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct StatusReport {
    node: String,
    version: String,
    role: String,
    epoch: String,
    lineage: String,
    last_seq: u64,
    sessions: u32,
    started: Option<String>,
}

/// `vsmctl status`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn status(options: &AdminOptions) -> Result<(), Failure> {
    let request = with_deadline(pb::StatusRequest {}, DEADLINE);
    let status = options.dial()?.status(request).await?.into_inner();
    let epoch = status.epoch.ok_or_else(|| Failure::new(SOFTWARE, "the broker gave no epoch"))?;
    let report = StatusReport {
        node: status.node,
        version: status.version,
        role: status.role,
        epoch: format!("{}@{}", epoch.counter, epoch.node),
        lineage: status.lineage,
        last_seq: status.last_seq,
        sessions: status.sessions,
        started: output::time(status.started_unix_ms),
    };
    output::value(options.output, &report)
}
