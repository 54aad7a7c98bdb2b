//! What a broker does besides logins: calls to agents, what agents report, and what is then to be done, as
//! `vsm_core::lifecycle` decides.

use vsm_core::{
    Proposal, Session, SessionId,
    lifecycle::{self, Bounds, Burial, MayAdopt, Missed, Owed, Reported},
    replica::{
        Event, Replica,
        mutant::{self, Mutant},
    },
};

use crate::{
    event::{AgentId, BrokerId, Call, Ev, Item, Reply},
    state::broker::Then,
    tell,
    world::World,
};

/// What is adopted of one host: far more than one has here that invents none.
pub(crate) const ADOPTED: Bounds = Bounds { sessions: 40, adoptions: 60, window_ms: 600_000 };

impl World {
    /// Calls an agent. The reply comes to `then`, or nothing for half a second.
    pub(crate) fn call(&mut self, id: BrokerId, agent: AgentId, call: &Call, then: Then) {
        self.serial += 1;
        let rpc = self.serial;
        let life = self.brokers[id].life;
        self.note(|| format!("broker{id} -> agent{agent}: {}", tell::call(call)));
        self.brokers[id].calls.insert(rpc, then);
        self.after(600, Ev::CallTimeout { broker: id, life, rpc });
        if self.net.is_cut(id, agent + 2) || self.brokers[id].aside[agent] {
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
        if let Reply::Fenced(epoch) = reply {
            self.feed(id, Event::Fenced(epoch.clone()));
            let standing = self.brokers[id].replica.as_ref().map(Replica::standing);
            self.checks.fenced.refused(id, epoch, standing.as_ref(), self.now);
        }
        self.follow_call(id, then, Some(reply));
    }

    /// A call was answered, or was not in time.
    fn follow_call(&mut self, id: BrokerId, then: Option<Then>, reply: Option<&Reply>) {
        match then {
            Some(Then::Task(task)) => self.task_replied(id, task, reply),
            Some(Then::End(number)) => self.end_replied(id, number, reply),
            Some(Then::Burial(number)) => self.burial_replied(id, number, reply),
            Some(Then::Missed(agent, session)) => {
                let is_there = match reply {
                    Some(Reply::Alive(_)) => Some(true),
                    Some(Reply::Gone(_)) => Some(false),
                    _ => None,
                };
                match lifecycle::missed(is_there) {
                    Missed::Drop => {
                        self.propose(id, Proposal::Gone { id: session }, Then::Report(agent));
                    }
                    Missed::Keep => {}
                    Missed::Later => self.report_anew(id, agent),
                }
            }
            Some(Then::Report(_) | Then::Adopt(..) | Then::Nothing) | None => {}
        }
    }

    pub(crate) fn report_anew(&mut self, id: BrokerId, agent: AgentId) {
        self.brokers[id].heard[agent] = None;
        self.agents[agent].close_report(id);
    }

    pub(crate) fn call_timeout(&mut self, id: BrokerId, rpc: u64) {
        let then = self.brokers[id].calls.remove(&rpc);
        self.follow_call(id, then, None);
    }

    pub(crate) fn agent_of(&self, id: BrokerId, session: SessionId) -> Option<AgentId> {
        let broker = &self.brokers[id];
        let table = broker.replica.as_ref()?.table();
        let agent = broker
            .session(session)
            .map(|known| &known.agent)
            .or_else(|| table.tombstone(session).map(|(agent, _)| agent))?;
        self.agents.iter().position(|known| known.name == *agent)
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
                lifecycle::owed(replica.table(), &agent.name, |at| self.brokers[id].is_starting(at))
            })
            .collect();
        for owed in owed {
            match owed {
                Owed::End(session) => self.carry_out_end(id, session.id),
                // A login may have taken it up since.
                Owed::GiveUp(session) if self.brokers[id].is_starting(session.id) => {}
                Owed::GiveUp(session) => {
                    self.begin_burial(id, session.id, Burial::giving_up(session.id));
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
                let name = self.agents[agent].name.clone();
                let Some(replica) = self.brokers[id].replica.as_ref() else { return };
                let mut missing = lifecycle::expected(replica.table(), &name);
                missing.retain(|known| !sessions.iter().any(|session| session.id == *known));
                for session in &sessions {
                    self.absorb(id, agent, session, missing.len());
                    if self.brokers[id].aside[agent] {
                        return;
                    }
                }
                self.feed(id, Event::WitnessUp(name));
                if self.brokers[id].serves().is_some() {
                    for session in missing {
                        let then = Then::Missed(agent, session);
                        self.call(id, agent, &Call::Verify { id: session }, then);
                    }
                }
            }
            // Of a report that is closed.
            _ if self.brokers[id].heard[agent] != Some(conn) => {}
            Item::Started(session) => self.absorb(id, agent, &session, 0),
            Item::Ended(session) => {
                self.brokers[id].forget_unvoted(session);
                // What came before it in the report may still be under way: the table knows of that, not its readers.
                self.propose(id, Proposal::Gone { id: session }, Then::Report(agent));
            }
        }
    }

    /// Brings the table into line with a session that an agent runs, which does not tell of `missing` others.
    fn absorb(&mut self, id: BrokerId, agent: AgentId, session: &Session, missing: usize) {
        if self.brokers[id].serves().is_none() {
            return;
        }
        let Some(replica) = self.brokers[id].replica.as_ref() else { return };
        let (from, is_starting) =
            (&self.agents[agent].name, self.brokers[id].is_starting(session.id));
        match lifecycle::reported(replica.table(), from, session, is_starting) {
            Reported::Known | Reported::Elsewhere(_) => {}
            Reported::Commit(display) => {
                let running = Proposal::Running { id: session.id, display };
                self.propose(id, running, Then::Report(agent));
            }
            Reported::Bury => self.bury(id, session.id),
            Reported::Adopt(adopted) => self.adopt(id, agent, adopted, missing),
        }
    }

    /// Adopts a session, if its host is believed.
    fn adopt(&mut self, id: BrokerId, agent: AgentId, session: Session, missing: usize) {
        let name = &self.agents[agent].name;
        let Some(replica) = self.brokers[id].replica.as_ref() else { return };
        let rows = replica.table().on_agent(name).count();
        let (now, which) = (self.now, session.id);
        let may =
            self.brokers[id].adoptions[agent].may_adopt(which, (rows, missing), now, &ADOPTED);
        match may {
            MayAdopt::Yes => {
                return self.propose(id, Proposal::Adopt(session), Then::Adopt(agent, which));
            }
            MayAdopt::Later => {
                self.brokers[id].mark_missed(agent);
                return self.report_anew(id, agent);
            }
            MayAdopt::TooMany | MayAdopt::TooOften => {}
        }
        self.note(|| format!("broker{id} puts agent{agent} aside"));
        self.checks.put_aside(agent, self.liar, now);
        self.brokers[id].aside[agent] = true;
        self.report_anew(id, agent);
    }
}
