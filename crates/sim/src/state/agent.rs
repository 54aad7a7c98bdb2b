//! An agent: its sessions, what it remembers of starts, its promise. What it keeps is durable before it answers.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{
    AgentName, Epoch, Session, SessionId,
    replica::{
        Living, Witness, WitnessMsg, WitnessReply,
        mutant::{self, Mutant},
    },
};

use crate::event::BrokerId;

/// What an agent holds to about a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
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
    pub(crate) outcomes: BTreeMap<SessionId, Outcome>,
    pub(crate) displays: u32,
    /// The report to each broker: its number while it is open.
    pub(crate) reports: [Option<(u64, u64)>; 2],
    /// When the last message of each report arrives.
    pub(crate) last: [u64; 2],
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
    pub(crate) fn admit(&mut self, epoch: &Epoch) -> Result<(), Epoch> {
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
