//! A pair of brokers as its users and administrators meet it: logging in at the resource name, asking the nodes what
//! they are, and comparing their tables. For the demo, the drill and the tests.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::clock::wait_for;
use crate::cluster::Cluster;

/// The brokers' hosts.
pub const NODES: [&str; 2] = ["tlha-primary", "tlha-secondary"];

/// The other broker's host.
#[must_use]
pub fn other(node: &str) -> &'static str {
    if node == NODES[0] { NODES[1] } else { NODES[0] }
}

/// A desktop of nothing but its X server, where nobody looks at it.
pub const BARE_SCRIPT: &str = "printf '#!/bin/sh\\nsleep 86400\\nexit 0\\n' > /etc/vsm/xsession";

/// What `vsm connect --json` prints, as far as anybody here looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Desktop {
    /// Session id.
    pub session: String,
    /// Agent.
    pub agent: String,
    /// Display number.
    pub display: u32,
    /// Whether it was made for this login.
    pub created: bool,
}

/// A node as `vsmctl ha status --output json` tells of it, as far as anybody here looks at it.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Why it could not be asked.
    pub unreachable: Option<String>,
    /// `active`, `standby`, `claiming` or `standalone`.
    pub role: String,
    /// Active: it serves.
    pub ready: bool,
    /// Active: a second vote is to be had.
    pub votes: bool,
    /// Active: which.
    pub second_vote: String,
    /// Standby: changes that it lacks.
    pub behind: u64,
    /// Committed number.
    pub commit: u64,
    /// Whether the resource address may be there.
    pub healthy: bool,
    /// Why.
    pub health_reason: String,
    /// Digest of its table.
    pub table_digest: String,
    /// Sessions in its table.
    pub sessions: u32,
    /// Parameters that differ from the other node's.
    pub parameters_differ: Vec<String>,
    /// Whether the SSH host keys differ.
    pub host_keys_differ: bool,
    /// Why HA could not be turned on.
    pub ha_off: Option<String>,
    /// The reign that it has or follows, `COUNTER@NODE`.
    pub epoch: Option<String>,
    /// The highest that it promised.
    pub promised: Option<String>,
    /// The witnesses.
    #[serde(default)]
    pub witnesses: Vec<Witness>,
}

/// A witness as a node tells of it, as far as anybody here looks at it.
#[derive(Debug, Clone, Deserialize)]
pub struct Witness {
    /// The agent.
    pub agent: String,
    /// Whether it answers.
    pub up: bool,
    /// Why its vote is not to be had.
    pub trouble: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Status {
    nodes: Vec<Node>,
}

/// What `vsmctl ha verify --output json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Verified {
    /// The number at which the tables were compared.
    pub commit: Option<u64>,
    /// Sessions in them.
    pub sessions: u32,
    /// Agents that were asked.
    pub agents: u32,
    /// What differs.
    pub differences: Vec<String>,
    /// What could not be compared.
    pub skipped: Vec<String>,
}

/// A session as `vsmctl session list --output json` tells of it, as far as anybody here looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// Session id.
    pub session: String,
    /// Owner.
    pub user: String,
    /// Agent.
    pub agent: String,
    /// State.
    pub state: String,
}

/// One login at the resource name, whatever comes of it; `seconds` is how long `vsm` tries.
///
/// # Errors
/// If it cannot be run.
pub fn try_login(cluster: &Cluster, user: &str, seconds: u32) -> Result<Output> {
    let (to, limit) = (format!("{user}@tlha"), seconds.to_string());
    let retry = format!("--retry-for={seconds}");
    let words = ["timeout", "-k1", &limit, "vsm", "connect", &retry, "--no-viewer", "--json", &to];
    cluster.exec("client", user, &words)
}

/// Logs in; the desktop.
///
/// # Errors
/// If it does not work in this time.
pub fn login(cluster: &Cluster, user: &str, seconds: u32) -> Result<Desktop> {
    let output = try_login(cluster, user, seconds)?;
    if !output.status.success() {
        bail!("{user}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("vsm connect printed {text:?}"))
}

/// What a node tells of itself alone.
///
/// # Errors
/// If it cannot be asked.
pub fn node(cluster: &Cluster, host: &str) -> Result<Node> {
    nodes(cluster, host)?.into_iter().next().context("it tells of no node")
}

/// Both nodes as one of them tells.
///
/// # Errors
/// If it cannot be asked.
pub fn nodes(cluster: &Cluster, host: &str) -> Result<Vec<Node>> {
    let words = ["timeout", "10", "vsmctl", "ha", "status", "--output", "json"];
    let text = cluster.output(host, "root", &words)?;
    let status: Status = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(status.nodes)
}

/// The nodes that serve as active, each by its own word.
#[must_use]
pub fn active(cluster: &Cluster) -> Vec<&'static str> {
    let is_active =
        |host: &&str| node(cluster, host).is_ok_and(|node| node.role == "active" && node.ready);
    NODES.into_iter().filter(is_active).collect()
}

/// Waits until exactly one node is active and the other follows with nothing missing; the active one.
///
/// # Errors
/// If that does not come about.
pub fn in_step(cluster: &Cluster, wait: Duration) -> Result<&'static str> {
    wait_for("both brokers in step", wait, || {
        let told = |host: &'static str| {
            node(cluster, host).map(|node| (host, node)).map_err(|error| format!("{error:#}"))
        };
        let both = [told(NODES[0])?, told(NODES[1])?];
        let synced =
            |node: &Node| node.role == "active" && node.ready && node.second_vote == "peer";
        let follows = |node: &Node| node.role == "standby" && node.behind == 0 && node.healthy;
        match &both {
            [(host, a), (_, b)] if synced(a) && follows(b) && a.commit == b.commit => Ok(*host),
            [(_, a), (host, b)] if synced(b) && follows(a) && a.commit == b.commit => Ok(*host),
            other => Err(format!("{other:#?}")),
        }
    })
}

/// Compares both tables and the agents.
///
/// # Errors
/// If the node cannot be asked.
pub fn verify(cluster: &Cluster, host: &str) -> Result<Verified> {
    let words = ["timeout", "60", "vsmctl", "ha", "verify", "--output", "json"];
    let output = cluster.exec(host, "root", &words)?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// All sessions as an administrator on this node sees them.
///
/// # Errors
/// If the node cannot be asked.
pub fn rows(cluster: &Cluster, host: &str) -> Result<Vec<Row>> {
    let words = ["timeout", "10", "vsmctl", "session", "list", "--output", "json"];
    let text = cluster.output(host, "root", &words)?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// When a broker first logged a line with these words after a moment; both in microseconds since 1970.
#[must_use]
pub fn logged(cluster: &Cluster, host: &str, words: &str, after: u64) -> Option<u64> {
    let log = cluster.daemon_log(host, "vsmserver");
    let lines = log.lines().filter(|line| line.contains(words));
    lines.filter_map(log_time).find(|at| *at >= after)
}

/// The time at the beginning of a log line, in microseconds since 1970.
pub(crate) fn log_time(line: &str) -> Option<u64> {
    let at: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
    u64::try_from(at.as_microsecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_begins_with_its_time() {
        let of_day = |line| log_time(line).map(|at| at % 86_400_000_000);
        let line = "2026-01-02T01:02:03.000456Z  INFO vsm_sync::owner: active epoch=3@b";
        assert_eq!(of_day(line), Some(3_723_000_456));
        assert_eq!(of_day("2026-01-02T00:00:00.5Z x"), Some(500_000));
        assert_eq!(of_day("no time"), None);
        assert_eq!(log_time("1970-01-02T00:00:00Z x"), Some(86_400_000_000));
    }
}
