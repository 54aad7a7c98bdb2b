//! An agent: its sessions, what it remembers of starts, its promise. What it keeps is durable before it answers.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{
    AgentName, Epoch, Session, SessionId, State,
    replica::{
        Witness,
        mutant::{self, Mutant},
    },
};

use crate::{
    event::{AgentId, BrokerId, Call, Ev, Item, Reply},
    tell,
    world::World,
};

/// What an agent holds to about a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Started(u32),
    Refused,
    Cancelled,
}

/// An agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: AgentName,
    pub(crate) up: bool,
    pub(crate) life: u64,
    pub(crate) witness: Witness,
    durable: Witness,
    /// An older copy of what is durable.
    backup: Option<Witness>,
    /// It lost its promise: it neither votes nor acts.
    pub(crate) quarantined: bool,
    pub(crate) lost: bool,
    /// It takes long to start a session.
    pub(crate) is_slow: bool,
    pub(crate) sessions: BTreeMap<SessionId, Arc<Session>>,
    outcomes: BTreeMap<SessionId, Outcome>,
    displays: u32,
    /// The report to each broker: its number while it is open.
    reports: [Option<(u64, u64)>; 2],
    last: [u64; 2],
}

impl Agent {
    pub(crate) fn new(name: AgentName) -> Self {
        Self {
            name,
            up: true,
            life: 1,
            witness: Witness::default(),
            durable: Witness::default(),
            backup: None,
            quarantined: false,
            lost: false,
            is_slow: false,
            sessions: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            displays: 0,
            reports: [None; 2],
            last: [0; 2],
        }
    }

    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.life += 1;
        self.reports = [None; 2];
        self.witness = self.durable.clone();
    }

    pub(crate) const fn close_report(&mut self, to: BrokerId) {
        self.reports[to] = None;
    }

    /// The promise is gone, and known to be.
    pub(crate) fn lose_promise(&mut self) {
        self.quarantined = !mutant::on(Mutant::NoQuarantine);
        self.lost = true;
        (self.witness, self.durable) = (Witness::default(), Witness::default());
    }

    /// Somebody copies what it keeps.
    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.durable.clone());
    }

    /// Somebody puts the copy back. It is found out by its position, and nothing of it counts.
    pub(crate) fn go_back(&mut self) {
        let Some(older) = self.backup.take().filter(|older| *older != self.durable) else {
            return;
        };
        self.lose_promise();
        if mutant::on(Mutant::RollbackUnseen) {
            self.quarantined = false;
            (self.witness, self.durable) = (older.clone(), older);
        }
    }

    /// An administrator lets it act again, for nobody older than this.
    pub(crate) fn release(&mut self, epoch: &Epoch) {
        self.quarantined = false;
        self.witness = Witness::after_loss(epoch.clone());
        self.durable = self.witness.clone();
    }

    pub(crate) fn sync(&mut self) {
        if !mutant::on(Mutant::WitnessVolatile) {
            self.durable = self.witness.clone();
        }
    }

    /// Whether a broker may act now; the promise is durable.
    fn admit(&mut self, epoch: &Epoch) -> Result<(), Epoch> {
        if mutant::on(Mutant::NoFence) {
            return Ok(());
        }
        let admitted = self.witness.admit(epoch);
        self.sync();
        admitted
    }
}

impl World {
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
            if agent.quarantined {
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
        if agent.quarantined {
            return;
        }
        if let Err(promised) = agent.admit(epoch) {
            return self.agent_reply(id, from, life, rpc, Reply::Fenced(promised));
        }
        let reply = match agent.outcomes.get(&session.id) {
            Some(Outcome::Started(display)) if agent.sessions.contains_key(&session.id) => {
                Reply::Running(session.id, *display)
            }
            Some(_) => Reply::Refused(session.id),
            None if self.rng.percent(8) => {
                agent.outcomes.insert(session.id, Outcome::Refused);
                Reply::Refused(session.id)
            }
            None => {
                agent.displays += 1;
                let display = agent.displays;
                agent.outcomes.insert(session.id, Outcome::Started(display));
                let state = State::Running { display };
                let running = Arc::new(Session { state, ..Session::clone(session) });
                agent.sessions.insert(session.id, Arc::clone(&running));
                self.note(|| format!("agent{id}: {}", tell::started(running.id)));
                self.checks.fenced.acted(id, epoch, self.now);
                self.checks.truth.started(&running, id, self.now);
                self.report(id, &Item::Started(running));
                Reply::Running(session.id, display)
            }
        };
        self.agent_reply(id, from, life, rpc, reply);
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
                && !self.net.is_cut(id + 2, to)
                && !self.net.is_cut(to, id + 2);
            let life = self.brokers[to].life;
            let open = self.agents[id].reports[to].is_some_and(|(_, with)| with == life);
            if !reached {
                self.agents[id].reports[to] = None;
                self.brokers[to].heard[id] = None;
            } else if !open {
                self.net.conns += 1;
                let conn = self.net.conns;
                let agent = &mut self.agents[id];
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
