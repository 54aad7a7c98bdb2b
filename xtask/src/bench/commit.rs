//! Changes that are durable on both brokers, one at a time and many at once; beside stores that promise the same, and
//! the least that such a change can take.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::lab::{Lab, NODES, Node};
use super::report::{Report, Want};
use super::rivals::{self, Rival};
use super::speed::Speed;
use super::{median_of, median_ratio};
use crate::clock::wait_for;
use crate::progress::Progress;

const ABOUT: &str = "\
Changes of the session table, with records of 400 bytes, that are answered when both brokers have them on disk: two
processes with the product's store and its stream over mutual TLS on loopback, asked within the active one as the
broker asks. The rivals are PostgreSQL 15 with a synchronous standby (`synchronous_commit = on`, one-row inserts by
pgbench), etcd 3.4 with three members (`Put` by gRPC at the leader), and Redis 7 with a replica (`appendfsync always`
on both, `SET` then `WAIT 1`, by a client of ours). Between their nodes is TLS with the same certificates; their clients
come the shortest way (unix sockets, plain loopback with etcd) with a connection for each write in flight (with etcd
for sixteen). All data is on the same file system. `floor` is the least that it takes: 400 bytes go to another process
over mutual TLS, both append them to a file and `fdatasync` it at the same time, and 16 bytes come back; one at a time,
by plain blocking threads.";

const PORT: u16 = 7904;
const FLOOR_PORT: &str = "7905";
/// How long one measurement takes.
const FOR_MS: u64 = 1000;
const SERVICE_WAIT: Duration = Duration::from_secs(20);
const FLOOR_AIM: f64 = 1.3;
const RIVAL_AIM: f64 = 1.2;

/// How a node is.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Now {
    serving: bool,
    synced: bool,
    pub(super) sessions: usize,
}

/// Starts both nodes, and waits until they are a pair that takes changes.
pub(super) fn pair(lab: &Lab) -> Result<[Node; 2]> {
    let mut standby = Node::start(lab, NODES[1], PORT)?;
    // When it answers, it listens.
    standby.order::<Value>("now")?;
    let mut active = Node::start(lab, NODES[0], PORT)?;
    active.order::<Value>("join")?;
    wait_for("the pair", SERVICE_WAIT, || {
        let now: Now = active.order("now").map_err(|error| format!("{error:#}"))?;
        if now.serving && now.synced { Ok(()) } else { Err(format!("{now:?}")) }
    })?;
    Ok([active, standby])
}

/// Everything that one round measures.
#[derive(Default)]
struct Rounds {
    floor: Vec<Speed>,
    one: Vec<Speed>,
    many: Vec<Speed>,
    /// Of each rival: one and many.
    rivals: Vec<(&'static str, Vec<Speed>, Vec<Speed>)>,
}

pub(super) fn run(runs: u32, progress: Progress) -> Result<Report> {
    rivals::setup()?;
    let lab = Lab::new()?;
    let mut pair = pair(&lab)?;
    progress.step("a pair of session tables is in sync");
    let rivals = [rivals::redis(&lab)?, rivals::postgres(&lab)?, rivals::etcd(&lab)?];
    progress.step("Redis, PostgreSQL and etcd take replicated writes");
    let mut rounds = Rounds::default();
    rounds.rivals.extend(rivals.iter().map(|rival| (rival.name, Vec::new(), Vec::new())));
    for round in 0..runs {
        one_round(&lab, &mut pair[0], &rivals, &mut rounds)?;
        let rate = |all: &[Speed]| all.last().map_or(0.0, |speed| speed.per_second);
        let p50 = |all: &[Speed]| all.last().map_or(0.0, |speed| speed.p50_us);
        let (ours, floor) = (p50(&rounds.one), p50(&rounds.floor));
        let others: Vec<_> = rounds
            .rivals
            .iter()
            .map(|(name, one, many)| format!("{name} {:.0} µs, {:.0}/s", p50(one), rate(many)))
            .collect();
        progress.step(format!(
            "run {}: one {ours:.0} µs, floor {floor:.0} µs; 64 at once {:.0}/s; {}",
            round + 1,
            rate(&rounds.many),
            others.join("; ")
        ));
    }
    Ok(report(&rounds))
}

fn one_round(lab: &Lab, active: &mut Node, rivals: &[Rival], rounds: &mut Rounds) -> Result<()> {
    // What is compared with each other is measured one right after the other.
    rounds.floor.push(floor(lab)?);
    rounds.one.push(active.order(&format!("load 1 {FOR_MS}"))?);
    for (rival, (_, one, many)) in rivals.iter().zip(&mut rounds.rivals) {
        one.push(rival.load(lab, 1, FOR_MS)?);
        many.push(rival.load(lab, 64, FOR_MS)?);
    }
    rounds.many.push(active.order(&format!("load 64 {FOR_MS}"))?);
    Ok(())
}

fn floor(lab: &Lab) -> Result<Speed> {
    let side = |node: &str| {
        let (config, file) =
            (lab.config(node).display().to_string(), lab.word(&format!("floor-{node}")));
        ["floor", "--config", &config, "--port", FLOOR_PORT, "--file", &file].map(str::to_owned)
    };
    let (own, peer) = (side(NODES[0]), side(NODES[1]));
    let _peer = lab.server("floor-peer", &peer.each_ref().map(String::as_str))?;
    let for_ms = FOR_MS.to_string();
    let own: Vec<&str> = own.iter().map(String::as_str).chain(["--for-ms", &for_ms]).collect();
    wait_for("the floor", SERVICE_WAIT, || lab.measure(&own).map_err(|error| format!("{error:#}")))
}

fn report(rounds: &Rounds) -> Report {
    let mut report = Report::new("commit", ABOUT);
    let ratio = |ours: &[Speed], theirs: &[Speed], part: fn(&Speed) -> f64| {
        median_ratio(ours.iter().zip(theirs).map(|(ours, theirs)| (part(ours), part(theirs))))
    };
    let rate = |speed: &Speed| speed.per_second;
    let p50 = |speed: &Speed| speed.p50_us;
    let ratios = rounds.rivals.iter().map(|(_, _, many)| ratio(&rounds.many, many, rate));
    // Against the best of them the ratio is the smallest.
    let best = ratios.fold(f64::INFINITY, f64::min);
    report.aim("64_in_flight_to_best_rival", best, Want::AtLeast, RIVAL_AIM);
    let floor = ratio(&rounds.one, &rounds.floor, p50);
    report.aim("1_in_flight_p50_to_floor", floor, Want::AtMost, FLOOR_AIM);
    let mut figures = |name: &str, all: &[Speed]| {
        report.figure(format!("{name}_per_second"), median_of(all, rate));
        report.figure(format!("{name}_p50_us"), median_of(all, p50));
        report.figure(format!("{name}_p99_us"), median_of(all, |speed| speed.p99_us));
    };
    figures("floor", &rounds.floor);
    figures("in_flight_1", &rounds.one);
    figures("in_flight_64", &rounds.many);
    for (name, one, many) in &rounds.rivals {
        figures(&format!("in_flight_1_{name}"), one);
        figures(&format!("in_flight_64_{name}"), many);
    }
    report
}
