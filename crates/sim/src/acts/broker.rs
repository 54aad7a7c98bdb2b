//! What a broker does with its replica: it feeds it, carries out what it asks for, and dies and comes back.

use vsm_core::{
    Change, Proposal, Rejected, lifecycle,
    replica::{
        Action, Config, Disk, Event, Failure, PeerMsg, Replica, Standing, Token, WitnessMsg,
        mutant::{self, Mutant},
    },
};

use crate::{
    event::{BrokerId, Ev},
    state::broker::Then,
    tell,
    world::{Fencing, World},
};

impl World {
    pub(crate) fn start_broker(&mut self, id: BrokerId) {
        if self.brokers[id].is_up() || self.brokers[1 - id].single {
            return;
        }
        let config = Config {
            node: self.brokers[id].name.clone(),
            witnesses: self
                .agents
                .iter()
                .take(if self.fencing == Fencing::Alone { 0 } else { 3 })
                .map(|agent| agent.name.clone())
                .collect(),
            ack_timeout_ms: 300,
            heartbeat_ms: 100,
            seed: self.rng.next(),
            limits: self.limits,
            alone: self.brokers[id].single
                || (self.brokers[id].apart && mutant::on(Mutant::AloneWithPair)),
        };
        let (now, unseen) = (self.now, mutant::on(Mutant::RollbackUnseen));
        let peer = self.brokers[1 - id].name.clone();
        let broker = &mut self.brokers[id];
        broker.find_disk(now, unseen);
        // As the second node does at each start: a single server's table that nobody would miss is set aside.
        if id == 1 && !broker.apart && broker.disk.is_expendable(&peer) {
            broker.disk = Disk::default();
        }
        broker.life += 1;
        broker.replica = Some(Replica::new(config, broker.disk.clone(), self.now));
        let life = broker.life;
        let disk = &self.brokers[id].disk;
        self.checks.durable.restarted(id, disk);
        self.after(10, Ev::Tick { broker: id, life });
    }

    /// A broker that did not know who it is knows it again; one that is down is started.
    pub(crate) fn mend(&mut self, id: BrokerId) {
        if std::mem::take(&mut self.brokers[id].apart) {
            self.crash_broker(id);
        }
        self.start_broker(id);
    }

    /// The process dies: of what was not synced a prefix is on the disk. A write that is torn is as if it never was.
    pub(crate) fn crash_broker(&mut self, id: BrokerId) {
        let keep = self.rng.index(self.brokers[id].stores.len() + 1);
        self.crash_keeping(id, keep);
    }

    /// The process dies: so many of the writes that were not synced are on the disk.
    pub(crate) fn crash_keeping(&mut self, id: BrokerId, keep: usize) {
        if !self.brokers[id].is_up() {
            return;
        }
        self.note(|| format!("broker{id} crashes"));
        self.brokers[id].die(keep);
        self.drop_link();
    }

    /// Takes a replica's event, and does what it asks for.
    pub(crate) fn feed(&mut self, id: BrokerId, event: Event) {
        let now = self.now;
        let Some(replica) = self.brokers[id].replica.as_mut() else { return };
        let before = replica.standing();
        let actions = replica.handle(now, event);
        let after = replica.standing();
        self.checks.stepped(id, &self.brokers, now);
        let is_ready =
            |standing: &Standing| matches!(standing, Standing::Active { ready: true, .. });
        let is_active = |standing: &Standing| matches!(standing, Standing::Active { .. });
        if is_active(&before) && !is_active(&after) {
            self.drop_tasks(id);
        }
        if !is_ready(&before) && is_ready(&after) {
            self.brokers[id].ready_ms = now;
        }
        if lifecycle::is_stale(is_ready(&before), is_ready(&after)) {
            // What agents said before could not be recorded here.
            self.brokers[id].missed.fill(0);
            (0..self.agents.len()).for_each(|agent| self.report_anew(id, agent));
        }
        if before != after {
            self.note(|| format!("broker{id} {}", tell::standing(&after)));
            if let Standing::Claiming(epoch) = &after {
                self.checks.claims.claimed(epoch);
            }
            self.plot_turn(id, &after);
        }
        // As the shell does: what follows from an answer comes after what was sent and written before it.
        let (answers, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Answer { .. }));
        for action in rest.into_iter().chain(answers) {
            self.act(id, action);
        }
        self.checks.committed(id, &self.brokers, &self.agents, now);
    }

    fn act(&mut self, id: BrokerId, action: Action) {
        match action {
            Action::Store(token, write) => {
                self.checks.durable.writes(id, &write, self.now);
                let broker = &mut self.brokers[id];
                broker.is_old &= write.install.is_none();
                broker.stores.push_back((token, write));
                let slow = match self.brokers[id].is_slow {
                    true => 700,
                    false if self.rng.percent(2) => 150,
                    false => 6,
                };
                let broker = &self.brokers[id];
                let earliest = broker.last_sync.max(broker.hangs_until);
                let at = (self.now + self.rng.range(1, slow)).max(earliest);
                self.brokers[id].last_sync = at;
                let life = self.brokers[id].life;
                self.at(at, Ev::Stored { broker: id, life, token });
            }
            Action::ToPeer(msg) => self.send_peer(id, &msg),
            Action::ToWitness(agent, msg) => self.send_witness(id, agent.as_str(), &msg),
            Action::Answer { id: proposal, result } => self.answered(id, proposal, result),
        }
    }

    pub(crate) fn stored(&mut self, id: BrokerId, token: Token) {
        let broker = &mut self.brokers[id];
        while broker.stores.front().is_some_and(|(at, _)| *at <= token) {
            if let Some((_, write)) = broker.stores.pop_front() {
                broker.sync(&write);
            }
        }
        self.feed(id, Event::Stored(token));
    }

    fn send_peer(&mut self, from: BrokerId, msg: &PeerMsg) {
        let to = 1 - from;
        let Some(conn) = self.net.link else { return };
        self.note(|| format!("broker{from} -> broker{to}: {}", tell::peer(msg)));
        if self.net.in_order && (self.net.broken[from] || self.net.is_cut(from, to)) {
            self.net.broken[from] = true;
            return;
        }
        if self.net.is_cut(from, to) {
            return;
        }
        let life = self.brokers[to].life;
        for at in self.net.peer_arrivals(from, self.now, &mut self.rng) {
            self.at(at, Ev::Peer { to, life, conn, msg: msg.clone() });
        }
    }

    fn send_witness(&mut self, from: BrokerId, agent: &str, msg: &WitnessMsg) {
        let Some(agent) = self.agents.iter().position(|a| a.name.as_str() == agent) else { return };
        self.note(|| format!("broker{from} -> agent{agent}: {}", tell::to_witness(msg)));
        if self.net.is_cut(from, agent + 2) {
            return;
        }
        let life = self.brokers[from].life;
        for _ in 0..if self.rng.percent(self.net.dup) { 2 } else { 1 } {
            if let Some(at) = self.net.arrival(self.now, &mut self.rng) {
                self.at(at, Ev::Witness { agent, from, life, msg: msg.clone() });
            }
        }
    }

    /// Proposes one change.
    pub(crate) fn propose(&mut self, id: BrokerId, proposal: Proposal, then: Then) {
        self.serial += 1;
        let number = self.serial;
        self.brokers[id].then.insert(number, then);
        self.feed(id, Event::Propose(vec![(number, proposal)]));
    }

    fn answered(&mut self, id: BrokerId, number: u64, result: Result<Change, Failure>) {
        self.note(|| format!("broker{id}: {}", tell::answer(&result)));
        if let Ok(change) = &result {
            self.checks.durable.acknowledged(id, change, &self.brokers, self.now);
        }
        match (self.brokers[id].then.remove(&number), result) {
            (Some(Then::Task(task)), result) => self.task_answered(id, task, result),
            (Some(Then::End(number)), result) => self.end_answered(id, number, result),
            (Some(Then::Burial(number)), result) => self.burial_answered(id, number, result),
            (Some(Then::Report(agent)), Err(failure)) if !is_known(&failure) => {
                self.brokers[id].mark_missed(agent);
                self.report_anew(id, agent);
            }
            (Some(Then::Adopt(agent, session)), Err(failure)) if !is_known(&failure) => {
                self.brokers[id].adoptions[agent].take_back(session);
                self.brokers[id].mark_missed(agent);
                self.report_anew(id, agent);
            }
            _ => {}
        }
    }

    fn drop_tasks(&mut self, id: BrokerId) {
        let tasks = std::mem::take(&mut self.brokers[id].tasks);
        let broker = &mut self.brokers[id];
        broker.calls.clear();
        broker.ends.clear();
        broker.burials.clear();
        for task in tasks.into_values() {
            self.answer_client(task.client, task.request, Err(()));
        }
    }
}

/// A proposal that says no more than what is known already.
const fn is_known(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Rejected(
            Rejected::GivenUp(_)
                | Rejected::UnknownSession(_)
                | Rejected::AlreadyRunning(_)
                | Rejected::IdUsed(_)
        )
    )
}
