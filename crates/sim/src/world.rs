//! The simulated world: who is in it, what is to happen, and the step from one moment to the next.

use std::collections::BTreeMap;

use vsm_core::{
    UnixMillis,
    replica::{Event, Limits, Replica, Standing},
};

use crate::{
    agent::Agent,
    broker::Broker,
    checks::Checks,
    client::Client,
    event::{BrokerId, Ev},
    net::Net,
    plot::Plot,
    rng::Rng,
    tell,
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
        let mut world = Self {
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
            limits,
            checks: Checks::new(agents),
            faults: true,
            // The stories are about witnesses.
            plot: plot.filter(|_| fencing == Fencing::None),
            fencing,
            quiet: false,
            trace,
            early_until: if early { EARLY_MS } else { 0 },
            past: if plain { past } else { Past::Pair },
            old_copy: None,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.brokers[0].single = self.past == Past::Server;
        for broker in 0..if self.brokers[0].single { 1 } else { 2 } {
            self.start_broker(broker);
        }
        match self.past {
            Past::Pair => {}
            Past::Server => {
                let at = self.rng.range(300, 1500);
                self.at(at, Ev::Convert);
            }
            Past::Lost => {
                let at = self.rng.range(2500, 6000);
                self.at(at, Ev::TotalLoss);
            }
        }
        self.brokers[0].address = true;
        self.after(1, Ev::Dial);
        for agent in 0..self.agents.len() {
            self.after(5, Ev::AgentDial { agent });
        }
        for client in 0..self.clients.len() {
            let wait = self.rng.range(300, 2000);
            self.after(wait, Ev::ClientNext { client });
        }
        self.after(if self.early_until > 0 { 2 } else { 1500 }, Ev::Fault);
        self.after(1600, Ev::Plot);
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

    /// Goes on until `done`, or to a moment; whether it was done.
    pub(crate) fn run_until(&mut self, until: u64, done: impl Fn(&Self) -> bool) -> bool {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > until {
                self.at(at, event);
                self.now = until;
                break;
            }
            self.now = at;
            self.steps += 1;
            self.step(event);
            if !self.checks.violations.is_empty() {
                return false;
            }
            if self.steps.is_multiple_of(16) && done(self) {
                return true;
            }
        }
        done(self)
    }

    /// Whether a broker takes what is meant for this process of it; a paused one takes it when it goes on.
    fn takes(&mut self, broker: BrokerId, life: u64, event: &Ev) -> bool {
        let target = &self.brokers[broker];
        if !target.is_up() || target.life != life {
            return false;
        }
        if target.paused_until > self.now {
            let until = target.paused_until;
            self.at(until, event.clone());
            return false;
        }
        true
    }

    fn step(&mut self, event: Ev) {
        let meant = match &event {
            Ev::Tick { broker, life }
            | Ev::Stored { broker, life, .. }
            | Ev::Link { broker, life, .. }
            | Ev::CallTimeout { broker, life, .. }
            | Ev::PeerOff { broker, life, .. }
            | Ev::Again { broker, life, .. } => Some((*broker, *life)),
            Ev::Peer { to, life, .. }
            | Ev::WitnessReply { to, life, .. }
            | Ev::Reply { to, life, .. }
            | Ev::Report { to, life, .. } => Some((*to, *life)),
            Ev::Login { broker, .. } | Ev::End { broker, .. } => {
                Some((*broker, self.brokers[*broker].life))
            }
            Ev::Dial
            | Ev::Witness { .. }
            | Ev::Call { .. }
            | Ev::Act { .. }
            | Ev::AgentDial { .. }
            | Ev::Answer { .. }
            | Ev::ClientTimeout { .. }
            | Ev::ClientNext { .. }
            | Ev::Fault
            | Ev::Shoot { .. }
            | Ev::Plot
            | Ev::Crash { .. }
            | Ev::Restart { .. }
            | Ev::Mend { .. }
            | Ev::Convert
            | Ev::TotalLoss
            | Ev::OldCopy
            | Ev::AgentRestart { .. } => None,
        };
        if let Some((broker, life)) = meant
            && !self.takes(broker, life, &event)
        {
            return;
        }
        self.take(event);
    }

    fn take(&mut self, event: Ev) {
        match event {
            Ev::Tick { broker, .. } => self.tick(broker),
            Ev::Stored { broker, token, .. } => self.stored(broker, token),
            Ev::Dial => self.dial(),
            Ev::Link { broker, conn, up, .. } => {
                if !up || self.net.link == Some(conn) {
                    self.feed(broker, Event::Link(up));
                }
            }
            Ev::Peer { to, conn, msg, .. } => {
                let cut =
                    self.net.in_order && (self.net.broken[1 - to] || self.net.is_cut(1 - to, to));
                if cut {
                    self.net.broken[1 - to] = true;
                } else if self.net.link == Some(conn) || !self.net.in_order {
                    self.feed(to, Event::Peer(msg));
                }
            }
            Ev::Witness { agent, from, life, msg } => self.witness_asked(agent, from, life, msg),
            Ev::WitnessReply { agent, to, reply, .. } => {
                let name = self.agents[agent].name.clone();
                self.feed(to, Event::Witness(name, reply));
            }
            Ev::Call { agent, from, life, rpc, call } => {
                self.agent_call(agent, from, life, rpc, call);
            }
            Ev::Act { agent, agent_life, from, life, rpc, epoch, session } => {
                if self.agents[agent].up && self.agents[agent].life == agent_life {
                    self.agent_act(agent, (from, life, rpc), &epoch, &session);
                }
            }
            Ev::Reply { agent, to, rpc, reply, .. } => self.replied(to, agent, rpc, &reply),
            Ev::CallTimeout { broker, rpc, .. } => self.call_timeout(broker, rpc),
            Ev::Again { broker, task, .. } => self.again(broker, task),
            Ev::AgentDial { agent } => self.agent_dial(agent),
            Ev::Report { agent, to, conn, item, .. } => self.reported(to, agent, conn, item),
            Ev::Login { broker, client, request, wish } => {
                self.brokers[broker].waiting.push_back((client, request, wish));
                self.next_logins(broker);
            }
            Ev::End { broker, session } => self.end_wish(broker, session),
            Ev::Answer { client, request, result } => self.client_answered(client, request, result),
            Ev::ClientTimeout { client, attempt } => self.client_timeout(client, attempt),
            Ev::ClientNext { client } if !self.quiet => self.client_next(client),
            Ev::ClientNext { .. } => {}
            Ev::Fault => self.fault(),
            Ev::Shoot { by } => self.shoot(by),
            Ev::PeerOff { broker, at_ms, .. } => self.feed(broker, Event::PeerOff(at_ms)),
            Ev::Plot => self.plot_step(),
            Ev::Crash { broker } => self.crash_keeping(broker, 0),
            Ev::Restart { broker } => self.start_broker(broker),
            Ev::Mend { broker } => self.mend(broker),
            Ev::Convert => self.convert(),
            Ev::TotalLoss => self.lose_all(),
            Ev::OldCopy => self.put_old_copy_back(),
            Ev::AgentRestart { agent } => self.agents[agent].up = true,
        }
    }

    fn witness_asked(
        &mut self,
        id: usize,
        from: BrokerId,
        life: u64,
        msg: vsm_core::replica::WitnessMsg,
    ) {
        let (now, loss) = (self.now, self.serial << 32 | 1);
        self.serial += 1;
        let agent = &mut self.agents[id];
        if !agent.up {
            return;
        }
        let reply = agent.ask(msg, now);
        if agent.set_apart_if_short(loss) {
            return;
        }
        self.note(|| format!("agent{id} -> broker{from}: {}", tell::from_witness(&reply)));
        self.checks.fenced.heard(id, self.agents[id].witness.promised());
        if self.net.is_cut(id + 2, from) {
            return;
        }
        if let Some(at) = self.net.arrival(self.now, &mut self.rng) {
            self.at(at, Ev::WitnessReply { agent: id, to: from, life, reply });
        }
    }

    /// Keeps the pair's connection, or notices that it is gone.
    fn dial(&mut self) {
        self.after(100, Ev::Dial);
        self.dial_now();
    }

    pub(crate) fn dial_now(&mut self) {
        let open = !self.net.is_cut(0, 1) && !self.net.is_cut(1, 0);
        let both = self.brokers.iter().all(|broker| broker.is_up() && !broker.apart);
        match self.net.link {
            Some(_)
                if (!open || self.net.broken != [false; 2])
                // Pings take a while to notice.
                && self.rng.percent(25) =>
            {
                self.drop_link();
            }
            None if open && both => {
                self.net.conns += 1;
                self.net.link = Some(self.net.conns);
                self.net.broken = [false; 2];
                self.tell_link(true);
            }
            _ => {}
        }
    }

    pub(crate) fn drop_link(&mut self) {
        if self.net.link.take().is_some() {
            self.tell_link(false);
        }
    }

    fn tell_link(&mut self, up: bool) {
        let conn = self.net.conns;
        if up && self.faults && self.fencing != Fencing::None && self.rng.percent(25) {
            // While they have hardly met; mostly one that acted alone is shot by the other.
            let alone = |id: &BrokerId| {
                self.brokers[*id].replica.as_ref().is_some_and(Replica::counts_peer_off)
            };
            let by = (0..2).find(alone).map_or_else(|| self.rng.index(2), |alone| 1 - alone);
            let wait = self.rng.range(2, 300);
            self.after(wait, Ev::Shoot { by });
        }
        for broker in 0..2 {
            let life = self.brokers[broker].life;
            self.after(1, Ev::Link { broker, life, conn, up });
        }
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
    /// word got lost is only asked again after a while.
    pub(crate) fn could_lose_one(&self) -> bool {
        self.is_in_sync() && self.witnesses().all(Agent::votes)
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
