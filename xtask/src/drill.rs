//! `cargo xtask drill`: users log in and out all the time while things go wrong; then all is healed, and what they were
//! told is compared with what the agents really run.
//!
//! Everything is real: keepalived (or Pacemaker: `pacemaker`), sshd, brokers, agents, Xvnc. The seed draws the faults
//! and their order; how the processes interleave is the machine's. A cluster with violations stays standing for a look.

mod act;
mod check;
mod demand;
mod noise;
mod pacemaker;
mod plan;
mod users;
mod well;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::clock;
use crate::cluster::{Cluster, ClusterSpec, HaSoftware};
use crate::compile::{self, Profile};
use crate::pair;
use crate::progress::Progress;
use crate::setup;

/// How long the pair may take to be in step after a heal.
const STEP_WAIT: Duration = Duration::from_secs(90);
const AGENTS: u8 = 3;
/// Users who log in and out.
const USERS: u16 = 8;

/// How to drill.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of rounds of faults
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Seed that the faults are drawn from; printed if it is left out
    #[arg(long)]
    seed: Option<u64>,
    /// HA software that moves the resource address; with pacemaker, its own faults come in turn
    #[arg(long, value_enum, default_value_t)]
    ha: HaSoftware,
    /// Only these kinds of faults, separated by commas
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// End with one line of JSON on stdout
    #[arg(long)]
    json: bool,
    /// Do not build; use the programs that are there
    #[arg(long)]
    no_build: bool,
}

/// The drill's last line.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    rounds: u32,
    seed: u64,
    /// How often each kind of fault was made.
    faults: BTreeMap<&'static str, u32>,
    /// Logins that were answered with a desktop.
    logins: u64,
    /// Logins that were refused, or not answered in time.
    refused: u64,
    /// Desktops that a user was given, that should still run, and that the table does not have.
    lost: usize,
    /// Desktops that a user has beyond the limit of one.
    duplicates: usize,
    /// Records of desktops that do not run.
    ghosts: usize,
    /// Desktops that ended though nobody wanted it and their host went on.
    killed: usize,
    /// Differences between the two tables when all was healed.
    diverged: usize,
    /// Hosts that did not start and end a desktop, or not vote, 30 s after a heal.
    crippled: usize,
    /// Reigns that changed without a cause when all was well.
    duels: usize,
    /// Errors that a process logged twice within a minute when all was well.
    noisy: usize,
    /// The longest that a login took in each round.
    unavailable_ms: Spread,
    /// From each heal until every host had started and ended a desktop and voted, or failed to.
    whole_ms: Spread,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Spread {
    p50: u64,
    max: u64,
}

impl Outcome {
    fn violations(&self) -> usize {
        let tables = self.lost + self.duplicates + self.ghosts + self.killed + self.diverged;
        tables + self.crippled + self.duels + self.noisy
    }
}

impl Spread {
    fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        let at = |index: usize| all.get(index).copied().unwrap_or(0);
        Self { p50: at(all.len() / 2), max: at(all.len().saturating_sub(1)) }
    }
}

/// Drills.
pub(crate) fn drill(options: &Options) -> Result<()> {
    setup::setup(false)?;
    if !options.no_build {
        compile::build(Profile::Dev)?;
    }
    if options.ha == HaSoftware::Pacemaker {
        setup::pacemaker()?;
        return pacemaker::drill(options);
    }
    let kinds = plan::kinds(&options.faults)?;
    let seed = options.seed.unwrap_or_else(clock::seed);
    let progress = Progress::new(true);
    let mut spec = ClusterSpec::pair("drill", compile::helper()?);
    spec.fresh = true;
    spec.agents = AGENTS;
    spec.users = USERS;
    progress.step(format!("a pair, {AGENTS} agents, {USERS} users; seed {seed}"));
    let cluster = Cluster::up(&spec)?;
    for number in 1..=AGENTS {
        let words = ["sh", "-c", pair::BARE_SCRIPT];
        cluster.output(&format!("agent{number}"), "root", &words)?;
    }
    pair::in_step(&cluster, STEP_WAIT)?;
    demand::place(&cluster)?;
    let outcome = rounds(&cluster, &progress, &kinds, options.rounds, seed);
    let outcome = match outcome {
        Ok(outcome) if outcome.violations() == 0 => outcome,
        other => {
            progress.step("the cluster stays: cargo xtask cluster status --name drill");
            cluster.keep();
            let outcome = other?;
            println!("{}", serde_json::to_string(&outcome)?);
            bail!("{} violation(s); seed {seed}", outcome.violations());
        }
    };
    cluster.down()?;
    if options.json {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

fn rounds(
    cluster: &Cluster,
    progress: &Progress,
    kinds: &[plan::Kind],
    count: u32,
    seed: u64,
) -> Result<Outcome> {
    let mut random = plan::Random::new(seed);
    let mut deck = plan::Deck::new(kinds);
    let mut outcome = Outcome { rounds: count, seed, ..Outcome::default() };
    let users = users::Users::new(USERS);
    let mut hand = act::Hand::new(cluster);
    let (mut longest, mut whole) = (Vec::new(), Vec::new());
    for round in 1..=count {
        let before = users.longest();
        let mut rebooted = check::Rebooted::default();
        let (made, healed) = std::thread::scope(|scope| -> Result<_> {
            let going = users.start(scope, cluster, &mut random);
            let made = hand.faults(progress, &mut deck, &mut random, round);
            // Healed in any case, so that those who wait for their desktops get them and come to an end.
            let healed = well::heal(cluster, || pair::in_step(cluster, STEP_WAIT).map(drop));
            users.stop();
            going.join();
            Ok((made?, healed?))
        })?;
        progress.step(format!("round {round}: {healed}"));
        whole.push(healed.took_ms());
        for (kind, host) in made {
            *outcome.faults.entry(kind.name()).or_default() += 1;
            if kind.reboots_agents() {
                rebooted.note(&host);
            }
        }
        longest.push(users.longest_since(&before));
        let mut found = healed.and_then(cluster, &users, &rebooted, round == count)?;
        found.duels.append(&mut hand.duels);
        found.tell(progress);
        found.add_to(&mut outcome);
        if outcome.violations() > 0 {
            break;
        }
    }
    (outcome.logins, outcome.refused) = users.counts();
    outcome.unavailable_ms = Spread::of(longest);
    outcome.whole_ms = Spread::of(whole);
    Ok(outcome)
}
