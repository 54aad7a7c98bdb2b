//! `vsmctl agent ssh` and `vsmctl agent rsync`: the same command on many session hosts, by the administrator's own ssh.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    process::Stdio,
    sync::Arc,
};

use clap::Args;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    sync::Semaphore,
    task::JoinSet,
};
use vsm_proto::admin::v1::AgentState;

use super::{AdminOptions, agents};
use crate::{
    exit::{Failure, NOT_FOUND, UNAVAILABLE, USAGE},
    output,
    ssh::fixed,
};

/// On which hosts, and how many at a time.
#[derive(Debug, Args)]
pub struct HostsArgs {
    /// Only the agents of this subcluster; may be repeated
    #[arg(long, value_name = "NAME")]
    subcluster: Vec<String>,
    /// Only this agent; may be repeated
    #[arg(long, value_name = "AGENT")]
    agent: Vec<String>,
    /// Only agents that the broker can reach
    #[arg(long)]
    up: bool,
    /// Number of agents to work on at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
}

impl HostsArgs {
    /// The agents that are meant, by name.
    async fn chosen(&self, options: &AdminOptions) -> Result<Vec<String>, Failure> {
        let all = agents(options).await?;
        let known = |name: &String| all.iter().any(|agent| agent.name == *name);
        if let Some(stranger) = self.agent.iter().find(|name| !known(name)) {
            return Err(Failure::new(NOT_FOUND, format!("there is no agent {stranger}")));
        }
        let subclusters: BTreeSet<&String> = all.iter().flat_map(|a| &a.subclusters).collect();
        if let Some(stranger) = self.subcluster.iter().find(|name| !subclusters.contains(name)) {
            return Err(Failure::new(NOT_FOUND, format!("there is no subcluster {stranger}")));
        }
        let chosen = all.iter().filter(|agent| {
            (self.agent.is_empty() || self.agent.contains(&agent.name))
                && (self.subcluster.is_empty()
                    || agent.subclusters.iter().any(|name| self.subcluster.contains(name)))
                && (!self.up || agent.state() == AgentState::Up)
        });
        let chosen: Vec<String> = chosen.map(|agent| agent.name.clone()).collect();
        if chosen.is_empty() {
            return Err(Failure::new(NOT_FOUND, "no agent matches"));
        }
        Ok(chosen)
    }
}

/// What to run by ssh.
#[derive(Debug, Args)]
pub struct SshArgs {
    #[command(flatten)]
    hosts: HostsArgs,
    /// Command and its arguments, after --; run by the remote shell
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What to hand to rsync.
#[derive(Debug, Args)]
pub struct RsyncArgs {
    #[command(flatten)]
    hosts: HostsArgs,
    /// Arguments of rsync, after --; an argument that begins with a colon is a path on the agent
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// `vsmctl agent ssh`: each line of output with the agent's name before it.
///
/// # Errors
/// If no agent matches, or the command fails on one.
pub async fn agent_ssh(options: &AdminOptions, arguments: &SshArgs) -> Result<(), Failure> {
    let hosts = arguments.hosts.chosen(options).await?;
    let words = |host: &str| {
        let rest = ["--", host].into_iter().chain(arguments.command.iter().map(String::as_str));
        fixed::command().into_iter().chain(rest.map(Into::into)).collect()
    };
    on_all("ssh", &hosts, arguments.hosts.parallel, words).await
}

/// `vsmctl agent rsync`.
///
/// # Errors
/// If no argument names a path on the agents, no agent matches, or rsync fails for one.
pub async fn agent_rsync(options: &AdminOptions, arguments: &RsyncArgs) -> Result<(), Failure> {
    if !arguments.arguments.iter().any(|word| word.starts_with(':')) {
        let why = "name a path on the agents, such as :/etc/skel/ (it begins with a colon)";
        return Err(Failure::new(USAGE, why));
    }
    let hosts = arguments.hosts.chosen(options).await?;
    let words = |host: &str| {
        let place = |word: &String| match word.strip_prefix(':') {
            Some(path) if host.contains(':') => format!("[{host}]:{path}"),
            Some(path) => format!("{host}:{path}"),
            None => word.clone(),
        };
        // None of them has a blank in it.
        let ssh = [vec!["ssh".into()], fixed::command()].concat().join(OsStr::new(" "));
        let own = ["-e".into(), ssh].into_iter();
        own.chain(arguments.arguments.iter().map(|word| place(word).into())).collect()
    };
    on_all("rsync", &hosts, arguments.hosts.parallel, words).await
}

/// Runs a program once for each host, some at a time.
async fn on_all(
    program: &'static str,
    hosts: &[String],
    parallel: u16,
    words: impl Fn(&str) -> Vec<OsString>,
) -> Result<(), Failure> {
    let together = Arc::new(Semaphore::new(usize::from(parallel)));
    let mut under_way = JoinSet::new();
    for host in hosts {
        let (host, words, together) = (host.clone(), words(host), Arc::clone(&together));
        under_way.spawn(async move {
            // Never closed; were it, all would run at once.
            let _turn = together.acquire_owned().await;
            let ran = on_one(program, &host, words).await;
            ran.err().map(|why| format!("{host}: {why}"))
        });
    }
    let mut failed: Vec<String> = under_way.join_all().await.into_iter().flatten().collect();
    failed.sort();
    if failed.is_empty() {
        return Ok(());
    }
    let (count, of, which) = (failed.len(), hosts.len(), failed.join("\n"));
    Err(Failure::new(UNAVAILABLE, format!("failed on {count} of {of} agent(s)\n{which}")))
}

async fn on_one(program: &str, host: &str, words: Vec<OsString>) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    tokio::join!(show(host, out), show(host, err));
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}

/// Passes lines on, the host's name before each.
async fn show(host: &str, stream: Option<impl AsyncRead + Unpin>) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        // Nobody reads any more: the command goes on all the same.
        let _ = output::write_on(&format!("{host}: {}\n", String::from_utf8_lossy(&line)));
    }
}
