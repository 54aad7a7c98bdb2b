//! A pair of brokers with a thousand agents and a hundred thousand sessions: what it takes at rest, in memory, and
//! until an administrator sees the list.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::report::{Report, Want};
use super::{MIB, TOOL, median, median_of, process};
use crate::clock::{self, wait_for};
use crate::cluster::spec::state_dir;
use crate::cluster::{Cluster, ClusterSpec, files};
use crate::command::{command, run as run_command};
use crate::compile::{self, Profile};
use crate::host::boot::Paths;
use crate::pair::{self, NODES};
use crate::progress::Progress;

const ABOUT: &str = "\
A pair of brokers with keepalived and three real agents, which are the witnesses, and 1,000 simulated agents in one process
on a host of its own: each has an address, a certificate and a listener of its own, and serves the real interface by gRPC
over mutual TLS to both brokers, so each broker has 1,003 links. They have 100 sessions each, of 100,000 users, and tell
their load every 30 s as a real one does at least. `cpu` is user and system time of a broker's process in percent of one
core, over 20 s in which nobody asks for anything. `memory` is resident memory (`VmRSS`) of a broker: with links to agents that
have no sessions, with 50,000 of them, which the broker takes in from the agents, and with all. `memory_per_session` is what
the second 50,000 add. The first add more: buffers of each link that have held an inventory, and a changelog that is full from
then on. `revoke` is how long after the start of `vsmctl pki revoke agent/NAME` 50 and 99 of 100 of the simulated agents have
been told, and so refuse that identity. `list` is `vsmctl session list` on the active
node, from the start of the program: until it prints anything, and until it has ended; `standby` is the same on the other
node, which forwards.";

/// One of its own: it takes long, and other measurements may go on beside it.
const NAME: &str = "bench-scale";
const AGENTS: u64 = 1_000;
const REAL: u64 = 3;
const SESSIONS: u32 = 100_000;
const EACH: [&str; 2] = ["50", "100"];
const HALF: u32 = SESSIONS / 2;
const PORT: &str = "904";
const SIMULATED_ON: &str = "client";
/// Where that host has their configurations.
const CONFIGS: &str = "/etc/vsm/simulated";
const WAIT: Duration = Duration::from_secs(120);
const REST: Duration = Duration::from_secs(20);
/// After what was done last, until nothing of it goes on.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two looks at how far the brokers are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const CPU_AIM: f64 = 10.0;
const MEMORY_AIM: f64 = 1024.0;
const REVOKED_AIM_MS: f64 = 1000.0;
const FIRST_AIM_MS: f64 = 50.0;
const ALL_AIM_MS: f64 = 1000.0;

/// What `vsm-bench first` prints.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Printed {
    first_ms: f64,
    all_ms: f64,
    lines: u64,
}

/// What `vsm-bench serving` prints.
#[derive(Debug, Deserialize)]
struct Serving {
    sessions: u32,
}

/// Everything that is measured.
#[derive(Default)]
struct Figures {
    cpu: Vec<[f64; 2]>,
    table: Vec<Printed>,
    json: Vec<Printed>,
    standby: Vec<Printed>,
    revoked_p50: Vec<f64>,
    revoked_p99: Vec<f64>,
}

/// What the simulated agents say of an identity.
#[derive(Debug, Deserialize)]
struct Revoked {
    told: u64,
    p50_unix_ms: u64,
    p99_unix_ms: u64,
}

pub(super) fn run(runs: u32, progress: Progress) -> Result<Report> {
    let mut spec = ClusterSpec::pair(NAME, compile::helper()?);
    spec.binaries = compile::binaries(Profile::Release)?;
    spec.fresh = true;
    progress.step("two brokers with keepalived, three agents and a client come up");
    let cluster = Cluster::up(&spec)?;
    files::install(NAME, &spec.binaries.join("vsm-bench"))?;
    pair::in_step(&cluster, WAIT)?;
    network(&cluster)?;
    certificates()?;
    progress.step(format!("{AGENTS} certificates are issued"));
    let empty = Simulated::start(&cluster, "0")?;
    configure(&cluster)?;
    linked(&cluster)?;
    clock::pause(SETTLE);
    let mut memory = vec![both(&cluster, resident)?];
    progress.step(format!("both brokers have links to {} agents", AGENTS + REAL));
    empty.end()?;
    let half = Simulated::start(&cluster, EACH[0])?;
    filled(&cluster, HALF)?;
    clock::pause(SETTLE);
    memory.push(both(&cluster, resident)?);
    progress.step(format!("both brokers have {HALF} sessions"));
    half.end()?;
    let mut full = Simulated::start(&cluster, EACH[1])?;
    let active = filled(&cluster, SESSIONS)?;
    clock::pause(SETTLE);
    memory.push(both(&cluster, resident)?);
    progress.step(format!("both brokers have {SESSIONS} sessions"));
    let mut figures = Figures::default();
    for round in 0..runs {
        let from = both(&cluster, worked)?;
        clock::pause(REST);
        let to = both(&cluster, worked)?;
        let share = |node: usize| (to[node] - from[node]) / REST.as_secs_f64() * 100.0;
        figures.cpu.push([share(0), share(1)]);
        figures.table.push(list(&cluster, active, "table")?);
        figures.json.push(list(&cluster, active, "json")?);
        figures.standby.push(list(&cluster, pair::other(active), "json")?);
        let (table, json) = (figures.table.last(), figures.json.last());
        progress.step(format!(
            "run {}: cpu {:.1?} %, table {table:.0?}, json {json:.0?}",
            round + 1,
            figures.cpu.last()
        ));
    }
    for round in 0..runs {
        let (p50, p99) = revoke(&cluster, active, &mut full, u64::from(round))?;
        progress
            .step(format!("a revocation is known to half after {p50} ms, to 99 % after {p99} ms"));
        figures.revoked_p50.push(p50);
        figures.revoked_p99.push(p99);
    }
    full.end()?;
    cluster.down()?;
    Ok(report(&figures, &memory))
}

/// Gives the simulated agents' addresses to their host, and their names to the brokers.
fn network(cluster: &Cluster) -> Result<()> {
    let local = ["ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"];
    cluster.output(SIMULATED_ON, "root", &local)?;
    let names = format!(
        "for n in $(seq 0 {}); do echo \"10.1.$((n / 250)).$((n % 250 + 1)) sim$(printf %04d $n)\"; done >> /etc/hosts",
        AGENTS - 1
    );
    for node in NODES {
        let route = ["ip", "route", "add", "10.1.0.0/16", "via", "10.0.0.100"];
        cluster.output(node, "root", &route)?;
        cluster.output(node, "root", &["sh", "-c", &names])?;
    }
    Ok(())
}

/// A certificate for each, by the product's own tool.
fn certificates() -> Result<()> {
    let state = state_dir(NAME);
    let (vsmctl, authority) = (state.join("bin/vsmctl"), state.join("pki"));
    let all = Paths::of(&state, SIMULATED_ON).vsm.join("simulated");
    for number in 0..AGENTS {
        let name = format!("sim{number:04}");
        let out = all.join(&name);
        fs::create_dir_all(&out)?;
        let mut issue = command(&[&vsmctl]);
        issue.args(["pki", "issue", &name, "--role", "agent", "--dir"]).arg(&authority);
        run_command(issue.arg("--out").arg(&out))?;
        let files = [("ca", "ca.pem"), ("cert", "host.pem"), ("key", "host.key")];
        let lines = files.map(|(what, file)| format!("  {what}_file: {CONFIGS}/{name}/{file}\n"));
        fs::write(out.join("tls.yaml"), format!("tls:\n{}", lines.concat()))?;
    }
    Ok(())
}

/// Has the identity of one of them count no more; milliseconds until half of the others, and 99 of 100, know it.
fn revoke(
    cluster: &Cluster,
    active: &str,
    simulated: &mut Simulated,
    round: u64,
) -> Result<(f64, f64)> {
    let identity = format!("agent/sim{round:04}");
    let began = clock::unix_micros() / 1000;
    cluster.output(active, "root", &["vsmctl", "pki", "revoke", &identity, "--force", "-y"])?;
    // Those before it have lost theirs too, and hear nothing.
    let others = AGENTS - round - 1;
    let known = wait_for("all to know it", WAIT, || match simulated.revoked(&identity) {
        Ok(known) if known.told >= others => Ok(known),
        Ok(known) => Err(format!("{} of {others}", known.told)),
        Err(error) => Err(format!("{error:#}")),
    })?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of some seconds are exact in it")]
    let after = |at: u64| at.saturating_sub(began) as f64;
    Ok((after(known.p50_unix_ms), after(known.p99_unix_ms)))
}

/// The process that they are; it ends with its input.
struct Simulated {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Simulated {
    fn start(cluster: &Cluster, sessions: &str) -> Result<Self> {
        let count = AGENTS.to_string();
        let words = [TOOL, "agents", "--count", &count, "--sessions", sessions];
        let more = ["--configs", CONFIGS, "--port", PORT];
        let mut tool = cluster.command(SIMULATED_ON, "root", &[&words[..], &more].concat())?;
        let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.contains("\"agents\""), "the simulated agents do not serve: {line:?}");
        Ok(Self { child, output })
    }

    /// How many have heard that this identity counts no more.
    fn revoked(&mut self, identity: &str) -> Result<Revoked> {
        let input = self.child.stdin.as_mut().context("its input")?;
        writeln!(input, "{identity}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the simulated agents say {line:?}"))
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the simulated agents: {status}");
        Ok(())
    }
}

/// Puts them all into the default subcluster of both nodes.
fn configure(cluster: &Cluster) -> Result<()> {
    let real = (1..=REAL).map(|number| format!("agent{number}"));
    let simulated = (0..AGENTS).map(|number| format!("sim{number:04}"));
    let all: Vec<String> = real.chain(simulated).collect();
    let yaml = format!("subclusters: {{Default: {{agents: [{}]}}}}\n", all.join(", "));
    let state = state_dir(NAME);
    for node in NODES {
        fs::write(Paths::of(&state, node).vsm.join("conf.d/zz-scale.yaml"), &yaml)?;
        cluster.output(node, "root", &["vsmctl", "reload"])?;
    }
    Ok(())
}

/// Waits until both brokers have heard of every agent.
fn linked(cluster: &Cluster) -> Result<()> {
    for node in NODES {
        wait_for(&format!("{node} to hear of all agents"), WAIT, || {
            clock::pause(LOOK_EVERY);
            let log = cluster.daemon_log(node, "vsmserver");
            let heard = (0..AGENTS).filter(|number| {
                log.contains(&format!(
                    "agent{{agent=sim{number:04}}}: vsm_broker::sessions::reconcile: agent is here "
                ))
            });
            let heard = heard.count();
            if heard == usize::try_from(AGENTS).unwrap_or(0) {
                Ok(())
            } else {
                Err(format!("of {heard}"))
            }
        })?;
    }
    Ok(())
}

/// Waits until both brokers have so many sessions; the active one.
fn filled(cluster: &Cluster, sessions: u32) -> Result<&'static str> {
    wait_for(&format!("{sessions} sessions on both brokers"), WAIT, || {
        // Looking is not to be a load of its own.
        clock::pause(LOOK_EVERY);
        let serving = |node| tool::<Serving>(cluster, node, &[TOOL, "serving"]);
        match NODES.map(|node| serving(node).map(|serving| serving.sessions)) {
            [Ok(one), Ok(other)] if one >= sessions && other >= sessions => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    pair::in_step(cluster, WAIT)
}

fn both(cluster: &Cluster, look: fn(&Cluster, &str) -> Result<f64>) -> Result<[f64; 2]> {
    Ok([look(cluster, NODES[0])?, look(cluster, NODES[1])?])
}

/// Resident memory of a broker in MiB.
fn resident(cluster: &Cluster, node: &str) -> Result<f64> {
    Ok(process::of_daemon(cluster, node, "vsmserver")?.now)
}

/// What a broker has worked so far, in seconds.
fn worked(cluster: &Cluster, node: &str) -> Result<f64> {
    process::worked(cluster, node, &[&process::daemon(cluster, node, "vsmserver")?])
}

fn list(cluster: &Cluster, node: &str, format: &str) -> Result<Printed> {
    let words = [TOOL, "first", "--", "vsmctl", "session", "list", "--output", format];
    let printed: Printed = tool(cluster, node, &words)?;
    ensure!(printed.lines >= u64::from(SESSIONS), "only {} lines", printed.lines);
    Ok(printed)
}

fn tool<T: DeserializeOwned>(cluster: &Cluster, node: &str, words: &[&str]) -> Result<T> {
    let text = cluster.output(node, "root", words)?;
    serde_json::from_str(&text).with_context(|| format!("vsm-bench printed {text:?}"))
}

fn report(figures: &Figures, memory: &[[f64; 2]]) -> Report {
    let mut report = Report::new("scale", ABOUT);
    let cpu = |node: usize| median(&figures.cpu.iter().map(|both| both[node]).collect::<Vec<_>>());
    let mib = |stage: usize, node: usize| memory.get(stage).map_or(0.0, |both| both[node]);
    let each = |from: usize, node: usize, sessions: u32| {
        (mib(2, node) - mib(from, node)) * MIB / f64::from(sessions)
    };
    report.aim("cpu_at_rest_percent", cpu(0).max(cpu(1)), Want::AtMost, CPU_AIM);
    let more = each(1, 0, HALF).max(each(1, 1, HALF));
    report.aim("memory_per_session_bytes", more, Want::AtMost, MEMORY_AIM);
    for (first, all, printed) in [
        ("list_table_first_ms", "list_table_all_ms", &figures.table),
        ("list_json_first_ms", "list_json_all_ms", &figures.json),
    ] {
        report.aim(first, median_of(printed, |p| p.first_ms), Want::AtMost, FIRST_AIM_MS);
        report.aim(all, median_of(printed, |p| p.all_ms), Want::AtMost, ALL_AIM_MS);
    }
    report.aim("revoke_p99_ms", median(&figures.revoked_p99), Want::AtMost, REVOKED_AIM_MS);
    report.figure("revoke_p50_ms", median(&figures.revoked_p50));
    report.figure("standby_list_json_first_ms", median_of(&figures.standby, |p| p.first_ms));
    report.figure("standby_list_json_all_ms", median_of(&figures.standby, |p| p.all_ms));
    for (number, node) in ["primary", "secondary"].into_iter().enumerate() {
        report.figure(format!("cpu_{node}_percent"), cpu(number));
        report.figure(format!("memory_{node}_links_mib"), mib(0, number));
        report.figure(format!("memory_{node}_50000_mib"), mib(1, number));
        report.figure(format!("memory_{node}_100000_mib"), mib(2, number));
        report.figure(format!("memory_{node}_more_per_session_bytes"), each(1, number, HALF));
        report.figure(format!("memory_{node}_all_per_session_bytes"), each(0, number, SESSIONS));
    }
    report
}
