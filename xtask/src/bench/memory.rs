//! Resident memory of the daemons, as the kernel tells it in `/proc/PID/status`.

use std::time::Duration;

use anyhow::Result;

use super::report::{Report, Want};
use super::{AGENT, BROKER, Hosts, SERVICE_WAIT, median, process};
use crate::clock::{self, wait_for};

const ABOUT: &str = "\
Resident memory (`VmRSS`, shared pages included) in MiB: of `vsmagent` and `vsm-agent-net` with their broker linked and no session, of one
`vsm-session` with a desktop, and of `vsmserver` once it serves a table of 10,000 running sessions of as many users on
100 agents that it cannot reach, 5 s after a list of all was asked for. `peak` is the most that it ever had (`VmHWM`).";

const USER: &str = "user001";
const SESSIONS: u64 = 10_000;
const AGENTS: &str = "100";
/// Until what was needed for a moment was given back.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn run(hosts: &Hosts<'_>) -> Result<Report> {
    let mut report = Report::new("memory", ABOUT);
    let (mut idle, mut net) = (Vec::new(), Vec::new());
    let mut monitors = Vec::new();
    for _ in 0..hosts.runs {
        hosts.cluster.restart_daemon(AGENT, "vsmagent")?;
        hosts.wait_linked()?;
        idle.push(process::of_daemon(hosts.cluster, AGENT, "vsmagent")?.now);
        net.push(process::of_daemon(hosts.cluster, AGENT, "vsm-agent-net")?.now);
        hosts.tool::<serde_json::Value>(BROKER, &["logins", USER])?;
        let pid = hosts.root(AGENT, &["pgrep", "--exact", "vsm-session"])?;
        monitors.push(process::resident(hosts.cluster, AGENT, &pid)?.now);
        hosts.end(&[USER])?;
    }
    report.aim("vsmagent_idle_mib", median(&idle), Want::AtMost, 15.0);
    report.aim("vsm_agent_net_idle_mib", median(&net), Want::AtMost, 15.0);
    report.aim("vsm_session_mib", median(&monitors), Want::AtMost, 6.0);
    let used = process::of_daemon(hosts.cluster, AGENT, "vsmagent")?;
    report.figure("vsmagent_after_one_session_mib", used.now);
    hosts.progress.step("agent and session are measured");
    let server = process::of_daemon(hosts.cluster, BROKER, "vsmserver")?;
    report.figure("vsmserver_empty_mib", server.now);
    let (now, peak) = full(hosts)?;
    report.aim("vsmserver_10000_sessions_mib", now, Want::AtMost, 30.0);
    report.figure("vsmserver_10000_sessions_peak_mib", peak);
    Ok(report)
}

/// The broker on a large table: as it serves, and at its peak.
fn full(hosts: &Hosts<'_>) -> Result<(f64, f64)> {
    hosts.cluster.stop_daemon(BROKER, "vsmserver")?;
    let sessions = SESSIONS.to_string();
    let fill = ["fill", "--dir", "/var/lib/vsm", "--sessions", &sessions, "--agents", AGENTS];
    hosts.tool::<serde_json::Value>(BROKER, &fill)?;
    hosts.progress.step(format!("a table of {SESSIONS} sessions is made"));
    let (mut now, mut peak) = (Vec::new(), Vec::new());
    for _ in 0..hosts.runs {
        hosts.cluster.start_daemon(BROKER, "vsmserver")?;
        wait_for("the broker to serve the table", SERVICE_WAIT, || {
            let serving = hosts.tool::<serde_json::Value>(BROKER, &["serving"]);
            let serving = serving.map_err(|error| format!("{error:#}"))?;
            let all = serving["sessions"].as_u64() == Some(SESSIONS);
            if all { Ok(()) } else { Err(format!("it serves {serving}")) }
        })?;
        // Every agent was tried, and a list of all was asked for.
        hosts.wait_linked()?;
        hosts.root(BROKER, &["vsmctl", "session", "list", "--output", "json"])?;
        clock::pause(SETTLE);
        let memory = process::of_daemon(hosts.cluster, BROKER, "vsmserver")?;
        now.push(memory.now);
        peak.push(memory.peak);
        hosts.cluster.stop_daemon(BROKER, "vsmserver")?;
    }
    Ok((median(&now), median(&peak)))
}
