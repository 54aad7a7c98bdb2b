//! One broker's replica: what it knows, the events that it takes, and the order in which what it does leaves it.
//!
//! Persist, then promise: whatever depends on a write waits in [`Replica::held`] until the shell says that the write
//! is durable. The active node alone sends a change while it is still being written here, as it answers only when
//! both are durable.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
};

use super::{
    active::Active,
    claim::Claim,
    disk::{Disk, Mark, Write},
    event::{Action, Config, Event, Failure, Standing, Token},
    log::Log,
    message::{Hello, Holds, PeerMsg, WitnessMsg},
    mutant::{self, Mutant},
    off::Off,
    probe::Probe,
};
use crate::{AgentName, Change, Epoch, Key, Lsn, Table};

pub(super) enum Role {
    Standby { leader: Option<Epoch>, heard_ms: u64 },
    Probing(Box<Probe>),
    Claiming(Box<Claim>),
    Active(Box<Active>),
}

/// One broker's replica.
pub struct Replica {
    pub(super) config: Config,
    pub(super) now: u64,
    pub(super) role: Role,
    pub(super) want: bool,
    /// It handed over to the peer, for whom the address is still on its way: it wants nothing until it has no address,
    /// or no peer.
    pub(super) relieved: bool,
    pub(super) link: bool,
    pub(super) off: Off,
    pub(super) promised: Epoch,
    pub(super) joined: bool,
    pub(super) log: Log,
    /// Committed, and what readers see.
    pub(super) table: Table,
    pub(super) commit: u64,
    pub(super) mark: Option<Mark>,
    /// The peer has no table: it forgot what it voted for.
    pub(super) peer_blank: bool,
    /// Highest epoch heard of anywhere.
    pub(super) seen: Epoch,
    /// No claim before this moment.
    pub(super) hold_off_ms: u64,
    pub(super) attempts: u32,
    /// An administrator asked for it: the next claim is made also where it disturbs a reign.
    pub(super) forced: bool,
    /// The table may have rows that are not committed: what one voter held is not shown before a reign has committed
    /// it.
    pub(super) unsure: bool,
    /// The peer's table is of another life.
    pub(super) peer_foreign: bool,
    /// The witnesses know of another life of the table than ours, and this is it.
    pub(super) foreign: Option<Epoch>,
    random: u64,
    out: Vec<Action>,
    write: Write,
    next: Token,
    stored: Token,
    held: VecDeque<(Token, Held)>,
    pub(super) touched: Touched,
    /// The highest number that the active node is known to have.
    pub(super) heard_last: u64,
}

/// What changed in the committed table since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// All of it was replaced.
    pub whole: bool,
    /// These keys, beside that.
    pub keys: BTreeSet<Key>,
}

/// What waits for a write.
pub(super) enum Held {
    Send(PeerMsg),
    PeerOff,
    Claim(Epoch),
    OwnVote(u64),
    Clear(Lsn),
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:?} last {} commit {}",
            self.config.node,
            self.standing(),
            self.log.last(),
            self.commit
        )
    }
}

impl Replica {
    /// Starts from what is durable.
    #[must_use]
    pub fn new(config: Config, disk: Disk, now_ms: u64) -> Self {
        let (random, heartbeat_ms, alone) = (config.seed | 1, config.heartbeat_ms, config.alone);
        // Long enough to hear of a peer that is active; one without a table hears what agents promised to an earlier
        // life of it, and rises above that.
        let pause_ms = if disk.joined {
            heartbeat_ms * 2
        } else {
            config.ack_timeout_ms.max(heartbeat_ms * 2)
        };
        // Where a window may be open, some rows may be those of one witness.
        let unsure = disk.mark.is_some();
        Self {
            config,
            now: now_ms,
            role: Role::Standby { leader: None, heard_ms: now_ms },
            want: false,
            relieved: false,
            link: false,
            off: Off::new(disk.peer_off, now_ms),
            seen: disk.promised.clone(),
            promised: disk.promised,
            joined: disk.joined,
            log: disk.log,
            table: disk.table,
            commit: disk.commit,
            mark: disk.mark.filter(|_| !mutant::on(Mutant::MarkForgotten)),
            peer_blank: false,
            hold_off_ms: if alone { now_ms } else { now_ms + pause_ms },
            attempts: 0,
            forced: false,
            unsure: !alone && unsure,
            peer_foreign: false,
            foreign: None,
            random,
            out: Vec::new(),
            write: Write::default(),
            next: Token::default(),
            stored: Token::default(),
            held: VecDeque::new(),
            touched: Touched::default(),
            heard_last: 0,
        }
    }

    /// Starts again from what is durable in the reign that was under way, after a write failed. Only for a node that
    /// is alone: nothing of that write has left it.
    #[must_use]
    pub fn resume(config: Config, disk: Disk, now_ms: u64) -> Self {
        let mut replica = Self::new(config, disk, now_ms);
        if replica.config.alone && replica.promised.node == replica.config.node {
            replica.want = true;
            // All that is durable has the one vote that there is.
            replica.commit_to(replica.log.last().seq);
            replica.resume_reign();
            replica.flush();
            replica.out.clear();
        }
        replica
    }

    /// Takes an event at a moment; what is to be done, in order.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        self.now = now_ms.max(self.now);
        match event {
            Event::Tick => {}
            Event::Want(want) => self.wanted(want),
            Event::TakeOver => self.take_over(),
            Event::Link(up) => self.on_link(up),
            Event::Peer(message) => self.on_peer(message),
            Event::PeerBusy => self.on_busy(),
            Event::Witness(agent, reply) => self.on_witness(&agent, reply),
            Event::WitnessUp(agent) => self.witness_up(&agent),
            Event::Propose(proposals) => self.propose(proposals),
            Event::Stored(token) => self.on_stored(token),
            Event::Fenced(epoch) => self.on_higher(&epoch),
            Event::PeerOff(at_ms) => self.on_peer_off(at_ms),
        }
        self.on_time();
        self.flush();
        // What needed no write, or one that is durable already.
        self.release();
        self.flush();
        #[cfg(any(debug_assertions, feature = "mutants"))]
        self.check();
        mem::take(&mut self.out)
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
        !self.unsure || mutant::on(Mutant::RowsPublished)
    }

    /// What changed in the table since this was last called; to be shown only while [`Replica::is_sure`].
    pub fn take_touched(&mut self) -> Touched {
        mem::take(&mut self.touched)
    }

    /// Whether something waits for a write to be durable.
    #[must_use]
    pub fn waits_for_write(&self) -> bool {
        !self.held.is_empty()
    }

    /// The committed table.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The last committed number.
    #[must_use]
    pub const fn commit(&self) -> u64 {
        self.commit
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Says nothing new again and again: it is asked by state.
    fn wanted(&mut self, want: bool) {
        self.relieved &= want;
        self.want = want && !self.relieved;
    }

    pub(super) fn on_link(&mut self, up: bool) {
        self.link = up;
        if self.relieved && !up {
            (self.relieved, self.want) = (false, true);
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
            self.hold_off_ms = self.now + self.config.heartbeat_ms;
        }
        if up {
            self.feed_peer();
        }
    }

    pub(super) fn hello(&self) -> Hello {
        let active = match &self.role {
            Role::Active(active) => Some(active.epoch.clone()),
            Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => None,
        };
        Hello { holds: self.holds(), promised: self.promised.clone(), active }
    }

    pub(super) fn holds(&self) -> Holds {
        Holds {
            joined: self.joined,
            paired: !self.rosters().is_empty(),
            last: self.log.last().clone(),
            history: self.log.history().clone(),
            reach: self.commit,
        }
    }

    fn on_peer(&mut self, message: PeerMsg) {
        if !self.link {
            // Late, of a connection that is gone: it would look as if the peer were there.
            return;
        }
        self.off.heard_ms = self.now;
        match message {
            PeerMsg::Hello(hello) => {
                self.see(&hello.promised);
                if hello.active.is_some() {
                    self.heard_last = hello.holds.last.seq;
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
        if let (Role::Standby { leader, heard_ms }, Some(epoch)) = (&mut self.role, active)
            && epoch >= self.promised
        {
            (*leader, *heard_ms) = (Some(epoch), self.now);
        }
    }

    /// Somebody has promised to, or reigns by, a higher epoch than ours.
    pub(super) fn on_higher(&mut self, epoch: &Epoch) {
        self.see(epoch);
        let own = match &self.role {
            Role::Active(active) => active.epoch.clone(),
            Role::Claiming(claim) => claim.epoch.clone(),
            Role::Standby { .. } | Role::Probing(_) => return,
        };
        if *epoch > own {
            self.step_down(None);
            if self.config.alone {
                // Nobody else can be active: it is a promise to this node's own former life.
                self.begin_claim();
            } else {
                self.back_off();
            }
        }
    }

    pub(super) fn see(&mut self, epoch: &Epoch) {
        if *epoch > self.seen {
            self.seen = epoch.clone();
        }
    }

    /// Stops being active or claiming. What was proposed and not committed is unknown: the next active node may have
    /// it.
    pub(super) fn step_down(&mut self, leader: Option<Epoch>) {
        let role = mem::replace(&mut self.role, Role::Standby { leader, heard_ms: self.now });
        if let Role::Active(active) = role {
            for (_, id) in active.pending {
                self.out.push(Action::Answer { id, result: Err(Failure::Unknown) });
            }
        }
        self.held.retain(|(_, held)| !matches!(held, Held::OwnVote(_) | Held::Clear(_)));
    }

    /// Waits for longer after each attempt, and not as long as the other one.
    pub(super) fn back_off(&mut self) {
        self.attempts = (self.attempts + 1).min(6);
        let step = self.config.ack_timeout_ms << self.attempts.saturating_sub(1);
        self.hold_off_ms = self.now + step / 2 + self.draw() % (step / 2).max(1);
    }

    /// A number at random.
    pub(super) const fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn on_time(&mut self) {
        match &self.role {
            Role::Standby { .. } => self.consider_claim(),
            Role::Probing(_) => self.probe_time(),
            Role::Claiming(_) => self.claim_time(),
            Role::Active(_) => self.active_time(),
        }
        self.trim();
    }

    pub(super) fn send(&mut self, message: PeerMsg) {
        if self.link && self.off.cleared > self.stored {
            self.held.push_back((self.off.cleared, Held::Send(message)));
        } else if self.link {
            self.out.push(Action::ToPeer(message));
        }
    }

    pub(super) fn ask_witness(&mut self, agent: AgentName, message: WitnessMsg) {
        self.out.push(Action::ToWitness(agent, message));
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<Change, Failure>) {
        self.out.push(Action::Answer { id, result });
    }

    /// Part of the next write.
    pub(super) fn writing(&mut self) -> &mut Write {
        &mut self.write
    }

    /// Does this once the write that is being put together, and all before it, are durable.
    pub(super) fn after_write(&mut self, held: Held) {
        self.held.push_back((self.write_token(), held));
    }

    /// The write that is being put together, or the last one.
    pub(super) fn write_token(&self) -> Token {
        if self.write.is_empty() { self.next } else { Token(self.next.0 + 1) }
    }

    /// Hands the write over. A write that depends on the order with one before it must be flushed apart.
    pub(super) fn flush(&mut self) {
        if !self.write.is_empty() {
            self.next.0 += 1;
            let write = mem::take(&mut self.write);
            self.out.push(Action::Store(self.next, write));
        }
    }

    fn on_stored(&mut self, token: Token) {
        self.stored = token.max(self.stored);
        self.release();
    }

    fn release(&mut self) {
        while self.held.front().is_some_and(|(token, _)| *token <= self.stored) {
            match self.held.pop_front() {
                Some((_, Held::Send(message))) => self.send(message),
                Some((_, Held::PeerOff)) => self.peer_off_is_durable(),
                Some((_, Held::Claim(epoch))) => self.ask_for_votes(&epoch),
                Some((_, Held::OwnVote(seq))) => self.own_vote(seq),
                Some((_, Held::Clear(at))) => self.clear_witnesses(&at),
                None => {}
            }
        }
    }
}
