//! What an agent does: it answers brokers, as a witness too, starts and ends sessions, and reports them.

use std::sync::Arc;

use vsm_core::{
    Epoch, Session, SessionId, State,
    replica::{
        WitnessMsg,
        mutant::{self, Mutant},
    },
};

use crate::{
    event::{AgentId, BrokerId, Call, Ev, Item, Reply},
    state::agent::Outcome,
    tell,
    world::World,
};

impl World {
    /// A broker asks the witness that the agent is.
    pub(crate) fn witness_asked(
        &mut self,
        id: AgentId,
        from: BrokerId,
        life: u64,
        msg: WitnessMsg,
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

    pub(crate) fn agent_call(
        &mut self,
        id: AgentId,
        from: BrokerId,
        life: u64,
        rpc: u64,
        call: Call,
    ) {
        let agent = &mut self.agents[id];
        if !agent.up {
            return;
        }
        let epoch = match &call {
            Call::Start { epoch, .. }
            | Call::Cancel { epoch, .. }
            | Call::Terminate { epoch, .. } => Some(epoch.clone()),
            Call::Verify { .. } => None,
        };
        if let Some(epoch) = &epoch {
            if agent.damaged.is_some() {
                return;
            }
            if let Err(promised) = agent.admit(epoch) {
                return self.agent_reply(id, from, life, rpc, Reply::Fenced(promised));
            }
        }
        let reply = match call {
            Call::Start { epoch, session } => {
                let at = self.now + self.rng.range(5, if agent.is_slow { 4000 } else { 300 });
                let agent_life = agent.life;
                return self
                    .at(at, Ev::Act { agent: id, agent_life, from, life, rpc, epoch, session });
            }
            Call::Cancel { id: session, epoch } => {
                self.checks.fenced.acted(id, &epoch, self.now);
                let agent = &mut self.agents[id];
                if !mutant::on(Mutant::CancelForgotten) {
                    agent.outcomes.insert(session, Outcome::Cancelled);
                }
                self.end_session(id, session, "cancelled");
                Reply::Cancelled(session)
            }
            Call::Terminate { id: session, epoch } => {
                self.checks.fenced.acted(id, &epoch, self.now);
                self.end_session(id, session, "terminated");
                Reply::Terminated(session)
            }
            Call::Verify { id: session } => {
                if agent.sessions.contains_key(&session) {
                    Reply::Alive(session)
                } else {
                    Reply::Gone(session)
                }
            }
        };
        self.agent_reply(id, from, life, rpc, reply);
    }

    /// The moment of the fork: the epoch is checked again.
    pub(crate) fn agent_act(
        &mut self,
        id: AgentId,
        (from, life, rpc): (BrokerId, u64, u64),
        epoch: &Epoch,
        session: &Arc<Session>,
    ) {
        let agent = &mut self.agents[id];
        if agent.damaged.is_some() {
            return;
        }
        if let Err(promised) = agent.admit(epoch)
            && !mutant::on(Mutant::PermitStale)
        {
            return self.agent_reply(id, from, life, rpc, Reply::Fenced(promised));
        }
        let reply = match agent.outcomes.get(&session.id) {
            Some(Outcome::Started(display)) if agent.sessions.contains_key(&session.id) => {
                Reply::Running(session.id, *display)
            }
            Some(Outcome::Cancelled) if mutant::on(Mutant::CancelOvertaken) => {
                self.start_session(id, epoch, session)
            }
            Some(_) => Reply::Refused(session.id),
            None if self.rng.percent(8) => {
                agent.outcomes.insert(session.id, Outcome::Refused);
                Reply::Refused(session.id)
            }
            None => self.start_session(id, epoch, session),
        };
        self.agent_reply(id, from, life, rpc, reply);
    }

    fn start_session(&mut self, id: AgentId, epoch: &Epoch, session: &Arc<Session>) -> Reply {
        let agent = &mut self.agents[id];
        agent.displays += 1;
        let display = agent.displays;
        agent.outcomes.insert(session.id, Outcome::Started(display));
        let state = State::Running { display };
        let running = Arc::new(Session { state, ..Session::clone(session) });
        agent.sessions.insert(session.id, Arc::clone(&running));
        self.note(|| format!("agent{id}: {}", tell::started(running.id)));
        self.checks.fenced.acted(id, epoch, self.now);
        self.checks.started(&running, id, self.now);
        self.report(id, &Item::Started(running));
        Reply::Running(session.id, display)
    }

    pub(crate) fn end_session(&mut self, id: AgentId, session: SessionId, why: &'static str) {
        if self.agents[id].sessions.remove(&session).is_some() {
            self.note(|| format!("agent{id}: {}", tell::ends(session, why)));
            self.checks.ended(session, self.now, why);
            self.report(id, &Item::Ended(session));
        }
    }

    fn agent_reply(&mut self, id: AgentId, to: BrokerId, life: u64, rpc: u64, reply: Reply) {
        self.checks.fenced.heard(id, self.agents[id].witness.promised());
        if self.net.is_cut(id + 2, to) {
            return;
        }
        if let Some(at) = self.net.arrival(self.now, &mut self.rng) {
            self.at(at, Ev::Reply { agent: id, to, life, rpc, reply });
        }
    }

    /// Sends to both brokers, in order; a message that cannot be delivered breaks the report.
    pub(crate) fn report(&mut self, id: AgentId, item: &Item) {
        for to in 0..2 {
            let Some((conn, life)) = self.agents[id].reports[to] else { continue };
            if self.net.is_cut(id + 2, to) || self.brokers[to].life != life {
                self.agents[id].reports[to] = None;
                continue;
            }
            let at = (self.now + self.rng.range(1, self.net.delay)).max(self.agents[id].last[to]);
            self.agents[id].last[to] = at;
            self.at(at, Ev::Report { agent: id, to, life, conn, item: item.clone() });
        }
    }

    /// Opens the reports that are not open, with an inventory.
    pub(crate) fn agent_dial(&mut self, id: AgentId) {
        self.after(200, Ev::AgentDial { agent: id });
        if !self.agents[id].up {
            return;
        }
        for to in 0..2 {
            let reached = self.brokers[to].is_up()
                && !self.brokers[to].aside[id]
                && !self.net.is_cut(id + 2, to)
                && !self.net.is_cut(to, id + 2);
            let life = self.brokers[to].life;
            let open = self.agents[id].reports[to].is_some_and(|(_, with)| with == life);
            if !reached {
                self.agents[id].reports[to] = None;
                self.brokers[to].heard[id] = None;
            } else if !open && self.brokers[to].takes_report(id) {
                self.net.conns += 1;
                let conn = self.net.conns;
                let agent = &mut self.agents[id];
                agent.set_apart_if_short(conn);
                agent.reports[to] = Some((conn, life));
                let item = Item::Inventory {
                    promised: agent.witness.promised().cloned(),
                    sessions: agent.sessions.values().cloned().collect(),
                };
                let at =
                    (self.now + self.rng.range(1, self.net.delay)).max(self.agents[id].last[to]);
                self.agents[id].last[to] = at;
                self.at(at, Ev::Report { agent: id, to, life, conn, item });
            }
        }
    }
}
