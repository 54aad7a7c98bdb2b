//! What a broker does besides logins: calls to agents, what agents report, ends and tombstones that are to be carried
//! out.

use vsm_core::{
    Proposal, SessionId,
    lifecycle::{self, Owed, Reported},
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
            Reply::Gone(session) if matches!(then, Some(Then::Report(_))) => {
                self.propose(id, Proposal::Gone { id: *session }, Then::Report(agent));
            }
            Reply::Running(..) | Reply::Refused(_) | Reply::Alive(_) | Reply::Gone(_) => {}
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

    /// Does what was decided while an agent was away, as the broker does.
    fn carry_out(&mut self, id: BrokerId) {
        if self.brokers[id].serves().is_none() {
            return;
        }
        let Some(replica) = self.brokers[id].replica.as_ref() else { return };
        let here =
            self.agents.iter().zip(&self.brokers[id].heard).filter(|(_, heard)| heard.is_some());
        let owed: Vec<Owed> = here
            .flat_map(|(agent, _)| {
                lifecycle::owed(replica.table(), &agent.name, |at| self.is_starting(id, at))
            })
            .collect();
        for owed in owed {
            match owed {
                Owed::End(session) => self.carry_out_end(id, session.id),
                Owed::GiveUp(session) => {
                    let now = self.unix();
                    self.propose(id, Proposal::GiveUp { id: session.id, now }, Then::Nothing);
                }
                Owed::Bury(session) => self.bury(id, session),
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
                let mut missing = lifecycle::expected(replica.table(), &name);
                missing.retain(|known| !sessions.iter().any(|session| session.id == *known));
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
        let (from, is_starting) = (&self.agents[agent].name, self.is_starting(id, session.id));
        match lifecycle::reported(replica.table(), from, session, is_starting) {
            Reported::Known | Reported::Elsewhere(_) => {}
            Reported::Commit(display) => {
                let running = Proposal::Running { id: session.id, display };
                self.propose(id, running, Then::Report(agent));
            }
            Reported::Bury => self.bury(id, session.id),
            Reported::Adopt(adopted) => {
                self.propose(id, Proposal::Adopt(adopted), Then::Report(agent));
            }
        }
    }

    /// Whether a login of this broker is at the start of a session.
    pub(crate) fn is_starting(&self, id: BrokerId, session: SessionId) -> bool {
        self.brokers[id].tasks.values().any(|task| task.starts(session))
    }
}
