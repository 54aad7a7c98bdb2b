//! `cargo xtask bench NAME…`: how fast and how small the product is, on real parts, each figure beside that of a peer
//! that was measured in the same run on the same hosts.
//!
//! What measures is `vsm-bench`, run inside the hosts of a miniature cluster of its own, or, where no hosts are needed,
//! in a bare network; here is what to measure, in which order, and what becomes of the figures. An aim that is missed
//! is a result, not a failure.

mod agent;
mod commit;
mod failover;
mod lab;
mod login;
mod lookup;
mod machine;
mod memory;
mod place;
mod process;
mod report;
mod resync;
mod rivals;
mod scale;
mod speed;
mod start;
mod web;

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;

use self::machine::Machine;
use self::report::Report;
use crate::clock::wait_for;
use crate::cluster::files;
use crate::cluster::{Cluster, ClusterSpec};
use crate::compile::{self, Profile};
use crate::progress::Progress;
use crate::setup;

/// Where the hosts see the measuring program.
const TOOL: &str = "/run/vsm-bin/vsm-bench";
const BROKER: &str = "tlha-primary";
const AGENT: &str = "agent1";
/// How long the daemons are waited for, also with all that they can have.
const SERVICE_WAIT: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;
/// Users for the many that come at once.
const USERS: u16 = 20;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Benchmarks to run; all if none is named
    names: Vec<Name>,
    /// Print only the line of JSON
    #[arg(long)]
    json: bool,
    /// How often to repeat each measurement; the medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Write the figures to docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// Do not build; use the programs that are there
    #[arg(long)]
    no_build: bool,
}

/// A benchmark.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// A new desktop, compared with the X server alone
    Start,
    /// Look-ups of a desktop, compared with an echo over the same hops
    Lookup,
    /// The same, compared with x2gobroker
    Login,
    /// Resident memory of the daemons
    Memory,
    /// A session host with a hundred desktops, and the path of their pictures
    Agent,
    /// Changes that both brokers have on disk, compared with other stores
    Commit,
    /// Bringing the other broker up to date
    Resync,
    /// Choosing a session host for a new desktop
    Place,
    /// A thousand agents and a hundred thousand sessions
    Scale,
    /// Taking over from a node that is cut off, and by request
    Failover,
    /// Desktops in a browser, compared with the same by `vsm`
    Web,
}

/// Measures, prints, keeps.
pub(crate) fn bench(options: &Options) -> Result<()> {
    setup::setup(false)?;
    if !options.no_build {
        compile::build(Profile::Release)?;
    }
    let names = if options.names.is_empty() { Name::value_variants() } else { &options.names };
    for name in names {
        let report = one(*name, options.runs)?;
        if !options.json {
            print!("{}", report.table());
        }
        println!("{}", report.json()?);
        if options.write {
            report.write(&compile::root().join("docs/benchmarks.md"))?;
        }
    }
    Ok(())
}

/// Runs one benchmark in a place of its own, which is taken away at the end.
fn one(name: Name, runs: u32) -> Result<Report> {
    let machine = Machine::look()?;
    let progress = Progress::new(true);
    let mut report = match name {
        Name::Start => on_hosts(runs, USERS, progress, start::run),
        Name::Lookup => on_hosts(runs, USERS, progress, lookup::run),
        Name::Login => login::setup().and_then(|()| on_hosts(runs, USERS, progress, login::run)),
        Name::Memory => on_hosts(runs, USERS, progress, memory::run),
        Name::Agent => on_hosts(runs, agent::SESSIONS, progress, agent::run),
        Name::Commit => commit::run(runs, progress),
        Name::Resync => resync::run(runs, progress),
        Name::Place => place::run(runs, progress),
        Name::Scale => scale::run(runs, progress),
        Name::Failover => failover::run(runs, progress),
        Name::Web => web::setup().and_then(|()| web::run(runs, progress)),
    }?;
    report.machine = machine;
    Ok(report)
}

fn on_hosts(
    runs: u32,
    users: u16,
    progress: Progress,
    run: fn(&Hosts<'_>) -> Result<Report>,
) -> Result<Report> {
    let mut spec = ClusterSpec::new("bench", compile::helper()?);
    spec.binaries = compile::binaries(Profile::Release)?;
    (spec.agents, spec.users, spec.fresh) = (1, users, true);
    progress.step("a broker, an agent and a client come up, each a host of its own");
    let cluster = Cluster::up(&spec)?;
    files::install("bench", &spec.binaries.join("vsm-bench"))?;
    let report = run(&Hosts { cluster: &cluster, progress, runs })?;
    cluster.down()?;
    Ok(report)
}

/// The hosts on which it is measured.
struct Hosts<'a> {
    cluster: &'a Cluster,
    progress: Progress,
    runs: u32,
}

impl Hosts<'_> {
    /// Runs the measuring program as root and reads its line of JSON.
    fn tool<T: DeserializeOwned>(&self, host: &str, words: &[&str]) -> Result<T> {
        let answer = self.root(host, &[&[TOOL], words].concat())?;
        serde_json::from_str(&answer).with_context(|| format!("vsm-bench printed {answer:?}"))
    }

    /// Waits until the broker has heard of the agent's new life, by its own word.
    fn wait_linked(&self) -> Result<()> {
        wait_for("the broker to link the agent", SERVICE_WAIT, || {
            let list = self.root(BROKER, &["vsmctl", "agent", "list", "--output", "json"]);
            let list = list.map_err(|error| format!("{error:#}"))?;
            if list.contains("\"up\"") { Ok(()) } else { Err(list) }
        })
    }

    fn root(&self, host: &str, words: &[&str]) -> Result<String> {
        self.cluster.output(host, "root", words)
    }

    /// Starts a server of the measuring program; it ends when the value is dropped.
    fn serve(&self, host: &str, words: &[&str]) -> Result<Server> {
        self.server(host, &[&[TOOL], words].concat())
    }

    /// Starts a program that ends with its standard input.
    fn server(&self, host: &str, words: &[&str]) -> Result<Server> {
        let mut command = self.cluster.command(host, "root", words)?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Ok(Server(child.context("nsenter")?))
    }

    /// Ends the sessions of users, and waits until nothing is left of them.
    fn end(&self, users: &[&str]) -> Result<()> {
        self.tool::<serde_json::Value>(BROKER, &[&["end"], users].concat()).map(drop)
    }
}

/// A server that ends with its standard input.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends at once, and with its host at the latest.
        let _ = self.0.wait();
    }
}

/// The middle of some figures; 0 where there are none.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// The middle of one part of some measurements.
fn median_of<T>(all: &[T], part: impl Fn(&T) -> f64) -> f64 {
    median(&all.iter().map(part).collect::<Vec<_>>())
}

/// The middle of the ratios of pairs that were measured one right after the other, so that what else the machine does
/// touches both sides alike.
fn median_ratio(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    median(&pairs.map(|(ours, peer)| ours / peer).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::{median, median_ratio};

    #[test]
    fn pairs_are_compared_before_the_median() {
        let pairs = [(2.0, 1.0), (30.0, 10.0), (4.0, 4.0)];
        assert_eq!(median_ratio(pairs.into_iter()).to_string(), "2");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]).to_string(), "0");
        assert_eq!(median(&[3.0, 1.0, 9.0]).to_string(), "3");
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]).to_string(), "3");
    }
}
