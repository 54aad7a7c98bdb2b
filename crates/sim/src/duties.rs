//! What a broker does besides logins: calls to agents, what agents report, ends and tombstones that are to be carried
//! out.

use vsm_core::{
    Proposal, SessionId, State,
    replica::{
        Event, Replica,
        mutant::{self, Mutant},
    },
};

use crate::{
    broker::Then,
    event::{AgentId, BrokerId, Call, Ev, Item, Reply},
    tell,
    world::World,
};

impl World {
    /// Calls an agent. The reply comes to `then`, or nothing for half a second.
    pub(crate) fn call(&mut self, id: BrokerId, agent: AgentId, call: &Call, then: Then) {
        self.serial += 1;
        let rpc = self.serial;
        let life = self.brokers[id].life;
        self.note(|| format!("broker{id} -> agent{agent}: {}", tell::call(call)));
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
        self.note(|| format!("agent{agent} -> broker{id}: {}", tell::reply(reply)));
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

    pub(crate) fn report_anew(&mut self, id: BrokerId, agent: AgentId) {
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

    pub(crate) fn carry_out_end(&mut self, id: BrokerId, session: SessionId) {
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
        let alone = mutant::on(Mutant::AloneWithPair);
        let want = self.brokers[id].address && !self.brokers[id].apart
            || (self.brokers[id].apart && alone);
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
                self.feed(id, Event::WitnessUp(name.clone()));
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
                // What came before it in the report may still be under way: the table knows of that, not its readers.
                self.propose(id, Proposal::Gone { id: session }, Then::Report(agent));
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
}
