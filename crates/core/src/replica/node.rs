//! One broker's replica: its parts, the events that it takes, and the order in which what it does leaves it.
//!
//! Each part keeps what belongs together, and none knows the others but for the [`Ledger`], which puts its writes into
//! the [`Outbox`]. What needs several parts is a step of the node: `claim`, `active`, `solo`, `follow`, `greet`,
//! `probe` and `off` have those.

use std::mem;

use super::{
    candidacy::Candidacy,
    disk::Disk,
    event::{Action, Config, Event, Failure, Standing, Token},
    ledger::{Ledger, Touched},
    log::Log,
    message::{Hello, Holds, PeerMsg, WitnessMsg},
    mutant::{self, Mutant},
    outbox::{Held, Outbox},
    peer::PeerLink,
    reign::Active,
    role::Role,
    tick::Tick,
};
use crate::{AgentName, Change, Epoch, Table};

/// One broker's replica.
pub struct Replica {
    pub(super) config: Config,
    pub(super) now: Tick,
    pub(super) role: Role,
    pub(super) candidacy: Candidacy,
    pub(super) peer: PeerLink,
    pub(super) ledger: Ledger,
    pub(super) outbox: Outbox,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ledger { log, commit, .. } = &self.ledger;
        let last = log.last();
        write!(f, "{} {:?} last {last} commit {commit}", self.config.node, self.standing())
    }
}

impl Replica {
    /// Starts from what is durable.
    #[must_use]
    pub fn new(config: Config, disk: Disk, now_ms: u64) -> Self {
        let now = Tick(now_ms);
        // Long enough to hear of a peer that is active; one without a table hears what agents promised to an earlier
        // life of it, and rises above that.
        let two_beats = config.heartbeat_ms * 2;
        let pause_ms = match (config.alone, disk.joined) {
            (true, _) => 0,
            (false, true) => two_beats,
            (false, false) => config.ack_timeout_ms.max(two_beats),
        };
        Self {
            now,
            role: Role::standby(None, now),
            candidacy: Candidacy::new(disk.promised.clone(), config.seed, now + pause_ms),
            peer: PeerLink::new(disk.peer_off, now),
            ledger: Ledger::new(disk),
            outbox: Outbox::default(),
            config,
        }
    }

    /// Starts again from what is durable in the reign that was under way, after a write failed. Only for a node that
    /// is alone: nothing of that write has left it.
    #[must_use]
    pub fn resume(config: Config, disk: Disk, now_ms: u64) -> Self {
        let mut replica = Self::new(config, disk, now_ms);
        if replica.config.alone && replica.ledger.promised.node == replica.config.node {
            replica.candidacy.want = true;
            // All that is durable has the one vote that there is.
            let last = replica.ledger.log.last().seq;
            replica.ledger.commit_to(&mut replica.outbox, last);
            replica.resume_reign();
            replica.outbox.flush();
            replica.outbox.take();
        }
        replica
    }

    /// Takes an event at a moment; what is to be done, in order.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        self.now = self.now.max(Tick(now_ms));
        match event {
            Event::Tick => {}
            Event::Want(want) => self.candidacy.wanted(want),
            Event::TakeOver => self.take_over(),
            Event::Link(up) => self.on_link(up),
            Event::Peer(message) => self.on_peer(message),
            Event::PeerBusy => self.on_busy(),
            Event::Witness(agent, reply) => self.on_witness(&agent, reply),
            Event::WitnessUp(agent) => self.witness_up(&agent),
            Event::Propose(proposals) => self.propose(proposals),
            Event::Stored(token) => self.on_stored(token),
            Event::Fenced(epoch) => self.on_higher(&epoch),
            Event::PeerOff(at_ms) => self.on_peer_off(Tick(at_ms)),
        }
        self.on_time();
        self.outbox.flush();
        // What needed no write, or one that is durable already.
        self.release();
        self.outbox.flush();
        #[cfg(any(debug_assertions, feature = "mutants"))]
        self.check();
        self.outbox.take()
    }

    /// What it is at the moment.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.role {
            Role::Standby { leader, .. } => Standing::Standby { leader: leader.clone() },
            Role::Probing(_) => Standing::Standby { leader: None },
            Role::Claiming(claim) => Standing::Claiming(claim.epoch.clone()),
            Role::Active(active) => Standing::Active {
                epoch: active.epoch.clone(),
                ready: self.is_ready(),
                votes: self.votes_now(),
                synced: active.is_synced(),
            },
        }
    }

    /// Whether all of the table is committed: else readers go on seeing what they saw before.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        !self.ledger.unsure || mutant::on(Mutant::RowsPublished)
    }

    /// What changed in the table since this was last called; to be shown only while [`Replica::is_sure`].
    pub fn take_touched(&mut self) -> Touched {
        mem::take(&mut self.ledger.touched)
    }

    /// Whether something waits for a write to be durable.
    #[must_use]
    pub fn waits_for_write(&self) -> bool {
        self.outbox.waits()
    }

    /// The committed table.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.ledger.table
    }

    /// The last committed number.
    #[must_use]
    pub const fn commit(&self) -> u64 {
        self.ledger.commit
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.ledger.log
    }

    pub(super) fn active(&mut self) -> Option<&mut Active> {
        self.role.active_mut()
    }

    pub(super) fn on_link(&mut self, up: bool) {
        self.peer.is_up = up;
        if !up {
            self.candidacy.take_back();
        }
        if up {
            self.peer_is_heard();
            let hello = self.hello();
            self.send(PeerMsg::Hello(hello));
        }
        self.peer_link();
        if up && matches!(self.role, Role::Probing(_)) {
            // It is there and is asked itself.
            self.step_down(None);
            self.candidacy.not_before = self.now + self.config.heartbeat_ms;
        }
        if up {
            self.feed_peer();
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            holds: self.ledger.holds(),
            promised: self.ledger.promised.clone(),
            active: self.role.active().map(|active| active.epoch.clone()),
        }
    }

    fn on_peer(&mut self, message: PeerMsg) {
        if !self.peer.is_up {
            // Late, of a connection that is gone: it would look as if the peer were there.
            return;
        }
        self.peer.heard = self.now;
        match message {
            PeerMsg::Hello(hello) => {
                self.candidacy.see(&hello.promised);
                if hello.active.is_some() {
                    self.peer.leader_last = hello.holds.last.seq;
                }
                self.heard_of(hello.active);
                self.meet(&hello.holds);
                self.feed_peer();
            }
            PeerMsg::Claim { epoch, holds } => self.on_claim(epoch, &holds),
            PeerMsg::Promise { epoch, holds, supply } => self.on_promise(&epoch, holds, supply),
            PeerMsg::Wish { planned } => self.on_wish(planned),
            PeerMsg::Yield { epoch } => self.on_yield(&epoch),
            PeerMsg::Append { epoch, prev, entries, commit, round } => {
                self.on_append(epoch, &prev, entries, commit, round);
            }
            PeerMsg::Snapshot { epoch, image } => self.on_snapshot(epoch, image),
            PeerMsg::Ack { epoch, last, round } => self.on_ack(&epoch, last, round),
            PeerMsg::Behind { epoch, holds } => self.on_behind(&epoch, &holds),
            PeerMsg::Stale { promised } => self.on_higher(&promised),
        }
    }

    /// The peer says that it is active: it is preferred while it is.
    fn heard_of(&mut self, active: Option<Epoch>) {
        if let (Role::Standby { leader, heard }, Some(epoch)) = (&mut self.role, active)
            && epoch >= self.ledger.promised
        {
            (*leader, *heard) = (Some(epoch), self.now);
        }
    }

    /// What the peer holds: whether it can have forgotten what it voted for.
    pub(super) fn look_at_peer(&mut self, holds: &Holds) {
        let Ledger { joined, log, .. } = &self.ledger;
        let is_foreign = *joined && holds.joined && log.is_foreign(&holds.history);
        self.peer.look_at(holds, is_foreign);
    }

    /// Somebody has promised to, or reigns by, a higher epoch than ours.
    pub(super) fn on_higher(&mut self, epoch: &Epoch) {
        self.candidacy.see(epoch);
        let own = match &self.role {
            Role::Active(active) => &active.epoch,
            Role::Claiming(claim) => &claim.epoch,
            Role::Standby { .. } | Role::Probing(_) => return,
        };
        if epoch > own {
            self.step_down(None);
            if self.config.alone {
                // Nobody else can be active: it is a promise to this node's own former life.
                self.begin_claim();
            } else {
                self.back_off();
            }
        }
    }

    /// Stops being active or claiming. What was proposed and not committed is unknown: the next active node may have
    /// it.
    pub(super) fn step_down(&mut self, leader: Option<Epoch>) {
        let role = mem::replace(&mut self.role, Role::standby(leader, self.now));
        if let Role::Active(active) = role {
            for (_, id) in active.pending {
                self.answer(id, Err(Failure::Unknown));
            }
        }
        self.outbox.forget_reign();
    }

    pub(super) fn back_off(&mut self) {
        self.candidacy.back_off(self.now, self.config.ack_timeout_ms);
    }

    fn on_time(&mut self) {
        match &self.role {
            Role::Standby { .. } => self.consider_claim(),
            Role::Probing(_) => self.probe_time(),
            Role::Claiming(_) => self.claim_time(),
            Role::Active(_) => self.active_time(),
        }
        self.ledger.trim(&mut self.outbox, self.config.limits.log_keep);
    }

    pub(super) fn send(&mut self, message: PeerMsg) {
        if !self.peer.is_up {
            return;
        }
        let cleared = self.peer.off.cleared;
        if self.outbox.is_durable(cleared) {
            self.outbox.push(Action::ToPeer(message));
        } else {
            self.outbox.keep_until(cleared, Held::Send(message));
        }
    }

    pub(super) fn ask_witness(&mut self, agent: AgentName, message: WitnessMsg) {
        self.outbox.push(Action::ToWitness(agent, message));
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<Change, Failure>) {
        self.outbox.push(Action::Answer { id, result });
    }

    fn on_stored(&mut self, token: Token) {
        self.outbox.stored(token);
        self.release();
    }

    fn release(&mut self) {
        while let Some(held) = self.outbox.due() {
            match held {
                Held::Send(message) => self.send(message),
                Held::PeerOff => self.peer_off_is_durable(),
                Held::Claim(epoch) => self.ask_for_votes(&epoch),
                Held::OwnVote(seq) => self.own_vote(seq),
                Held::Clear(at) => self.clear_witnesses(&at),
            }
        }
    }

    /// What must hold at every moment.
    #[cfg(any(debug_assertions, feature = "mutants"))]
    fn check(&self) {
        let Ledger { log, commit, promised, .. } = &self.ledger;
        assert!(log.base().seq <= *commit, "{self:?}: forgot an entry that is not committed");
        assert!(*commit <= log.last().seq, "{self:?}: committed what it does not have");
        assert!(log.last().epoch <= *promised, "{self:?}: holds an entry above its promise");
        if let Some(active) = self.role.active() {
            assert!(active.epoch == *promised, "{self:?}: active below its promise");
        }
    }
}
