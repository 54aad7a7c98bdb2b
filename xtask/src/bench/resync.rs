//! Bringing the other broker up to date: from nothing, and after it was away for a while; and what the active one's
//! callers notice of it.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::commit::{self, Now};
use super::lab::{Lab, NODES, Node};
use super::report::{Report, Want};
use super::speed::Speed;
use super::{median, median_of, median_ratio};
use crate::progress::Progress;

const ABOUT: &str = "\
The same two processes as in `commit`, with 100,000 sessions: from the moment in which the active node begins to connect
until the other one has everything, on disk. `empty` is one whose disk is new, which gets the whole table after the
active node has begun its reign anew (the other one has forgotten what it promised); `missed` is one that was cut off
while 1,000 sessions were added, which gets just these. Commits go on meanwhile, one at a time, two milliseconds apart, and
`normal` are such commits while both are in sync. The three witnesses are in the active node's memory. `max` is the
longest commit of a run, with all attempts of one that was refused while the reign was beginning anew.";

const SESSIONS: usize = 100_000;
const MISSED: usize = 1000;
const PORT: u16 = 7904;
const NORMAL_MS: u64 = 1500;

/// What `join` prints.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Joined {
    synced_ms: f64,
    meanwhile: Paced,
}

/// Paced commits.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Paced {
    #[serde(flatten)]
    speed: Speed,
    max_us: f64,
}

pub(super) fn run(runs: u32, progress: Progress) -> Result<Report> {
    let lab = Lab::new()?;
    let [mut active, mut standby] = commit::pair(&lab)?;
    let now: Now = active.order(&format!("fill {SESSIONS}"))?;
    progress.step(format!("{} sessions are on both nodes", now.sessions));
    let (mut normal, mut missed, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..runs {
        normal.push(active.order::<Paced>(&format!("pace {NORMAL_MS}"))?);
        active.order::<Value>("cut")?;
        active.order::<Value>(&format!("fill {MISSED}"))?;
        missed.push(active.order::<Joined>("join")?);
        active.order::<Value>("cut")?;
        drop(standby);
        fs::remove_dir_all(lab.path(NODES[1])).context("the other node's disk")?;
        standby = Node::start(&lab, NODES[1], PORT)?;
        standby.order::<Value>("now")?;
        empty.push(active.order::<Joined>("join")?);
        let last = |all: &[Joined]| all.last().map_or(0.0, |joined| joined.synced_ms);
        progress.step(format!(
            "run {}: {:.0} ms from empty, {:.1} ms for {MISSED} changes",
            round + 1,
            last(&empty),
            last(&missed)
        ));
    }
    drop(standby);
    Ok(report(&normal, &missed, &empty))
}

fn report(normal: &[Paced], missed: &[Joined], empty: &[Joined]) -> Report {
    let mut report = Report::new("resync", ABOUT);
    let time =
        |all: &[Joined]| median(&all.iter().map(|joined| joined.synced_ms).collect::<Vec<_>>());
    let slower = |all: &[Joined]| {
        let pairs = all.iter().zip(normal);
        median_ratio(
            pairs.map(|(during, normal)| (during.meanwhile.speed.p50_us, normal.speed.p50_us)),
        )
    };
    let share = missed.iter().zip(empty).map(|(missed, empty)| (missed.synced_ms, empty.synced_ms));
    report.aim("empty_100000_sessions_ms", time(empty), Want::AtMost, 2000.0);
    report.aim("missed_1000_share", median_ratio(share), Want::AtMost, 0.05);
    report.aim("empty_commit_p50_to_normal", slower(empty), Want::AtMost, 2.0);
    report.aim("missed_commit_p50_to_normal", slower(missed), Want::AtMost, 2.0);
    report.figure("missed_1000_ms", time(missed));
    let mut commits = |name: &str, all: &[Paced]| {
        let of = |part: fn(&Paced) -> f64| median_of(all, part);
        report.figure(format!("{name}_commit_p50_us"), of(|paced| paced.speed.p50_us));
        report.figure(format!("{name}_commit_p99_us"), of(|paced| paced.speed.p99_us));
        report.figure(format!("{name}_commit_max_us"), of(|paced| paced.max_us));
    };
    let meanwhile = |all: &[Joined]| all.iter().map(|joined| joined.meanwhile).collect::<Vec<_>>();
    commits("normal", normal);
    commits("missed", &meanwhile(missed));
    commits("empty", &meanwhile(empty));
    report
}
