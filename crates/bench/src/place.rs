//! Choosing an agent: what a login asks, from the user's subcluster to the check of the proposal, in memory and by the
//! product's own code. Beside it a scan over as many numbers, which is the least that comparing all agents can take.

use std::{hint::black_box, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;
use vsm_broker::{
    hosts::fleet::{Fleet, Openness},
    site::settings::Settings,
    users::{Identity, Source},
};
use vsm_config::Config;
use vsm_core::{
    AgentName, Change, Draft, Measured, Proposal, RequestId, SessionId, StartParams, Table,
};
use vsm_daemon::clock;

use crate::load::Speed;

/// What to place.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A folder for a configuration, which is made
    #[arg(long)]
    dir: PathBuf,
    /// Agents
    #[arg(long)]
    agents: usize,
    /// Sessions in the table
    #[arg(long)]
    sessions: usize,
    /// Decisions that are timed
    #[arg(long)]
    decisions: usize,
    /// Logins of the storm
    #[arg(long)]
    storm: usize,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Placed {
    by_users: Speed,
    by_load: Speed,
    /// The same while before each decision one host tells new figures.
    by_load_changing: Speed,
    scan: Speed,
    /// Of the storm by users, and by load on hosts that tell the same figures.
    storm_by_users: Storm,
    storm_by_load: Storm,
}

/// How a storm ended.
#[derive(Debug, Serialize)]
struct Storm {
    per_second: f64,
    /// Largest difference of an agent's users from the fair share.
    deviation: f64,
}

/// What a broker has in memory for placement.
struct Place {
    settings: Settings,
    fleet: Fleet,
    table: Table,
    made: u64,
}

impl Place {
    fn new(options: &Options, placement: &str) -> Result<Self> {
        let names: Vec<String> =
            (0..options.agents).map(|n| format!("host{n:04}.example.org")).collect();
        let list = names.join(", ");
        let text = format!(
            "vsmserver: {{placement: {placement}}}\nsubclusters: {{Default: {{agents: [{list}]}}}}\n"
        );
        std::fs::create_dir_all(&options.dir)?;
        std::fs::write(options.dir.join("place.yaml"), text)
            .with_context(|| options.dir.display().to_string())?;
        let settings = Settings::new(&Config::load(&options.dir)?)?;
        let fleet = Fleet::default();
        fleet.configure(&settings);
        for agent in settings.agents().keys() {
            fleet.set(agent, Openness::All, Some(IDLE));
        }
        Ok(Self { settings, fleet, table: Table::default(), made: 0 })
    }

    /// Chooses an agent for somebody new, as a login does.
    fn decide(&mut self) -> Result<(Change, Duration)> {
        self.made += 1;
        let number = self.made;
        let user = format!("someone{number:06}").parse()?;
        let groups = vec!["users".to_owned(), format!("group{number}")];
        let who = Identity { user, groups, source: Source::Nss };
        let id = SessionId::new(Uuid::now_v7());
        let request = RequestId::new(Uuid::from_u128(number.into()));
        let from = clock::now();
        let (subcluster, _) = self.settings.subclusters.of(&who)?;
        let eligible = self.fleet.eligible(&subcluster.name);
        let draft = Draft { id, user: who.user, request, params: StartParams::default() };
        let rule = self.settings.rule(clock::unix_millis(), number);
        let (cap, uncounted) = (self.settings.max_sessions_per_user, Vec::new());
        let proposal = Proposal::Reserve { draft, cap, uncounted, eligible, rule };
        let change = self.table.check(proposal)?;
        let took = clock::now().duration_since(from);
        Ok((change, took))
    }

    fn fill(&mut self, sessions: usize) -> Result<()> {
        let agents: Vec<AgentName> = self.settings.agents().keys().cloned().collect();
        for number in 0..sessions {
            let (change, _) = self.decide_on(&agents[number % agents.len()])?;
            self.table.apply(&change);
        }
        Ok(())
    }

    fn decide_on(&mut self, agent: &AgentName) -> Result<(Change, Duration)> {
        let (change, took) = self.decide()?;
        let Change::Reserved(session) = change else { bail!("a reservation became {change:?}") };
        let mut session = Arc::unwrap_or_clone(session);
        session.agent = agent.clone();
        Ok((Change::Reserved(Arc::new(session)), took))
    }

    fn decisions(&mut self, count: usize, changing: bool) -> Result<Speed> {
        let agents: Vec<AgentName> = self.settings.agents().keys().cloned().collect();
        let (mut times, mut all) = (Vec::with_capacity(count), Duration::ZERO);
        for number in 0..count {
            if changing {
                let free = IDLE.memory_available_mib - u32::try_from(number % 7)?;
                let told = Measured { memory_available_mib: free, ..IDLE };
                self.fleet.set(&agents[number % agents.len()], Openness::All, Some(told));
            }
            let (change, took) = self.decide()?;
            times.push(took.as_secs_f64() * 1e6);
            all += took;
            // As it would be, and then as it was: each decision is one on a table of the same size.
            self.table.apply(&change);
            if let Some(id) = change.session() {
                self.table.apply(&Change::Gone { id });
            }
        }
        Speed::of(times, all)
    }

    fn storm(&mut self, logins: usize, agents: usize) -> Result<Storm> {
        let from = clock::now();
        for _ in 0..logins {
            let (change, _) = self.decide()?;
            self.table.apply(&change);
        }
        let seconds = clock::now().duration_since(from).as_secs_f64();
        let number = |count: usize| u32::try_from(count).map(f64::from);
        let fair = number(logins)? / number(agents)?;
        let mut deviation = 0.0_f64;
        for agent in self.settings.agents().keys() {
            let users = self.table.agent_use(agent).map_or(0, vsm_core::AgentUse::users);
            deviation = deviation.max((f64::from(users) - fair).abs());
        }
        Ok(Storm { per_second: number(logins)? / seconds, deviation })
    }
}

/// Figures of a host that has room.
const IDLE: Measured = Measured {
    memory_total_mib: 262_144,
    memory_available_mib: 200_000,
    cpus: 64,
    cpu_busy_milli: 100,
    run_queue_milli: 6_000,
    stall_milli: 3,
    sessions: 0,
};

/// The least: users per weight of each agent, side by side, and the lowest of them.
fn scan(agents: usize, count: usize) -> Result<Speed> {
    let mut users: Vec<(u64, u64)> =
        (0..agents).map(|n| (100 + n as u64 * 7919 % 13, 100)).collect();
    let (mut times, mut all) = (Vec::with_capacity(count), Duration::ZERO);
    for _ in 0..count {
        let from = clock::now();
        let per_weight =
            |one: &(u64, u64), other: &(u64, u64)| (one.0 * other.1).cmp(&(other.0 * one.1));
        let best =
            black_box(&users).iter().enumerate().min_by(|one, other| per_weight(one.1, other.1));
        let (best, _) = black_box(best).context("no agents")?;
        let took = clock::now().duration_since(from);
        times.push(took.as_secs_f64() * 1e6);
        all += took;
        users[best].0 += 1;
    }
    Speed::of(times, all)
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<Placed> {
    let decisions = |placement, changing| {
        let mut place = Place::new(options, placement)?;
        place.fill(options.sessions)?;
        place.decisions(options.decisions, changing)
    };
    let storm = |placement| Place::new(options, placement)?.storm(options.storm, options.agents);
    Ok(Placed {
        by_users: decisions("users", false)?,
        by_load: decisions("load", false)?,
        by_load_changing: decisions("load", true)?,
        scan: scan(options.agents, options.decisions)?,
        storm_by_users: storm("users")?,
        storm_by_load: storm("load")?,
    })
}
