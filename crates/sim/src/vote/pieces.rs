//! Real values under small numbers. A state of the search is a few bytes: a log, a table or a witness is a number here,
//! and what the real code makes of it is asked for once and then remembered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use uuid::Uuid;
use vsm_core::{
    AgentName, Change, Draft, Eligible, Epoch, Lsn, NodeName, Proposal, RequestId, Rule, Session,
    SessionId, StartParams, State, Strategy, Table, UnixMillis,
    replica::{Window, Witness, WitnessMsg, WitnessReply},
};

use super::quick::QuickMap;

/// A log: 0 is the empty one.
pub(super) type LogId = u16;
/// What a witness holds: 0 is nothing.
pub(super) type WitnessId = u16;
/// An epoch: twice its counter, and 1 for the second broker. 0 is below all.
pub(super) type EpochId = u8;
/// A session, by its place in [`super::Bound::sessions`].
pub(super) type Sid = u8;

/// A log, by its epochs, its end and the table that it makes. In which order one reign wrote what commutes makes no
/// difference to anybody: one epoch is one writer.
#[derive(Debug)]
struct Log {
    history: Vec<(EpochId, u64)>,
    last: Lsn,
    table: Table,
    /// Sessions that it ever reserved, one bit each: an id is used once.
    used: u8,
}

/// What a witness is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    Claim(EpochId),
    Accept(EpochId, LogId),
    Admit(EpochId),
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// With the log that it keeps.
    Promised(LogId),
    Done,
    Refused,
}

/// What the brokers of the search propose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Reserve(Sid),
    Running(Sid),
    GiveUp(Sid),
    TombstoneDone(Sid),
    Gone(Sid),
    Adopt(Sid),
}

impl Wish {
    const fn uses(self) -> u8 {
        match self {
            Self::Reserve(sid) => 1 << sid,
            Self::Running(_)
            | Self::GiveUp(_)
            | Self::TombstoneDone(_)
            | Self::Gone(_)
            | Self::Adopt(_) => 0,
        }
    }
}

/// Everything that was made so far.
#[derive(Debug)]
pub(super) struct Pieces {
    sessions: Vec<Session>,
    epochs: Vec<Epoch>,
    /// There were more than numbers for them: the search is not worth anything.
    pub(super) full: bool,
    /// The place of each in the real order.
    ranks: Vec<usize>,
    logs: Vec<Log>,
    known_logs: HashMap<String, LogId>,
    rebased: QuickMap<(LogId, LogId), LogId>,
    grown: QuickMap<(LogId, EpochId, Option<Wish>), Option<LogId>>,
    /// With the epoch that each promised and the log that it keeps.
    witnesses: Vec<(Witness, EpochId, LogId)>,
    known: HashMap<String, WitnessId>,
    asked: QuickMap<(WitnessId, Ask), (WitnessId, Say)>,
}

#[expect(clippy::unwrap_used, reason = "the names are made here and valid")]
fn agent_name(agent: u8) -> AgentName {
    format!("agent{agent}").parse().unwrap()
}

#[expect(clippy::unwrap_used, reason = "the names are made here and valid")]
fn session(sid: usize, (user, agent): (u8, u8)) -> Session {
    let id = Uuid::from_u128(sid as u128 + 1);
    Session {
        id: SessionId::new(id),
        user: format!("user{user}").parse().unwrap(),
        agent: agent_name(agent),
        state: State::Starting,
        request: RequestId::new(id),
        params: StartParams::default(),
        created: UnixMillis(0),
    }
}

impl Pieces {
    #[expect(clippy::unwrap_used, reason = "the names are made here and valid")]
    pub(super) fn new(sessions: &[(u8, u8)], claims: u8) -> Self {
        let nodes: [NodeName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let epoch = |id: u8| Epoch {
            nonce: 0,
            counter: u64::from(id / 2),
            node: nodes[usize::from(id % 2)].clone(),
        };
        let mut epochs = vec![Epoch::zero(), Epoch::zero()];
        epochs.extend((2..=claims * 2 + 1).map(epoch));
        let rank = |epoch: &Epoch| epochs.iter().filter(|other| *other < epoch).count();
        let ranks = epochs.iter().map(rank).collect();
        let empty = Witness::default();
        Self {
            sessions: sessions.iter().enumerate().map(|(n, at)| session(n, *at)).collect(),
            ranks,
            full: false,
            epochs,
            logs: vec![Log {
                history: Vec::new(),
                last: Lsn::zero(),
                table: Table::default(),
                used: 0,
            }],
            known_logs: HashMap::new(),
            rebased: QuickMap::default(),
            grown: QuickMap::default(),
            known: HashMap::from([(format!("{empty:?}"), 0)]),
            witnesses: vec![(empty, 0, 0)],
            asked: QuickMap::default(),
        }
    }

    /// Whether an epoch is above another, by the real order.
    pub(super) fn above(&self, a: EpochId, b: EpochId) -> bool {
        self.ranks[usize::from(a)] > self.ranks[usize::from(b)]
    }

    pub(super) fn higher(&self, a: EpochId, b: EpochId) -> EpochId {
        if self.above(a, b) { a } else { b }
    }

    /// The next epoch of a broker; none beyond the bound.
    pub(super) fn next_epoch(&self, above: EpochId, broker: usize) -> Option<EpochId> {
        let node = self.epochs[2 + broker].node.clone();
        let next = self.epochs[usize::from(above)].next(node, 0);
        self.epochs.iter().position(|epoch| *epoch == next).and_then(|id| id.try_into().ok())
    }

    /// Whether one log goes further than another, by the real order of positions.
    pub(super) fn goes_further(&self, a: LogId, b: LogId) -> bool {
        let (one, other) = (&self.logs[usize::from(a)].last, &self.logs[usize::from(b)].last);
        a != b && one > other
    }

    /// Whether a log begins with all of another one: it has the other's last position.
    pub(super) fn contains(&self, log: LogId, part: LogId) -> bool {
        let (log, part) = (&self.logs[usize::from(log)], &self.logs[usize::from(part)]);
        let Some((epoch, _)) = part.history.last().filter(|_| part.last.seq > 0) else {
            return true;
        };
        let reign = log.history.iter().position(|(other, _)| other == epoch);
        reign.is_some_and(|reign| {
            let next = log.history.get(reign + 1).map(|(_, first)| *first);
            part.last.seq < next.unwrap_or(log.last.seq + 1)
        })
    }

    /// A log with all that was committed as its first entry. One that lacks some of it belongs to a reign that is over,
    /// of which only the table matters, and whether all of it was committed.
    pub(super) fn rebase(&mut self, log: LogId, committed: LogId) -> LogId {
        if committed == 0 || log == 0 {
            return log;
        }
        if let Some(known) = self.rebased.get(&(log, committed)) {
            return *known;
        }
        let (of, at) = (&self.logs[usize::from(log)], &self.logs[usize::from(committed)]);
        let from = if self.contains(log, committed) { at.last.seq } else { of.last.seq };
        let keep = of.history.iter().rposition(|(_, first)| *first <= from).unwrap_or(0);
        // Number 0 is for a part of what was committed.
        let least = u64::from(log == committed || !self.contains(committed, log));
        let shift = |first: u64| (first + least).saturating_sub(from).max(least);
        let short = Log {
            history: of.history[keep..].iter().map(|(by, first)| (*by, shift(*first))).collect(),
            last: Lsn { epoch: of.last.epoch.clone(), seq: shift(of.last.seq) },
            table: of.table.clone(),
            used: of.used,
        };
        let id = self.intern_log(short).unwrap_or(log);
        self.rebased.insert((log, committed), id);
        id
    }

    /// The epoch of a log's last entry.
    pub(super) fn last_epoch(&self, log: LogId) -> EpochId {
        self.logs[usize::from(log)].history.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// The state of a session in the table that a log makes.
    pub(super) fn state(&self, log: LogId, sid: Sid) -> Option<State> {
        let id = self.sessions[usize::from(sid)].id;
        self.logs[usize::from(log)].table.session(id).map(|session| session.state)
    }

    /// Whether a log ever reserved a session.
    pub(super) fn is_used(&self, log: LogId, sid: Sid) -> bool {
        self.logs[usize::from(log)].used & 1 << sid != 0
    }

    pub(super) fn is_buried(&self, log: LogId, sid: Sid) -> bool {
        let id = self.sessions[usize::from(sid)].id;
        self.logs[usize::from(log)].table.tombstone(id).is_some()
    }

    pub(super) fn begin(&mut self, log: LogId, epoch: EpochId) -> LogId {
        self.grow(log, epoch, None).unwrap_or(log)
    }

    /// The log with one more entry, if the table's rules allow it.
    pub(super) fn propose(&mut self, log: LogId, epoch: EpochId, wish: Wish) -> Option<LogId> {
        self.grow(log, epoch, Some(wish))
    }

    fn grow(&mut self, log: LogId, epoch: EpochId, wish: Option<Wish>) -> Option<LogId> {
        if let Some(known) = self.grown.get(&(log, epoch, wish)) {
            return *known;
        }
        let before = &self.logs[usize::from(log)];
        let change = match wish {
            None => Some(Change::Began { pair: true }),
            Some(wish) => before.table.check(self.proposal(wish)).ok(),
        };
        let (mut table, seq) = (before.table.clone(), before.last.seq + 1);
        let used = before.used | wish.map_or(0, Wish::uses);
        let mut history = before.history.clone();
        let grown = change.and_then(|change| {
            table.apply(&change);
            if history.last().is_none_or(|(by, _)| *by != epoch) {
                history.push((epoch, seq));
            }
            let last = Lsn { epoch: self.epochs[usize::from(epoch)].clone(), seq };
            self.intern_log(Log { history, last, table, used })
        });
        self.grown.insert((log, epoch, wish), grown);
        grown
    }

    fn intern_log(&mut self, log: Log) -> Option<LogId> {
        let rows: Vec<_> = log.table.rows().collect();
        let name = format!("{:?} {} {} {rows:?}", log.history, log.last, log.used);
        if let Some(known) = self.known_logs.get(&name) {
            return Some(*known);
        }
        let Ok(id) = LogId::try_from(self.logs.len()) else {
            self.full = true;
            return None;
        };
        self.logs.push(log);
        self.known_logs.insert(name, id);
        Some(id)
    }

    fn proposal(&self, wish: Wish) -> Proposal {
        let of = |sid: Sid| &self.sessions[usize::from(sid)];
        let now = UnixMillis(0);
        match wish {
            Wish::Reserve(sid) => {
                let Session { id, user, agent, request, params, .. } = of(sid).clone();
                let eligible =
                    Arc::new([Eligible { agent, weight: 100, max_users: 0, measured: None }]);
                let draft = Draft { id, user, request, params };
                let rule = Rule { strategy: Strategy::Users, now, penalty_ms: 0, tie: 0 };
                let uncounted = Vec::new();
                Proposal::Reserve { draft, cap: 1, uncounted, eligible, rule }
            }
            Wish::Running(sid) => Proposal::Running { id: of(sid).id, display: 1 },
            Wish::GiveUp(sid) => Proposal::GiveUp { id: of(sid).id, now },
            Wish::TombstoneDone(sid) => Proposal::TombstoneDone { id: of(sid).id },
            Wish::Gone(sid) => Proposal::Gone { id: of(sid).id },
            Wish::Adopt(sid) => {
                Proposal::Adopt(Session { state: State::Running { display: 1 }, ..of(sid).clone() })
            }
        }
    }

    /// Asks a witness, which is the real one.
    pub(super) fn ask(&mut self, witness: WitnessId, ask: Ask) -> (WitnessId, Say) {
        if let Some(known) = self.asked.get(&(witness, ask)) {
            return *known;
        }
        let mut real = self.witnesses[usize::from(witness)].0.clone();
        let say = match ask {
            Ask::Admit(epoch) => match real.admit(&self.epochs[usize::from(epoch)]) {
                Ok(()) => Say::Done,
                Err(_) => Say::Refused,
            },
            Ask::Claim(epoch) => {
                let epoch = self.epochs[usize::from(epoch)].clone();
                self.said(&real.handle(WitnessMsg::Claim { epoch, life: None }))
            }
            Ask::Accept(epoch, log) => {
                let epoch = self.epochs[usize::from(epoch)].clone();
                let window = self.window(log);
                self.said(&real.handle(WitnessMsg::Accept {
                    epoch,
                    prev: None,
                    window,
                    hold_ms: 0,
                }))
            }
        };
        let after = (self.intern(real), say);
        self.asked.insert((witness, ask), after);
        after
    }

    fn said(&self, reply: &WitnessReply) -> Say {
        match reply {
            WitnessReply::Promised { window, .. } => {
                Say::Promised(window.as_ref().map_or(0, |window| self.log_of(window)))
            }
            WitnessReply::Accepted { .. } | WitnessReply::Cleared { .. } => Say::Done,
            WitnessReply::Gap { .. }
            | WitnessReply::Refused { .. }
            | WitnessReply::Mute { .. }
            | WitnessReply::Foreign { .. }
            | WitnessReply::Free { .. }
            | WitnessReply::Held { .. } => Say::Refused,
        }
    }

    /// All that a log has, from its beginning. A witness never looks at the base, so that can say which log it is.
    fn window(&self, log: LogId) -> Window {
        let Log { last, .. } = &self.logs[usize::from(log)];
        let base = Lsn { epoch: Epoch::zero(), seq: u64::from(log) };
        Window { base, last: last.clone(), rows: BTreeMap::new(), history: Vec::new() }
    }

    fn log_of(&self, window: &Window) -> LogId {
        LogId::try_from(window.base.seq).unwrap_or(0)
    }

    fn intern(&mut self, witness: Witness) -> WitnessId {
        let name = format!("{witness:?}");
        if let Some(known) = self.known.get(&name) {
            return *known;
        }
        let promised = self.epochs.iter().position(|epoch| Some(epoch) == witness.promised());
        let promised = promised.and_then(|id| id.try_into().ok()).unwrap_or(0);
        let kept = witness.window().map_or(0, |window| self.log_of(window));
        let Ok(id) = WitnessId::try_from(self.witnesses.len()) else {
            self.full = true;
            return 0;
        };
        self.witnesses.push((witness, promised, kept));
        self.known.insert(name, id);
        id
    }

    /// The epoch that a witness has promised.
    pub(super) fn promised(&self, witness: WitnessId) -> EpochId {
        self.witnesses[usize::from(witness)].1
    }

    /// One that has made a promise and keeps a log, or 0 for nothing.
    pub(super) fn witness(&mut self, promised: EpochId, kept: LogId) -> WitnessId {
        let mut witness = 0;
        if kept != 0 {
            witness = self.ask(witness, Ask::Accept(self.last_epoch(kept), kept)).0;
        }
        if promised != 0 {
            witness = self.ask(witness, Ask::Admit(promised)).0;
        }
        witness
    }

    /// The log that a witness keeps.
    pub(super) fn kept(&self, witness: WitnessId) -> LogId {
        self.witnesses[usize::from(witness)].2
    }

    /// What it would be if it had kept the rows and forgotten every promise since.
    pub(super) fn without_promise(&mut self, witness: WitnessId) -> WitnessId {
        self.witness(0, self.kept(witness))
    }
}
