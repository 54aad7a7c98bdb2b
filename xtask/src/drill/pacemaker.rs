//! `cargo xtask drill --ha pacemaker`: the faults that Pacemaker is for, one after the other, while users log in and
//! out. Then the same ones on a pair under keepalived, so that each time stands beside the other.
//!
//! The fence race is one of them, as it goes without and with the documented configuration: without, the node whose
//! cable is pulled shoots the healthy one.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{AGENTS, Options, Outcome, STEP_WAIT, Spread, USERS, check, demand, plan, users, well};
use crate::clock::{self, wait_for};
use crate::cluster::{Cluster, ClusterSpec, Fault, HaSoftware, Traffic};
use crate::compile;
use crate::pair::{self, Desktop};
use crate::progress::Progress;

/// How long a user waits for the desktop; nothing that works comes near it.
const PATIENCE_S: u32 = 90;
/// How often each fault is made under keepalived.
const BESIDE: u32 = 2;
/// Who comes at the worst moment; not one of the drill's other users.
const WITNESS: &str = "user009";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Power,
    Cable,
    Crash,
    Standby,
    /// Only the link between the nodes: both are healthy.
    Link,
    /// The cable, without what keeps an isolated node from winning.
    Race,
}

const ALL: [Kind; 6] =
    [Kind::Power, Kind::Cable, Kind::Crash, Kind::Standby, Kind::Link, Kind::Race];

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Cable => "cable",
            Self::Crash => "crash",
            Self::Standby => "planned",
            Self::Link => "link",
            Self::Race => "race",
        }
    }
}

/// The drill's last line.
#[derive(Debug, Default, Serialize)]
struct Report {
    ha: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
    /// Races that the isolated node won, as it does without the documented configuration.
    isolated_won: u32,
    /// Races that the healthy node won, with it.
    healthy_won: u32,
    /// Races of two healthy nodes that the active one won.
    active_won: u32,
    /// From the fault on until a user who comes then has the desktop, in milliseconds, by kind.
    failover_ms: BTreeMap<&'static str, Times>,
    /// Of a race that the isolated node won: the same, from when its cable is back.
    race_recovery_ms: Vec<u64>,
}

#[derive(Debug, Default, Serialize)]
struct Times {
    pacemaker: Vec<u64>,
    keepalived: Vec<u64>,
}

/// Drills.
pub(super) fn drill(options: &Options) -> Result<()> {
    if !options.faults.is_empty() {
        bail!("--faults: not with --ha pacemaker, where each kind comes in turn");
    }
    let seed = options.seed.unwrap_or_else(clock::seed);
    let progress = Progress::new(true);
    let mut report = Report { ha: "pacemaker", ..Report::default() };
    (report.outcome.rounds, report.outcome.seed) = (options.rounds, seed);
    let cluster = cluster(HaSoftware::Pacemaker, &progress)?;
    let done = rounds(&cluster, &progress, options.rounds, seed, &mut report);
    if done.is_err() || report.outcome.violations() > 0 {
        progress.step("the cluster stays: cargo xtask cluster status --name drill");
        cluster.keep();
        println!("{}", serde_json::to_string(&report)?);
        done?;
        bail!("{} violation(s); seed {seed}", report.outcome.violations());
    }
    cluster.down()?;
    beside(&progress, &mut report)?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn cluster(software: HaSoftware, progress: &Progress) -> Result<Cluster> {
    let mut spec = ClusterSpec::pair("drill", compile::helper()?);
    (spec.fresh, spec.agents, spec.users, spec.software) = (true, AGENTS, USERS + 1, software);
    progress.step(format!("a pair under {software:?}, {AGENTS} agents, {USERS} users"));
    let cluster = Cluster::up(&spec)?;
    for number in 1..=AGENTS {
        let words = ["sh", "-c", pair::BARE_SCRIPT];
        cluster.output(&format!("agent{number}"), "root", &words)?;
    }
    pair::in_step(&cluster, STEP_WAIT)?;
    demand::place(&cluster)?;
    Ok(cluster)
}

fn rounds(
    cluster: &Cluster,
    progress: &Progress,
    count: u32,
    seed: u64,
    report: &mut Report,
) -> Result<()> {
    let mut random = plan::Random::new(seed);
    let users = users::Users::new(USERS);
    let own = pair::login(cluster, WITNESS, PATIENCE_S)?;
    let (mut longest, mut whole) = (Vec::new(), Vec::new());
    for (round, kind) in (1..=count).zip(ALL.into_iter().cycle()) {
        let before = users.longest();
        let (told, healed) = std::thread::scope(|scope| -> Result<_> {
            let going = users.start(scope, cluster, &mut random);
            let told = one(cluster, progress, round, kind, &own, report);
            let healed = well::heal(cluster, || settled(cluster));
            users.stop();
            going.join();
            Ok((told?, healed?))
        })?;
        progress
            .step(format!("round {round}: {}: {told} ms until {WITNESS} was back", kind.name()));
        *report.outcome.faults.entry(kind.name()).or_default() += 1;
        longest.push(users.longest_since(&before));
        progress.step(format!("round {round}: {healed}"));
        whole.push(healed.took_ms());
        let rebooted = check::Rebooted::default();
        let found = healed.and_then(cluster, &users, &rebooted, round == count)?;
        found.tell(progress);
        found.add_to(&mut report.outcome);
        if report.outcome.violations() > 0 {
            break;
        }
    }
    (report.outcome.logins, report.outcome.refused) = users.counts();
    report.outcome.unavailable_ms = Spread::of(longest);
    report.outcome.whole_ms = Spread::of(whole);
    Ok(())
}

/// One fault; how long the user had to wait.
fn one(
    cluster: &Cluster,
    progress: &Progress,
    round: u32,
    kind: Kind,
    own: &Desktop,
    report: &mut Report,
) -> Result<u64> {
    let active = pair::in_step(cluster, STEP_WAIT)?;
    progress.step(format!("round {round}: {} at {active}", kind.name()));
    if kind == Kind::Race {
        return race(cluster, progress, active, own, report);
    }
    let shots = shots(cluster).len();
    let began = clock::now();
    for fault in faults(kind, active) {
        cluster.fault(&fault)?;
    }
    let took = back(cluster, own, began)?;
    report.failover_ms.entry(kind.name()).or_default().pacemaker.push(took);
    let (winner, count) = match kind {
        Kind::Cable => (pair::other(active), &mut report.healthy_won),
        Kind::Link => (active, &mut report.active_won),
        Kind::Power | Kind::Crash | Kind::Standby | Kind::Race => return Ok(took),
    };
    let shots = next_shots(cluster, shots)?;
    if shots.iter().any(|(by, at)| by != winner || at == winner) {
        bail!("{winner} was to win the race: {shots:?}");
    }
    *count += 1;
    Ok(took)
}

/// The race without what the documented configuration does about it: the isolated node wins, and there is no service
/// until its cable is back. Nothing may be lost by that.
fn race(
    cluster: &Cluster,
    progress: &Progress,
    active: &str,
    own: &Desktop,
    report: &mut Report,
) -> Result<u64> {
    let healthy = pair::other(active);
    let topology = ["cibadmin", "--delete", "--xpath", "//fencing-topology"];
    cluster.output(active, "root", &topology)?;
    let before = shots(cluster).len();
    let cable = Fault::Cable { host: active.to_owned() };
    cluster.fault(&cable)?;
    let shots = next_shots(cluster, before)?;
    if !shots.iter().any(|(by, at)| by == active && at == healthy) {
        bail!("the isolated node {active} was to win the race: {shots:?}");
    }
    report.isolated_won += 1;
    // Dark it is: the healthy node has booted, and waits for the other one.
    wait_for("the healthy node to wait", STEP_WAIT, || {
        let placed = cluster.placed(healthy).map_err(|error| format!("{error:#}"))?;
        if placed.quorate { Err(format!("{placed:?}")) } else { Ok(()) }
    })?;
    progress.step(format!("{active} has shot {healthy}, which waits for it: no service"));
    cluster.heal_fault(&cable)?;
    let took = back(cluster, own, clock::now())?;
    report.race_recovery_ms.push(took);
    let load = ["crm", "-F", "configure", "load", "update", "/etc/vsm.crm"];
    cluster.output(active, "root", &load)?;
    Ok(took)
}

/// Pacemaker's own idea of the move is a standby.
fn faults(kind: Kind, active: &str) -> Vec<Fault> {
    let host = active.to_owned();
    match kind {
        Kind::Power => vec![Fault::Power { host }],
        Kind::Cable | Kind::Race => vec![Fault::Cable { host }],
        Kind::Crash => vec![Fault::Crash { host, daemon: "vsmserver".to_owned() }],
        Kind::Standby => vec![Fault::Standby { host }],
        Kind::Link => Fault::partition(active, pair::other(active), Traffic::All).into(),
    }
}

/// Waits until the user has the same desktop again, from a moment on, in milliseconds.
fn back(cluster: &Cluster, own: &Desktop, since: std::time::Instant) -> Result<u64> {
    let now = pair::login(cluster, WITNESS, PATIENCE_S)?;
    let took = u64::try_from(since.elapsed().as_millis())?;
    if now.session != own.session {
        bail!("{WITNESS} was given {} and not {}", now.session, own.session);
    }
    Ok(took)
}

/// Waits until both brokers are in step and Pacemaker has nothing more to do.
fn settled(cluster: &Cluster) -> Result<()> {
    pair::in_step(cluster, STEP_WAIT)?;
    for node in pair::NODES {
        let words = ["crm_resource", "--wait", "--timeout=60s"];
        cluster.output(node, "root", &words).context("Pacemaker does not come to rest")?;
    }
    // The role may have moved meanwhile.
    pair::in_step(cluster, STEP_WAIT).map(drop)
}

/// Who had whose power cut, in order, by the power switch's own log.
fn shots(cluster: &Cluster) -> Vec<(String, String)> {
    let shot = |line: &str| {
        let words: Vec<_> = line.split([' ', ':']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [_, by, "reboot" | "off", host, "ok"] => Some((by.to_owned(), host.to_owned())),
            _ => None,
        }
    };
    cluster.power_log().lines().filter_map(shot).collect()
}

/// Waits for more of them.
fn next_shots(cluster: &Cluster, before: usize) -> Result<Vec<(String, String)>> {
    wait_for("a shot", STEP_WAIT, || {
        let new: Vec<_> = shots(cluster).into_iter().skip(before).collect();
        if new.is_empty() { Err("nobody was shot".to_owned()) } else { Ok(new) }
    })
}

/// The same faults under keepalived.
fn beside(progress: &Progress, report: &mut Report) -> Result<()> {
    let cluster = cluster(HaSoftware::Keepalived, progress)?;
    let own = pair::login(&cluster, WITNESS, PATIENCE_S)?;
    // Without fencing there is no race.
    for kind in ALL.into_iter().filter(|kind| !matches!(kind, Kind::Race | Kind::Link)) {
        for _ in 0..BESIDE {
            let active = pair::in_step(&cluster, STEP_WAIT)?;
            let began = clock::now();
            if kind == Kind::Standby {
                let words = ["vsmctl", "ha", "takeover"];
                cluster.output(pair::other(active), "root", &words)?;
            } else {
                for fault in faults(kind, active) {
                    cluster.fault(&fault)?;
                }
            }
            let took = back(&cluster, &own, began)?;
            progress
                .step(format!("{} at {active}: {took} ms until {WITNESS} was back", kind.name()));
            report.failover_ms.entry(kind.name()).or_default().keepalived.push(took);
            cluster.heal(&[])?;
            pair::in_step(&cluster, STEP_WAIT)?;
        }
    }
    cluster.down()
}
