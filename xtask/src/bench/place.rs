//! Choosing an agent for a new session, among a thousand and with a hundred thousand sessions in the table.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::report::{Report, Want};
use super::{median_of, median_ratio};
use crate::command::run as run_command;
use crate::compile::{self, Profile};
use crate::progress::Progress;

const ABOUT: &str = "\
One decision of a login on which session host gets it, from the user's subcluster to the check of the proposal, in memory
by the broker's own code, with 1,000 hosts and 100,000 sessions of as many users in the table: 20,000 decisions a run, each
timed by itself. `scan` is the least that comparing all hosts can take: users and weights of 1,000 hosts side by
side in memory, and the lowest of them. `changing` is with one host that tells new figures before each decision.
`storm`: 10,000 logins of as many users on 1,000 empty hosts of equal weight, none of
which has started anything by the time the last one is placed; `deviation` is by how many users a host differs most from
the fair share.";

const DIR: &str = "/var/tmp/vsm-bench-place";
const WORDS: [&str; 8] =
    ["--agents", "1000", "--sessions", "100000", "--decisions", "20000", "--storm", "10000"];
/// Times the scan.
const SCAN_AIM: f64 = 12.0;
const DEVIATION_AIM: f64 = 1.0;

/// What `vsm-bench place` prints.
#[derive(Debug, Deserialize)]
struct Placed {
    by_users: Speed,
    by_load: Speed,
    by_load_changing: Speed,
    scan: Speed,
    storm_by_users: Storm,
    storm_by_load: Storm,
}

#[derive(Debug, Deserialize)]
struct Speed {
    p50_us: f64,
    p99_us: f64,
}

#[derive(Debug, Deserialize)]
struct Storm {
    per_second: f64,
    deviation: f64,
}

pub(super) fn run(runs: u32, progress: Progress) -> Result<Report> {
    let tool = compile::binaries(Profile::Release)?.join("vsm-bench");
    let mut all: Vec<Placed> = Vec::new();
    for round in 0..runs {
        let output = run_command(Command::new(&tool).args(["place", "--dir", DIR]).args(WORDS))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let placed: Placed = serde_json::from_str(&text).with_context(|| text.clone())?;
        let (users, load) = (&placed.by_users, &placed.by_load);
        progress.step(format!(
            "run {}: p99 {:.1} µs by users, {:.1} µs by load",
            round + 1,
            users.p99_us,
            load.p99_us
        ));
        all.push(placed);
    }
    fs::remove_dir_all(DIR).context(DIR)?;
    Ok(report(&all))
}

fn report(all: &[Placed]) -> Report {
    let mut report = Report::new("place", ABOUT);
    let of = |part: fn(&Placed) -> f64| median_of(all, part);
    // No run may deviate more: it is no matter of time.
    let worst = |part: fn(&Placed) -> f64| all.iter().map(part).fold(0.0, f64::max);
    let to_scan = |part: fn(&Placed) -> f64| {
        median_ratio(all.iter().map(|placed| (part(placed), placed.scan.p50_us)))
    };
    let by_users = to_scan(|p| p.by_users.p50_us);
    report.aim("by_users_p50_to_scan", by_users, Want::AtMost, SCAN_AIM);
    report.aim("by_load_p50_to_scan", to_scan(|p| p.by_load.p50_us), Want::AtMost, SCAN_AIM);
    let deviation = worst(|p| p.storm_by_users.deviation);
    report.aim("storm_by_users_deviation", deviation, Want::AtMost, DEVIATION_AIM);
    let deviation = worst(|p| p.storm_by_load.deviation);
    report.aim("storm_by_load_deviation", deviation, Want::AtMost, DEVIATION_AIM);
    let changing = to_scan(|p| p.by_load_changing.p50_us);
    report.figure("by_load_changing_p50_to_scan", changing);
    report.figure("by_users_p99_us", of(|p| p.by_users.p99_us));
    report.figure("by_load_p99_us", of(|p| p.by_load.p99_us));
    report.figure("by_users_p50_us", of(|p| p.by_users.p50_us));
    report.figure("by_load_p50_us", of(|p| p.by_load.p50_us));
    report.figure("scan_p50_us", of(|p| p.scan.p50_us));
    report.figure("storm_by_users_per_second", of(|p| p.storm_by_users.per_second));
    report.figure("storm_by_load_per_second", of(|p| p.storm_by_load.per_second));
    report
}
