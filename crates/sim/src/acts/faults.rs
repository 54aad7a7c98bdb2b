//! What goes wrong, and how it is made whole again.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    Change, Proposal, RequestId, Session, SessionId, StartParams, State, UserName,
    lifecycle::Adoptions,
    replica::{
        Entry, Event, Replica,
        mutant::{self, Mutant},
    },
};

use crate::{
    event::{Ev, Item},
    state::{agent::Agent, broker::Then, plot::Plot},
    world::{EARLY_MS, Fencing, World},
};

/// Whose sessions a host invents.
const CROWD: &str = "crowd";
/// The first so many agents are the witnesses that a pair begins with.
const WITNESSES: usize = 3;

/// Each fault by its number, as the trace names it.
const FAULTS: [&str; 36] = [
    "the broker does not reach the other",
    "the brokers do not reach each other",
    "the brokers do not reach each other",
    "the agent does not reach the broker",
    "the broker does not reach the agent",
    "broker and agent do not reach each other",
    "the broker reaches nobody",
    "the broker reaches no agent",
    "everybody reaches everybody",
    "everybody reaches everybody",
    "everybody reaches everybody",
    "everybody reaches everybody",
    "the broker restarts",
    "the broker restarts",
    "both brokers restart",
    "the broker is paused",
    "the agent restarts",
    "the agent's host reboots",
    "the address moves to the broker",
    "the address is on both or on none",
    "loss, doubling and delay change",
    "the broker is told to take over",
    "the broker's disk is lost, if the pair can bear it",
    "the agent's promise is lost, if it is the first",
    "the broker's disk becomes slow",
    "the broker's disk becomes fast",
    "the broker's disk is copied",
    "the broker's disk goes back to the copy, if the pair can bear it",
    "what the agent keeps is copied",
    "what the agent keeps goes back to the copy, if it is the first",
    "the agent runs what no table knows",
    "the agent becomes slow to start, or fast",
    "the broker restarts",
    "the broker restarts",
    "the witnesses change",
    "the broker restarts and does not know who it is",
];

impl World {
    /// One fault, and the next one later.
    pub(crate) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let early = self.now < self.early_until;
        let wait = if early { self.rng.range(3, 150) } else { self.rng.range(100, 1500) };
        self.after(wait, Ev::Fault);
        if self.plot.as_ref().is_some_and(Plot::is_on) {
            // It needs no help.
            return;
        }
        let broker = self.rng.index(2);
        if self.fault_of_few_seeds(broker) {
            return;
        }
        let agent = self.rng.index(self.agents.len());
        let kind = self.rng.index(FAULTS.len());
        self.note(|| format!("FAULT {} (broker{broker}, agent{agent})", FAULTS[kind]));
        match kind {
            0 => self.net.cut(broker, 1 - broker),
            1 | 2 => self.cut_both(0, 1),
            3 => self.net.cut(agent + 2, broker),
            4 => self.net.cut(broker, agent + 2),
            5 => self.cut_both(broker, agent + 2),
            6 => self.isolate(broker),
            7 => (0..self.agents.len()).for_each(|agent| self.cut_both(broker, agent + 2)),
            8..=11 => self.net.heal(),
            12 | 13 => self.restart_later(broker),
            14 => (0..2).for_each(|broker| self.restart_later(broker)),
            15 => {
                let until = self.now + self.rng.range(100, 4000);
                let broker = &mut self.brokers[broker];
                // What waits for the end of a pause keeps its order: no pause is made longer.
                if broker.paused_until <= self.now {
                    broker.paused_until = until;
                }
            }
            16 => {
                self.agents[agent].crash();
                let wait = self.rng.range(50, 2000);
                self.after(wait, Ev::AgentRestart { agent });
            }
            17 => self.reboot(agent),
            18 => self.set_address([broker == 0, broker == 1]),
            19 => {
                let both = self.rng.percent(50);
                self.set_address([both; 2]);
            }
            20 => {
                self.net.loss = [0, 5, 20][self.rng.index(3)];
                self.net.dup = [0, 10, 40][self.rng.index(3)];
                self.net.delay = [3, 20, 80][self.rng.index(3)];
            }
            21 => self.feed_if_up(broker, Event::TakeOver),
            22 => {
                self.lose_disk(broker, false);
            }
            23 if self.may_lose_promise() => self.lose_promise(agent, false),
            24 => self.brokers[broker].is_slow = true,
            25 => self.brokers[broker].is_slow = false,
            26 => self.brokers[broker].back_up(),
            27 => {
                self.lose_disk(broker, true);
            }
            28 => self.agents[agent].back_up(),
            29 if self.may_lose_promise() => self.lose_promise(agent, true),
            31 => self.agents[agent].is_slow ^= true,
            30 => self.stray_session(agent),
            34 => self.change_roster(),
            35 => self.start_apart(broker),
            _ => self.restart_later(broker),
        }
    }

    /// A fault that only some seeds have; false = it is another one's turn.
    fn fault_of_few_seeds(&mut self, broker: usize) -> bool {
        if self.fencing != Fencing::None && self.rng.percent(25) {
            self.shoot(broker);
            return true;
        }
        if self.solo_create && self.rng.percent(15) {
            self.strand(broker);
            return true;
        }
        let liar = self.liar.filter(|_| self.rng.percent(20));
        if let Some(liar) = liar {
            self.crowd(liar);
        }
        liar.is_some()
    }

    /// A broker's cluster software has the other one's power cut, mostly as it does not hear of it, and says so when
    /// that is done; also late, and again.
    pub(crate) fn shoot(&mut self, by: usize) {
        if !self.faults || !self.brokers[by].is_up() {
            return;
        }
        self.note(|| format!("FAULT broker{by} has broker{} shot", 1 - by));
        if self.rng.percent(50) {
            self.cut_both(0, 1);
        }
        if !mutant::on(Mutant::FencingLies) {
            self.crash_broker(1 - by);
            let wait = self.rng.range(50, 5000);
            self.after(wait, Ev::Restart { broker: 1 - by });
        }
        // The other one may think that it has it still when it comes up.
        let both = self.rng.percent(30);
        self.set_address([both || by == 0, both || by == 1]);
        let again = if self.rng.percent(40) { self.rng.range(500, 5000) } else { 0 };
        for late in [0, again] {
            let wait = late + self.rng.range(3, 400);
            self.tell_off(by, wait);
        }
    }

    /// Tells a broker that the other one is off as of now: that it was so when its last words had arrived.
    pub(crate) fn tell_off(&mut self, broker: usize, wait: u64) {
        let (life, at_ms) = (self.brokers[broker].life, self.now + 2);
        self.after(wait, Ev::PeerOff { broker, life, at_ms });
    }

    fn feed_if_up(&mut self, broker: usize, event: Event) {
        if self.brokers[broker].is_up() && self.brokers[broker].paused_until <= self.now {
            self.feed(broker, event);
        }
    }

    pub(crate) fn cut_both(&mut self, a: usize, b: usize) {
        self.net.cut(a, b);
        self.net.cut(b, a);
    }

    pub(crate) fn isolate(&mut self, broker: usize) {
        self.cut_both(broker, 1 - broker);
        (0..self.agents.len()).for_each(|agent| self.cut_both(broker, agent + 2));
    }

    /// The broker that acts reaches neither the other one nor most witnesses, so that it has no votes. The host that is
    /// left is often slow.
    fn strand(&mut self, broker: usize) {
        let broker = self.active().unwrap_or(broker);
        self.note(|| format!("FAULT broker{broker} is without votes"));
        self.cut_both(0, 1);
        let left = self.rng.index(WITNESSES);
        self.agents[left].is_slow |= self.rng.percent(30);
        let others = (0..WITNESSES).filter(|agent| *agent != left);
        others.for_each(|agent| self.cut_both(broker, agent + 2));
    }

    fn restart_later(&mut self, broker: usize) {
        self.crash_broker(broker);
        let wait = self.rng.range(50, 2500);
        self.after(wait, Ev::Restart { broker });
    }

    pub(crate) fn set_address(&mut self, at: [bool; 2]) {
        for (broker, here) in self.brokers.iter_mut().zip(at) {
            broker.address = here;
        }
    }

    /// The agent's host restarts: its sessions are gone, what it keeps is not.
    fn reboot(&mut self, agent: usize) {
        let sessions: Vec<_> = self.agents[agent].sessions.keys().copied().collect();
        for session in sessions {
            self.end_session(agent, session, "host reboot");
        }
        self.agents[agent].crash();
        let wait = self.rng.range(50, 2000);
        self.after(wait, Ev::AgentRestart { agent });
    }

    /// A disk is lost, or goes back in time, which is found out and counts as lost. Only where what was committed is
    /// held twice besides: more is more than the pair promises to survive.
    pub(crate) fn lose_disk(&mut self, broker: usize, rollback: bool) -> bool {
        if self.fencing != Fencing::None {
            // One disk lost while the other broker acts alone is more than the pair promises to survive.
            return false;
        }
        let other = &self.brokers[1 - broker];
        let tip = self.checks.durable.tip();
        let held = other.disk.joined
            && self.brokers[broker].disk.joined
            && (other.disk.log.contains(tip)
                || (self.most_witnesses_hold(tip) && self.joins(1 - broker)))
            && self.now >= other_quiet(other.lost_ms);
        // In the moment in which the witnesses are named and greeted each disk is needed.
        let log = other.replica.as_ref().map_or(&other.disk.log, Replica::log);
        let names = |entry: &Entry| matches!(entry.change, Change::Roster(_));
        let naming = log.after(other.disk.commit).filter(|entry| names(entry)).count() > 0;
        // Nor while the witnesses know only a former life of the table.
        let life = log.life();
        let votes = |agent: &Agent| agent.votes() && agent.witness.life.as_ref() == life;
        let held = held && !naming && self.witnesses().all(votes);
        if held {
            self.crash_broker(broker);
            if rollback {
                self.brokers[broker].go_back(self.now);
            } else {
                self.brokers[broker].lose_disk(self.now);
            }
            let wait = self.rng.range(50, 2500);
            self.after(wait, Ev::Restart { broker });
        }
        held
    }

    /// Whether most of them keep a position; of each roster that any broker holds.
    fn most_witnesses_hold(&self, at: &vsm_core::Lsn) -> bool {
        let mut rosters = self.brokers.iter().filter_map(|broker| broker.disk.table.roster());
        rosters.all(|roster| {
            let holds = |agent: &&Agent| {
                roster.contains(&agent.name)
                    && agent.witness.window().is_some_and(|window| window.last >= *at)
            };
            self.agents.iter().filter(holds).count() > roster.len() / 2
        })
    }

    /// Whether what the witnesses keep joins on to what a broker has. It does not where that broker took what one
    /// witness had from a reign that was replaced: then it needs the other one.
    fn joins(&self, broker: usize) -> bool {
        let disk = &self.brokers[broker].disk;
        let commit = self.brokers[broker].replica.as_ref().map_or(disk.commit, Replica::commit);
        let windows = self.witnesses().filter_map(|agent| agent.witness.window());
        windows.max_by(|a, b| a.last.cmp(&b.last)).is_none_or(|window| {
            disk.log.common(&window.history, &window.last).seq >= commit.max(window.base.seq)
        })
    }

    /// One witness at most does without its promise at a time, and none while a broker's disk is new: the pair promises
    /// no more than that.
    pub(crate) fn may_lose_promise(&self) -> bool {
        let [one, other] = self.brokers.each_ref().map(|broker| broker.disk.joined);
        self.witnesses().all(Agent::votes)
            && self.agents.iter().all(|agent| agent.damaged.is_none())
            && one == other
    }

    /// An agent's disk is lost, or put back to a copy.
    pub(crate) fn lose_promise(&mut self, agent: usize, copy: bool) {
        self.serial += 1;
        let (loss, now) = (self.serial << 32, self.now);
        if copy {
            self.agents[agent].go_back(loss, now);
        } else {
            self.agents[agent].lose_disk(loss, now);
        }
        // The process starts again on what there is.
        (0..2).for_each(|broker| self.agents[agent].close_report(broker));
        self.checks.fenced.forgot(agent);
    }

    /// An administrator changes who the witnesses are.
    fn change_roster(&mut self) {
        if self.fencing == Fencing::Alone {
            return;
        }
        let many = if self.rng.percent(20) { 1 } else { 3 };
        let mut names: Vec<_> = self.agents.iter().map(|agent| agent.name.clone()).collect();
        while names.len() > many {
            let out = self.rng.index(names.len());
            names.remove(out);
        }
        self.note(|| format!("the witnesses are to be {names:?}"));
        for broker in 0..2 {
            if self.brokers[broker].is_up() && self.brokers[broker].paused_until <= self.now {
                let roster = Proposal::SetRoster(names.clone().into());
                self.propose(broker, roster, Then::Nothing);
            }
        }
    }

    /// Step 7 of the guide: the server is started again as the first of a pair, whose second node is new.
    pub(crate) fn convert(&mut self) {
        self.note(|| "the server becomes one of a pair".to_owned());
        self.crash_broker(0);
        self.brokers[0].single = false;
        if self.early_until > 0 {
            self.early_until = self.now + EARLY_MS;
        }
        (0..2).for_each(|broker| self.start_broker(broker));
    }

    /// Both brokers' disks are lost: a new life of the table begins, which knows of the former what agents run.
    pub(crate) fn lose_all(&mut self) {
        let formed = self.brokers.iter().all(|broker| broker.disk.table.roster().is_some());
        if !self.faults || !formed || !self.witnesses().all(Agent::votes) {
            return;
        }
        self.note(|| "FAULT both disks are lost".to_owned());
        let whose = self.rng.index(2);
        self.old_copy = Some((whose, self.brokers[whose].disk.clone()));
        let now = self.now;
        for broker in 0..2 {
            self.crash_broker(broker);
            self.brokers[broker].lose_disk(now);
            let wait = self.rng.range(50, 500);
            self.after(wait, Ev::Restart { broker });
        }
        self.checks.lost_all(self.unix());
        if self.rng.percent(40) {
            // They begin anew without hearing what was promised to them before.
            (0..2).for_each(|broker| self.cut_agents(broker));
        }
        let wait = self.rng.range(1000, 4000);
        self.after(wait, Ev::OldCopy);
    }

    /// Somebody finds an old copy of a lost disk, and puts it in the place of what the node has had since.
    pub(crate) fn put_old_copy_back(&mut self) {
        let Some((whose, disk)) = self.old_copy.take() else { return };
        self.brokers.iter_mut().for_each(|broker| broker.lost_ms = None);
        let formed = self.brokers.iter().all(|broker| broker.disk.table.roster().is_some());
        if self.faults && formed && self.lose_disk(whose, false) {
            self.note(|| format!("FAULT broker{whose} gets its disk of the former life back"));
            self.brokers[whose].disk = disk;
            self.brokers[whose].is_old = true;
        }
    }

    /// A broker comes up that cannot tell which node it is: it does not act, nor speaks to the other one, until that is
    /// mended and it is started again.
    fn start_apart(&mut self, broker: usize) {
        if self.brokers[broker].single || !self.brokers[broker].is_up() {
            return;
        }
        self.crash_broker(broker);
        self.brokers[broker].apart = true;
        self.start_broker(broker);
        let wait = self.rng.range(200, 3000);
        self.after(wait, Ev::Mend { broker });
    }

    /// An agent runs a session that no table knows, as after a restore; it is to be adopted.
    fn stray_session(&mut self, agent: usize) {
        #[expect(clippy::unwrap_used, reason = "the name is fixed and valid")]
        let user = if self.solo_create {
            self.clients[agent % self.clients.len()].user.clone()
        } else {
            "stray".parse().unwrap()
        };
        self.invent(agent, user);
    }

    /// An agent's host is in bad hands, and tells of many sessions that nobody has.
    fn crowd(&mut self, agent: usize) {
        self.note(|| format!("FAULT agent{agent} invents sessions"));
        for _ in 0..self.rng.range(20, 80) {
            #[expect(clippy::unwrap_used, reason = "the name is fixed and valid")]
            self.invent(agent, CROWD.parse().unwrap());
        }
    }

    /// The host is in good hands again, and the brokers believe it.
    pub(crate) fn believe_again(&mut self) {
        let Some(liar) = self.liar else { return };
        let all = self.agents[liar].sessions.values();
        let invented: Vec<_> =
            all.filter(|session| session.user.as_str() == CROWD).map(|it| it.id).collect();
        for session in invented {
            self.end_session(liar, session, "host reboot");
        }
        for broker in &mut self.brokers {
            broker.aside[liar] = false;
            broker.adoptions[liar] = Adoptions::default();
        }
    }

    fn invent(&mut self, agent: usize, user: UserName) {
        if !self.agents[agent].up {
            return;
        }
        self.serial += 1;
        let session = Arc::new(Session {
            id: SessionId::new(Uuid::from_u128(u128::from(self.serial))),
            user,
            agent: self.agents[agent].name.clone(),
            state: State::Running { display: 9000 },
            request: RequestId::new(Uuid::from_u128(u128::from(self.serial) << 64)),
            params: StartParams::default(),
            created: self.unix(),
        });
        self.checks.stray(&session, agent);
        self.agents[agent].sessions.insert(session.id, Arc::clone(&session));
        self.report(agent, &Item::Started(session));
    }

    /// Everything is made whole, and the address is at one node.
    pub(crate) fn heal(&mut self) {
        self.faults = false;
        self.plot = None;
        self.net.calm();
        for broker in &mut self.brokers {
            broker.is_slow = false;
            broker.hangs_until = 0;
        }
        for broker in 0..2 {
            self.after(100, Ev::Mend { broker });
        }
        for agent in &mut self.agents {
            agent.up = true;
            agent.is_slow = false;
        }
        self.believe_again();
        let holder = self.rng.index(2);
        self.set_address([holder == 0, holder == 1]);
    }
}

/// When the other disk's loss is long enough ago: never again in one run.
fn other_quiet(lost_ms: Option<u64>) -> u64 {
    lost_ms.map_or(0, |_| u64::MAX)
}
