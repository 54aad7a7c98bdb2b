//! The simulated world: who is in it, what is to happen when, and how it stands. `acts` has what they do in it.

use std::collections::BTreeMap;

use vsm_core::{
    State, UnixMillis,
    replica::{Limits, Standing},
};

use crate::{
    checks::Checks,
    event::{AgentId, BrokerId, Ev},
    net::Net,
    rng::Rng,
    state::{agent::Agent, broker::Broker, client::Client, plot::Plot},
};

/// Whether the pair runs under cluster software with a power switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fencing {
    /// It does not.
    None,
    /// It does, and there are witnesses too.
    BesideWitnesses,
    /// It does, and there are no witnesses.
    Alone,
}

impl Fencing {
    /// By the seed itself, so that all other seeds are what they were.
    const fn of(seed: u64) -> Self {
        match (seed % 7, seed % 3) {
            (3, 0) => Self::BesideWitnesses,
            (3, _) => Self::Alone,
            _ => Self::None,
        }
    }
}

/// In half of the seeds things go wrong from the first millisecond, and often until this one.
pub(crate) const EARLY_MS: u64 = 800;

/// How the pair came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// Two new brokers.
    Pair,
    /// One server by itself, to which a second node is added.
    Server,
    /// As a pair; later both disks are lost, and an old copy of one comes back.
    Lost,
}

impl Past {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0 | 1 => Self::Server,
            2 => Self::Lost,
            _ => Self::Pair,
        }
    }
}

/// In one seed of so many sessions are made without votes: by the seed itself, so that all others are what they were.
const SOLO_EACH: u64 = 5;

/// In one seed of so many a host invents sessions; of those the one with this rest.
const CROWD_EACH: u64 = 11;
const CROWD_REST: u64 = 5;

/// Everything.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    queue: BTreeMap<(u64, u64), Ev>,
    order: u64,
    pub(crate) serial: u64,
    pub(crate) steps: u64,
    pub(crate) brokers: [Broker; 2],
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Vec<Client>,
    pub(crate) net: Net,
    pub(crate) cap: u32,
    /// Whether a session may be made without votes (`solo_create`), and what no table knows may be a user's.
    pub(crate) solo_create: bool,
    /// The agent that invents sessions, if there is one.
    pub(crate) liar: Option<AgentId>,
    pub(crate) limits: Limits,
    pub(crate) checks: Checks,
    pub(crate) faults: bool,
    pub(crate) plot: Option<Plot>,
    /// Whether brokers are shot, by cluster software that knows it.
    pub(crate) fencing: Fencing,
    /// Clients begin nothing new.
    pub(crate) quiet: bool,
    trace: bool,
    /// Until then things go wrong often: while the pair is formed.
    pub(crate) early_until: u64,
    /// How the pair came to be, and what became of it.
    pub(crate) past: Past,
    /// A disk of the former life of the table, and whose it was.
    pub(crate) old_copy: Option<(BrokerId, vsm_core::replica::Disk)>,
}

impl World {
    /// From a seed. Swapped, the two brokers have each other's names and all else is the same.
    pub(crate) fn new(seed: u64, trace: bool, swapped: bool) -> Self {
        let mut rng = Rng::new(seed);
        let agents = usize::try_from(rng.range(3, 5)).unwrap_or(3);
        let users = rng.range(2, 4);
        let in_order = !rng.percent(25);
        let cap = if rng.percent(25) { 2 } else { 1 };
        let limits = if rng.percent(50) { small_limits(&mut rng) } else { Limits::DEFAULT };
        let fencing = Fencing::of(seed);
        let plot = Plot::draw(&mut rng);
        let early = rng.percent(50);
        let past = Past::draw(&mut rng);
        let plain = fencing == Fencing::None && (past == Past::Server || plot.is_none());
        let limits = plot.as_ref().map_or(limits, |plot| plot.limits(limits));
        // Which of the two is which must not matter.
        let names = if rng.percent(50) != swapped { ["a", "b"] } else { ["b", "a"] };
        #[expect(clippy::unwrap_used, reason = "the names are fixed and valid")]
        Self {
            now: 0,
            rng,
            queue: BTreeMap::new(),
            order: 0,
            serial: 0,
            steps: 0,
            brokers: names.map(|name| Broker::new(name.parse().unwrap(), agents)),
            agents: (0..agents)
                .map(|n| Agent::new(format!("agent{n}").parse().unwrap(), n as u64 + 1))
                .collect(),
            clients: (0..users * 2)
                .map(|n| Client::new(format!("user{}", n / 2).parse().unwrap()))
                .collect(),
            net: Net::new(agents + 2, in_order),
            cap,
            solo_create: seed.is_multiple_of(SOLO_EACH),
            liar: (seed % CROWD_EACH == CROWD_REST).then_some(agents - 1),
            limits,
            checks: Checks::new(agents, cap),
            faults: true,
            // The stories are about witnesses.
            plot: plot.filter(|_| fencing == Fencing::None),
            fencing,
            quiet: false,
            trace,
            early_until: if early { EARLY_MS } else { 0 },
            past: if plain { past } else { Past::Pair },
            old_copy: None,
        }
    }

    /// One line of the trace, made only if there is one.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if self.trace {
            eprintln_line(&format!("{:>7} {}", self.now, line()));
        }
    }

    pub(crate) fn unix(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000 + self.now)
    }

    pub(crate) fn at(&mut self, at: u64, event: Ev) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), event);
    }

    pub(crate) fn after(&mut self, wait: u64, event: Ev) {
        self.at(self.now + wait, event);
    }

    /// What happens next, and the moment of it; none = nothing until then, which is now.
    pub(crate) fn next_event(&mut self, until: u64) -> Option<Ev> {
        let ((at, _), event) = self.queue.pop_first()?;
        if at > until {
            self.at(at, event);
            self.now = until;
            return None;
        }
        self.now = at;
        self.steps += 1;
        Some(event)
    }

    /// The agents that are witnesses by what any broker holds.
    pub(crate) fn witnesses(&self) -> impl Iterator<Item = &Agent> {
        let rosters: Vec<_> =
            self.brokers.iter().filter_map(|broker| broker.disk.table.roster().cloned()).collect();
        self.agents
            .iter()
            .filter(move |agent| rosters.iter().any(|roster| roster.contains(&agent.name)))
    }

    /// The broker that serves and has votes; none if there is none or two.
    pub(crate) fn active(&self) -> Option<BrokerId> {
        let serves = |id: &BrokerId| {
            self.brokers[*id].replica.as_ref().is_some_and(|replica| {
                matches!(replica.standing(), Standing::Active { ready: true, votes: true, .. })
            })
        };
        let mut all = (0..2).filter(serves);
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }

    /// Whether one broker is active and the other has everything.
    pub(crate) fn is_in_sync(&self) -> bool {
        let Some(active) = self.active() else { return false };
        let (Some(one), Some(other)) =
            (&self.brokers[active].replica, &self.brokers[1 - active].replica)
        else {
            return false;
        };
        matches!(one.standing(), Standing::Active { synced: true, .. })
            && one.commit() == other.commit()
            && one.commit() == one.log().last().seq
    }

    /// Whether one broker alone could go on: they are in sync, and what was lost of witnesses is made up for. One whose
    /// word got lost is only asked again after a while. A change of the witnesses is committed by both brokers only, so
    /// each has to know, also when it comes back from a crash, that this was done.
    pub(crate) fn could_lose_one(&self) -> bool {
        self.is_in_sync()
            && self.witnesses().all(Agent::votes)
            && !self.brokers.iter().any(Broker::may_be_naming)
    }

    /// Whether nothing is left to be done.
    pub(crate) fn is_quiet(&self) -> bool {
        let Some(active) = self.active() else { return false };
        let settled = self.brokers[active].replica.as_ref().is_some_and(|replica| {
            let table = replica.table();
            table.tombstones().next().is_none()
                && table.sessions().all(|session| matches!(session.state, State::Running { .. }))
        });
        settled
            && self.clients.iter().all(Client::is_idle)
            && self.brokers.iter().all(|broker| broker.tasks.is_empty())
            && self.brokers[active].heard.iter().all(Option::is_some)
    }

    /// Answers that clients got since the faults ended.
    pub(crate) fn served(&self) -> u64 {
        self.clients.iter().map(|client| client.served).sum()
    }
}

/// Limits at which something happens often.
fn small_limits(rng: &mut Rng) -> Limits {
    Limits {
        append_max: 1 + rng.index(3),
        near: rng.below(8),
        keys_max: 1 + rng.index(8),
        log_keep: 2 + rng.index(20),
    }
}

#[expect(clippy::print_stderr, reason = "the trace is what was asked for")]
fn eprintln_line(line: &str) {
    eprintln!("{line}");
}
