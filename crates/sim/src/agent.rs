//! An agent: its sessions, what it remembers of starts, its promise. What it keeps is durable before it answers.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{
    AgentName, Epoch, Session, SessionId, State,
    replica::{
        Living, Witness, WitnessMsg, WitnessReply,
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
    pub(crate) living: Living,
    /// Its journal: which, and how many records it has.
    journal: (u64, u64),
    /// The greatest length that brokers heard of, and of which journal.
    known: (u64, u64),
    durable: (Witness, (u64, u64)),
    /// An older copy of what is durable.
    backup: Option<(Witness, (u64, u64))>,
    /// It lost its promise and knows it, by the number of the loss: it neither votes nor acts.
    pub(crate) damaged: Option<u64>,
    /// It lost what it held at this moment, last.
    pub(crate) lost: Option<u64>,
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
    pub(crate) fn new(name: AgentName, first: u64) -> Self {
        Self {
            name,
            up: true,
            life: 1,
            witness: Witness::fresh(first),
            living: Living::default(),
            journal: (first, 0),
            known: (first, 0),
            durable: (Witness::fresh(first), (first, 0)),
            backup: None,
            damaged: None,
            lost: None,
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
        self.living = Living::default();
        (self.witness, self.journal) = self.durable.clone();
    }

    pub(crate) const fn close_report(&mut self, to: BrokerId) {
        self.reports[to] = None;
    }

    /// The disk is gone, and with it all that was promised and kept: a new journal is begun.
    pub(crate) fn lose_disk(&mut self, loss: u64, now: u64) {
        self.lost = Some(now);
        (self.witness, self.journal) = (Witness::fresh(loss), (loss, 0));
        if mutant::on(Mutant::NoQuarantine) {
            self.witness.mute = None;
        }
        self.durable = (self.witness.clone(), self.journal);
        self.damaged = None;
    }

    /// Somebody copies what it keeps.
    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.durable.clone());
    }

    /// Somebody puts the copy back. It is found out by the length of the journal, and nothing of it counts.
    pub(crate) fn go_back(&mut self, loss: u64, now: u64) {
        let Some(older) = self.backup.take().filter(|older| *older != self.durable) else {
            return;
        };
        self.lost = Some(now);
        self.durable = older.clone();
        (self.witness, self.journal) = older;
        if !mutant::on(Mutant::RollbackUnseen) {
            self.damaged = Some(loss);
        }
    }

    /// Whether it votes when it is asked.
    pub(crate) const fn votes(&self) -> bool {
        self.damaged.is_none() && self.witness.mute.is_none()
    }

    /// Answers a message to the witness; what is told is durable.
    pub(crate) fn ask(&mut self, message: WitnessMsg, now: u64) -> WitnessReply {
        if let Some(loss) = self.damaged {
            if !matches!(message, WitnessMsg::Clear { loss: by, .. } if by == Some(loss)) {
                return WitnessReply::Mute { loss };
            }
            self.damaged = None;
            (self.witness, self.journal) = (Witness::fresh(loss), (loss, 0));
        }
        if let Some(answer) = self.witness.answer(&message, &self.living, now) {
            return answer;
        }
        self.living.heard(&message, now);
        let reply = self.witness.handle(message);
        self.wrote();
        reply
    }

    fn wrote(&mut self) {
        self.journal.1 += 1;
        if !mutant::on(Mutant::WitnessVolatile) {
            self.durable = (self.witness.clone(), self.journal);
        }
    }

    /// A broker that is told of a journal which is shorter than it was has the agent set itself apart.
    pub(crate) fn set_apart_if_short(&mut self, loss: u64) -> bool {
        let short = self.damaged.is_none() && self.is_short();
        if short {
            self.damaged = Some(loss);
        }
        short
    }

    /// A broker hears how long the journal is: whether it is shorter than it was.
    fn is_short(&mut self) -> bool {
        let (same, known) = (self.known.0 == self.journal.0, self.known.1);
        if (same || mutant::on(Mutant::LengthAcrossJournals)) && known > self.journal.1 {
            return true;
        }
        self.known = self.journal;
        false
    }

    /// Whether a broker may act now; the promise is durable.
    fn admit(&mut self, epoch: &Epoch) -> Result<(), Epoch> {
        if mutant::on(Mutant::NoFence) {
            return Ok(());
        }
        if self.witness.promised() == Some(epoch) {
            return Ok(());
        }
        self.witness.admit(epoch)?;
        self.wrote();
        Ok(())
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
        self.checks.truth.started(&running, id, self.now);
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
