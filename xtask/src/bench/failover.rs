//! Taking over: how long until the other node serves, on real hosts with keepalived and sshd, after the active node's
//! cable was pulled and when an administrator asks for it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::report::{Report, Want};
use super::{TOOL, median_of};
use crate::clock::{self, wait_for};
use crate::cluster::{Cluster, ClusterSpec, Fault, files};
use crate::compile::{self, Profile};
use crate::pair::{self, NODES};
use crate::progress::Progress;

const ABOUT: &str = "\
A pair of brokers with keepalived (adverts 0.1 s apart) and three agents, each a host of its own, with 50,000 sessions in
the table. `unplanned`: the active node's cable is pulled. `detection` is until the other one has the resource address,
which is keepalived's part; `promotion` from there until it serves, with the votes of the witnesses, by the times in its
log; `ssh` a whole login from then on (`vsm connect` at the resource address, ssh included), so that `first_answer` is
what a user gets who comes as soon as there is somebody to come to. `waiting_user` is one who logged in at the moment of
the fault; TCP repeats an unanswered SYN after a second. `planned`: `vsmctl ha takeover` on the standby, from the start of
the command until the node both serves and has the address. The brokers' stores are in memory here: a commit on disk
is in `commit`.";

const SESSIONS: &str = "50000";
const SESSIONS_MIN: u32 = 50_000;
const AGENTS: &str = "100";
const NAME: &str = "bench";
const STATE: &str = "/var/lib/vsm";
const WAIT: Duration = Duration::from_secs(60);
/// Tries of a login.
const LOGIN_SECONDS: u32 = 60;
/// What a node logs when it serves, and when the address is on it.
const SERVES: &str = " active epoch=";
const HOLDS: &str = " holds=true";

/// One fault, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Unplanned {
    detection: f64,
    promotion: f64,
    ssh: f64,
    first_answer: f64,
    waiting_user: f64,
}

/// One hand-over, in milliseconds from the start of the command.
#[derive(Debug, Clone, Copy)]
struct Planned {
    serves: f64,
    holds: f64,
    ready: f64,
}

pub(super) fn run(runs: u32, progress: Progress) -> Result<Report> {
    let mut spec = ClusterSpec::pair(NAME, compile::helper()?);
    spec.binaries = compile::binaries(Profile::Release)?;
    spec.fresh = true;
    progress.step("two brokers with keepalived, three agents and a client come up");
    let cluster = Cluster::up(&spec)?;
    files::install(NAME, &spec.binaries.join("vsm-bench"))?;
    for agent in ["agent1", "agent2", "agent3"] {
        cluster.output(agent, "root", &["sh", "-c", pair::BARE_SCRIPT])?;
    }
    fill(&cluster)?;
    for user in ["alice", "bob"] {
        wait_for("the first login", WAIT, || {
            pair::login(&cluster, user, LOGIN_SECONDS).map_err(|error| format!("{error:#}"))
        })?;
    }
    progress.step(format!("both brokers have {SESSIONS} sessions, and two users a desktop"));
    let (mut unplanned, mut planned) = (Vec::new(), Vec::new());
    for round in 0..runs {
        let fault = fault(&cluster)?;
        let hand_over = hand_over(&cluster)?;
        progress.step(format!("run {}: {fault:.0?}, {hand_over:.0?}", round + 1));
        unplanned.push(fault);
        planned.push(hand_over);
    }
    cluster.down()?;
    Ok(report(&unplanned, &planned))
}

/// Fills the table of a pair that was formed already: of one node, and the other one follows.
fn fill(cluster: &Cluster) -> Result<()> {
    let active = pair::in_step(cluster, WAIT)?;
    let standby = pair::other(active);
    for host in [standby, active] {
        cluster.stop_daemon(host, "vsmserver")?;
    }
    let words = [TOOL, "fill", "--dir", STATE, "--sessions", SESSIONS, "--agents", AGENTS];
    cluster.output(active, "root", &words)?;
    cluster.start_daemon(active, "vsmserver")?;
    // First alone: one that knows nothing of these sessions must not begin a reign without them.
    wait_for("the filled node to be active", WAIT, || {
        let node = pair::node(cluster, active).map_err(|error| format!("{error:#}"))?;
        if node.role == "active" && node.ready { Ok(()) } else { Err(format!("{node:?}")) }
    })?;
    cluster.start_daemon(standby, "vsmserver")?;
    pair::in_step(cluster, WAIT)?;
    for host in NODES {
        let sessions = pair::node(cluster, host)?.sessions;
        ensure!(sessions >= SESSIONS_MIN, "{host} has {sessions} sessions");
    }
    Ok(())
}

/// A node's log from a moment on.
struct Watch<'a> {
    cluster: &'a Cluster,
    host: &'static str,
    /// Microseconds since 1970.
    from: u64,
}

impl<'a> Watch<'a> {
    fn start(cluster: &'a Cluster, host: &'static str) -> Self {
        Self { cluster, host, from: clock::unix_micros() }
    }

    /// Milliseconds from the start until now.
    fn now(&self) -> f64 {
        self.since(clock::unix_micros())
    }

    fn since(&self, micros: u64) -> f64 {
        Duration::from_micros(micros.saturating_sub(self.from)).as_secs_f64() * 1000.0
    }

    /// Waits until the node logs this; milliseconds from the start, by the line's own time.
    fn logged(&self, what: &str) -> Result<f64> {
        wait_for(&format!("{} to log {what:?}", self.host), WAIT, || {
            let at = pair::logged(self.cluster, self.host, what, self.from);
            let last = || {
                let log = self.cluster.daemon_log(self.host, "vsmserver");
                log.lines().last().unwrap_or_default().to_owned()
            };
            at.map(|at| self.since(at)).ok_or_else(last)
        })
    }
}

fn fault(cluster: &Cluster) -> Result<Unplanned> {
    let active = pair::in_step(cluster, WAIT)?;
    let watch = Watch::start(cluster, pair::other(active));
    cluster.fault(&Fault::Cable { host: active.to_owned() })?;
    let times = std::thread::scope(|scope| -> Result<Unplanned> {
        let waiting =
            scope.spawn(|| pair::login(cluster, "bob", LOGIN_SECONDS).map(|_| watch.now()));
        let detection = watch.logged(HOLDS)?;
        let serves = watch.logged(SERVES)?;
        let comes = watch.now();
        let desktop = pair::login(cluster, "alice", LOGIN_SECONDS)?;
        let ssh = watch.now() - comes;
        ensure!(!desktop.created, "alice was given another desktop");
        let waiting = waiting.join().map_err(|_| anyhow::anyhow!("the login of bob died"))?;
        Ok(Unplanned {
            detection,
            promotion: (serves - detection).max(0.0),
            ssh,
            first_answer: serves.max(detection) + ssh,
            waiting_user: waiting.context("bob")?,
        })
    })?;
    cluster.heal(&[])?;
    pair::in_step(cluster, WAIT)?;
    Ok(times)
}

fn hand_over(cluster: &Cluster) -> Result<Planned> {
    let standby = pair::other(pair::in_step(cluster, WAIT)?);
    let watch = Watch::start(cluster, standby);
    cluster.output(standby, "root", &["vsmctl", "ha", "takeover"])?;
    let (serves, holds) = (watch.logged(SERVES)?, watch.logged(HOLDS)?);
    let now = pair::in_step(cluster, WAIT)?;
    ensure!(now == standby, "{now} is active after a hand-over to {standby}");
    Ok(Planned { serves, holds, ready: serves.max(holds) })
}

fn report(unplanned: &[Unplanned], planned: &[Planned]) -> Report {
    let mut report = Report::new("failover", ABOUT);
    let of = |part: fn(&Unplanned) -> f64| median_of(unplanned, part);
    let to = |part: fn(&Planned) -> f64| median_of(planned, part);
    report.aim("promotion_ms", of(|times| times.promotion), Want::AtMost, 50.0);
    report.aim("planned_ms", to(|times| times.ready), Want::AtMost, 200.0);
    let worst = unplanned.iter().map(|times| times.promotion).fold(0.0, f64::max);
    report.figure("unplanned_promotion_max_ms", worst);
    report.figure("unplanned_detection_ms", of(|times| times.detection));
    report.figure("unplanned_ssh_ms", of(|times| times.ssh));
    report.figure("unplanned_first_answer_ms", of(|times| times.first_answer));
    report.figure("unplanned_waiting_user_ms", of(|times| times.waiting_user));
    report.figure("planned_serves_ms", to(|times| times.serves));
    report.figure("planned_holds_address_ms", to(|times| times.holds));
    let worst = planned.iter().map(|times| times.ready).fold(0.0, f64::max);
    report.figure("planned_max_ms", worst);
    report
}
