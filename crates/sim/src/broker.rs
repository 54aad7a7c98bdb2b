//! A broker: the real replica on a disk that may lose what was not synced, and the state machines of its logins.

use std::collections::{BTreeMap, VecDeque};

use vsm_core::{
    Change, Epoch, Key, NodeName, Proposal, Rejected, RequestId, SessionId, State,
    replica::{
        Action, Config, Disk, Event, Failure, PeerMsg, Replica, Standing, Token, WitnessMsg, Write,
        mutant::{self, Mutant},
    },
};

use crate::{
    event::{AgentId, BrokerId, Call, ClientId, Ev, Item, Reply},
    login::Task,
    world::World,
};

/// What is to follow a committed change, or a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    Task(u64),
    CarryOutEnd(SessionId),
    /// What an agent reports: if it cannot be recorded, its report is asked for anew.
    Report(AgentId),
    Nothing,
}

/// A broker.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) name: NodeName,
    pub(crate) disk: Disk,
    pub(crate) life: u64,
    pub(crate) replica: Option<Replica>,
    pub(crate) paused_until: u64,
    /// What is being written, in order.
    stores: VecDeque<(Token, Write)>,
    last_sync: u64,
    pub(crate) address: bool,
    /// Each agent's report, while it is open.
    pub(crate) heard: Vec<Option<u64>>,
    pub(crate) tasks: BTreeMap<u64, Task>,
    pub(crate) waiting: VecDeque<(ClientId, RequestId)>,
    then: BTreeMap<u64, Then>,
    calls: BTreeMap<u64, Then>,
    carried_out_ms: u64,
    /// Its disk takes long to sync.
    pub(crate) is_slow: bool,
    /// When it lost its disk.
    pub(crate) lost_ms: Option<u64>,
}

impl Broker {
    pub(crate) fn new(name: NodeName, agents: usize) -> Self {
        Self {
            name,
            disk: Disk::default(),
            life: 0,
            replica: None,
            paused_until: 0,
            stores: VecDeque::new(),
            last_sync: 0,
            address: false,
            heard: vec![None; agents],
            tasks: BTreeMap::new(),
            waiting: VecDeque::new(),
            then: BTreeMap::new(),
            calls: BTreeMap::new(),
            carried_out_ms: 0,
            is_slow: false,
            lost_ms: None,
        }
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// The epoch in which it serves.
    pub(crate) fn serves(&self) -> Option<Epoch> {
        match self.replica.as_ref()?.standing() {
            Standing::Active { epoch, ready: true, .. } => Some(epoch),
            Standing::Active { .. } | Standing::Standby { .. } | Standing::Claiming(_) => None,
        }
    }
}

impl World {
    pub(crate) fn start_broker(&mut self, id: BrokerId) {
        if self.brokers[id].is_up() {
            return;
        }
        let config = Config {
            node: self.brokers[id].name.clone(),
            witnesses: self.agents.iter().take(3).map(|agent| agent.name.clone()).collect(),
            ack_timeout_ms: 300,
            heartbeat_ms: 100,
            seed: self.rng.next(),
        };
        let broker = &mut self.brokers[id];
        broker.life += 1;
        broker.replica =
            Some(Replica::new(config, broker.disk.clone(), self.now).with_limits(self.limits));
        let life = broker.life;
        let disk = &self.brokers[id].disk;
        self.checks.durable.restarted(id, disk);
        self.after(10, Ev::Tick { broker: id, life });
    }

    /// The process dies: of what was not synced a prefix is on the disk. A write that is torn is as if it never was.
    pub(crate) fn crash_broker(&mut self, id: BrokerId) {
        if !self.brokers[id].is_up() {
            return;
        }
        let keep = self.rng.index(self.brokers[id].stores.len() + 1);
        let broker = &mut self.brokers[id];
        for (_, write) in broker.stores.drain(..).take(keep) {
            broker.disk.apply(&write);
        }
        broker.replica = None;
        broker.life += 1;
        broker.paused_until = 0;
        broker.last_sync = 0;
        broker.heard.fill(None);
        broker.tasks.clear();
        broker.waiting.clear();
        broker.then.clear();
        broker.calls.clear();
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
            // What agents said before could not be recorded here.
            (0..self.agents.len()).for_each(|agent| self.report_anew(id, agent));
        }
        if before != after {
            self.note(|| format!("broker{id}: {after:?}"));
        }
        for action in actions {
            self.act(id, action);
        }
        self.checks.committed(id, &self.brokers, &self.agents, now);
    }

    fn act(&mut self, id: BrokerId, action: Action) {
        match action {
            Action::Store(token, write) => {
                self.checks.durable.writes(id, &write, self.now);
                let broker = &mut self.brokers[id];
                broker.stores.push_back((token, write));
                let slow = match self.brokers[id].is_slow {
                    true => 700,
                    false if self.rng.percent(2) => 150,
                    false => 6,
                };
                let at = (self.now + self.rng.range(1, slow)).max(self.brokers[id].last_sync);
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
                broker.disk.apply(&write);
            }
        }
        self.feed(id, Event::Stored(token));
    }

    fn send_peer(&mut self, from: BrokerId, msg: &PeerMsg) {
        let to = 1 - from;
        let Some(conn) = self.net.link else { return };
        self.note(|| format!("broker{from} -> broker{to}: {}", brief(&format!("{msg:?}"))));
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
        self.note(|| format!("broker{from} -> agent{agent}: {}", brief(&format!("{msg:?}"))));
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
        self.note(|| format!("broker{id}: proposal {number}: {}", brief(&format!("{result:?}"))));
        if let Ok(change) = &result {
            self.checks.durable.acknowledged(id, change, &self.brokers, self.now);
        }
        match (self.brokers[id].then.remove(&number), result) {
            (Some(Then::Task(task)), result) => self.task_answered(id, task, result),
            (Some(Then::CarryOutEnd(session)), Ok(_)) => self.carry_out_end(id, session),
            (Some(Then::Report(agent)), Err(failure)) if !is_known(&failure) => {
                self.report_anew(id, agent);
            }
            _ => {}
        }
    }

    /// Calls an agent. The reply comes to `then`, or nothing for half a second.
    pub(crate) fn call(&mut self, id: BrokerId, agent: AgentId, call: &Call, then: Then) {
        self.serial += 1;
        let rpc = self.serial;
        let life = self.brokers[id].life;
        self.note(|| format!("broker{id} -> agent{agent}: {}", brief(&format!("{call:?}"))));
        self.brokers[id].calls.insert(rpc, then);
        self.after(600, Ev::CallTimeout { broker: id, life, rpc });
        if self.net.is_cut(id, agent + 2) {
            return;
        }
        for _ in 0..if self.rng.percent(self.net.dup) { 2 } else { 1 } {
            if let Some(at) = self.net.arrival(self.now, &mut self.rng) {
                self.at(at, Ev::Call { agent, from: id, life, rpc, call: call.clone() });
            }
        }
    }

    pub(crate) fn replied(&mut self, id: BrokerId, agent: AgentId, rpc: u64, reply: &Reply) {
        self.note(|| format!("agent{agent} -> broker{id}: {reply:?}"));
        let then = self.brokers[id].calls.remove(&rpc);
        match reply {
            Reply::Fenced(epoch) => {
                self.feed(id, Event::Fenced(epoch.clone()));
                let standing = self.brokers[id].replica.as_ref().map(Replica::standing);
                self.checks.fenced.refused(id, epoch, standing.as_ref(), self.now);
            }
            Reply::Cancelled(session) => {
                self.propose(id, Proposal::TombstoneDone { id: *session }, Then::Nothing);
            }
            Reply::Terminated(session) => {
                self.propose(id, Proposal::Gone { id: *session }, Then::Report(agent));
            }
            Reply::Gone(session) => {
                self.propose(id, Proposal::Gone { id: *session }, Then::Report(agent));
            }
            Reply::Running(..) | Reply::Refused(_) | Reply::Alive(_) => {}
        }
        if let Some(Then::Task(task)) = then {
            self.task_replied(id, task, Some(reply));
        }
    }

    fn report_anew(&mut self, id: BrokerId, agent: AgentId) {
        self.brokers[id].heard[agent] = None;
        self.agents[agent].close_report(id);
    }

    pub(crate) fn call_timeout(&mut self, id: BrokerId, rpc: u64) {
        match self.brokers[id].calls.remove(&rpc) {
            Some(Then::Task(task)) => self.task_replied(id, task, None),
            Some(Then::Report(agent)) => self.report_anew(id, agent),
            Some(Then::CarryOutEnd(_) | Then::Nothing) | None => {}
        }
    }

    pub(crate) fn agent_of(&self, id: BrokerId, session: SessionId) -> Option<AgentId> {
        let table = self.brokers[id].replica.as_ref()?.table();
        let agent = table
            .session(session)
            .map(|known| &known.agent)
            .or_else(|| table.tombstone(session).map(|(agent, _)| agent))?;
        self.agents.iter().position(|known| known.name == *agent)
    }

    /// A user wants a session to end: durable first, then asked of its agent.
    pub(crate) fn end_wish(&mut self, id: BrokerId, session: SessionId) {
        if self.brokers[id].serves().is_some() {
            self.checks.truth.wish(session);
            self.propose(id, Proposal::End { id: session }, Then::CarryOutEnd(session));
        }
    }

    fn carry_out_end(&mut self, id: BrokerId, session: SessionId) {
        let (Some(agent), Some(epoch)) = (self.agent_of(id, session), self.brokers[id].serves())
        else {
            return;
        };
        self.call(id, agent, &Call::Terminate { epoch, id: session }, Then::Nothing);
    }

    /// Has the agent hold to a tombstone, which is then forgotten here.
    pub(crate) fn bury(&mut self, id: BrokerId, session: SessionId) {
        if mutant::on(Mutant::TombstoneDropped) {
            return self.propose(id, Proposal::TombstoneDone { id: session }, Then::Nothing);
        }
        let (Some(agent), Some(epoch)) = (self.agent_of(id, session), self.brokers[id].serves())
        else {
            return;
        };
        self.call(id, agent, &Call::Cancel { epoch, id: session }, Then::Nothing);
    }

    pub(crate) fn tick(&mut self, id: BrokerId) {
        let life = self.brokers[id].life;
        self.after(40, Ev::Tick { broker: id, life });
        let want = self.brokers[id].address;
        self.feed(id, Event::Want(want));
        if self.now >= self.brokers[id].carried_out_ms + 1000 {
            self.brokers[id].carried_out_ms = self.now;
            self.carry_out(id);
        }
        self.next_logins(id);
    }

    /// Does what was decided while an agent was away.
    fn carry_out(&mut self, id: BrokerId) {
        if self.brokers[id].serves().is_none() {
            return;
        }
        let Some(replica) = self.brokers[id].replica.as_ref() else { return };
        let table = replica.table();
        let ending: Vec<SessionId> = table
            .sessions()
            .filter(|session| matches!(session.state, State::Ending { .. }))
            .map(|session| session.id)
            .collect();
        let starting: Vec<SessionId> = table
            .sessions()
            .filter(|session| session.state == State::Starting)
            .map(|session| session.id)
            .collect();
        let stones: Vec<SessionId> = table.tombstones().map(|(session, ..)| session).collect();
        let is_up = |world: &Self, session| {
            world
                .agent_of(id, session)
                .is_some_and(|agent| world.brokers[id].heard[agent].is_some())
        };
        for session in ending {
            if is_up(self, session) {
                self.carry_out_end(id, session);
            }
        }
        for session in starting {
            if is_up(self, session) && !self.is_starting(id, session) {
                let now = self.unix();
                self.propose(id, Proposal::GiveUp { id: session, now }, Then::Nothing);
            }
        }
        for session in stones {
            if is_up(self, session) {
                self.bury(id, session);
            }
        }
    }

    /// Part of an agent's report.
    pub(crate) fn reported(&mut self, id: BrokerId, agent: AgentId, conn: u64, item: Item) {
        match item {
            Item::Inventory { promised, sessions } => {
                self.brokers[id].heard[agent] = Some(conn);
                if let Some(epoch) = promised {
                    self.feed(id, Event::Fenced(epoch));
                }
                for session in &sessions {
                    self.absorb(id, agent, session);
                }
                let name = self.agents[agent].name.clone();
                let Some(replica) = self.brokers[id].replica.as_ref() else { return };
                let missing: Vec<SessionId> = replica
                    .table()
                    .on_agent(&name)
                    .filter(|known| known.state != State::Starting)
                    .filter(|known| !sessions.iter().any(|session| session.id == known.id))
                    .map(|known| known.id)
                    .collect();
                if self.brokers[id].serves().is_some() {
                    for session in missing {
                        self.call(id, agent, &Call::Verify { id: session }, Then::Report(agent));
                    }
                }
            }
            // Of a report that is closed.
            _ if self.brokers[id].heard[agent] != Some(conn) => {}
            Item::Started(session) => self.absorb(id, agent, &session),
            Item::Ended(session) => {
                if self.agent_of(id, session) == Some(agent) {
                    self.propose(id, Proposal::Gone { id: session }, Then::Report(agent));
                }
            }
        }
    }

    /// Brings the table into line with a session that an agent runs.
    fn absorb(
        &mut self,
        id: BrokerId,
        agent: AgentId,
        session: &std::sync::Arc<vsm_core::Session>,
    ) {
        if self.brokers[id].serves().is_none() {
            return;
        }
        let Some(replica) = self.brokers[id].replica.as_ref() else { return };
        let (at, table) = (session.id, replica.table());
        let display = session.state.display().unwrap_or(0);
        match table.session(at).map(|known| known.state) {
            Some(State::Starting) if self.is_starting(id, at) => {}
            Some(State::Starting) => {
                self.propose(id, Proposal::Running { id: at, display }, Then::Report(agent));
            }
            Some(State::Running { .. } | State::Ending { .. }) => {}
            None if table.tombstone(at).is_some() => self.bury(id, at),
            None => {
                let adopted = vsm_core::Session::clone(session);
                self.propose(id, Proposal::Adopt(adopted), Then::Report(agent));
            }
        }
    }

    pub(crate) fn is_starting(&self, id: BrokerId, session: SessionId) -> bool {
        self.brokers[id].tasks.values().any(|task| task.starts(session))
    }

    fn drop_tasks(&mut self, id: BrokerId) {
        let tasks = std::mem::take(&mut self.brokers[id].tasks);
        self.brokers[id].calls.clear();
        for task in tasks.into_values() {
            self.answer_client(task.client, task.request, Err(()));
        }
    }
}

/// A proposal that says no more than what is known already.
pub(crate) const fn is_known(failure: &Failure) -> bool {
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

/// The first part of a message, for the trace.
pub(crate) fn brief(text: &str) -> String {
    text.chars().take(600).collect()
}

/// Rows of a table in an order of their own.
pub(crate) fn rows(table: &vsm_core::Table) -> BTreeMap<Key, vsm_core::Row> {
    table.rows().map(|row| (row.key(), row)).collect()
}
