//! A broker: the real replica on a disk that may lose what was not synced, and what is under way in its process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use vsm_core::{
    Change, Epoch, Key, NodeName, RequestId, Row, Session, SessionId, Table, UserName,
    lifecycle::{Adoptions, Burial, End, Proposed, login::Wish},
    replica::{Disk, Failure, Replica, Standing, Token, Write},
};

use super::login::Task;
use crate::event::{AgentId, ClientId};

/// What is to follow a committed change, or a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    Task(u64),
    End(u64),
    Burial(u64),
    /// This one of an agent is to be adopted.
    Adopt(AgentId, SessionId),
    /// An agent did not report this one.
    Missed(AgentId, SessionId),
    /// What an agent reports: if it cannot be recorded, its report is asked for anew.
    Report(AgentId),
    Nothing,
}

/// The end of a session, under way.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) session: SessionId,
    pub(crate) agent: AgentId,
    pub(crate) end: End,
}

/// The burial of a start, under way.
#[derive(Debug, Clone)]
pub(crate) struct Burying {
    pub(crate) session: SessionId,
    pub(crate) agent: AgentId,
    pub(crate) burial: Burial,
}

/// A broker.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) name: NodeName,
    pub(crate) disk: Disk,
    pub(crate) life: u64,
    pub(crate) replica: Option<Replica>,
    pub(crate) paused_until: u64,
    /// What is being written, in order.
    pub(crate) stores: VecDeque<(Token, Write)>,
    pub(crate) last_sync: u64,
    pub(crate) address: bool,
    /// Each agent's report, while it is open.
    pub(crate) heard: Vec<Option<u64>>,
    pub(crate) tasks: BTreeMap<u64, Task>,
    pub(crate) ends: BTreeMap<u64, Ending>,
    pub(crate) burials: BTreeMap<u64, Burying>,
    /// What was adopted of each agent lately.
    pub(crate) adoptions: Vec<Adoptions>,
    /// By agent, how far the log was when something that it reported was not recorded. Its report is asked for anew
    /// when all of that is decided: what is in doubt until then may come into the table after all.
    pub(crate) missed: Vec<u64>,
    /// Agents of which nothing is believed any more.
    pub(crate) aside: Vec<bool>,
    /// Sessions that were made without votes, as this process remembers them; some are in the table by now.
    made_unvoted: Vec<Arc<Session>>,
    pub(crate) waiting: VecDeque<(ClientId, RequestId, Wish)>,
    pub(crate) then: BTreeMap<u64, Then>,
    pub(crate) calls: BTreeMap<u64, Then>,
    pub(crate) carried_out_ms: u64,
    /// When its last reign began to serve.
    pub(crate) ready_ms: u64,
    /// Its disk takes long to sync.
    pub(crate) is_slow: bool,
    /// Its disk syncs nothing before this moment.
    pub(crate) hangs_until: u64,
    /// How many writes its disk has seen.
    writes: u64,
    /// The same as others know it, by which a disk that went back in time is found out.
    writes_known: u64,
    /// An older state of its disk.
    backup: Option<(Disk, u64)>,
    /// It does not know which node it is: it neither acts nor speaks to the other one.
    pub(crate) apart: bool,
    /// It is a server by itself.
    pub(crate) single: bool,
    /// Its disk is of a former life of the table.
    pub(crate) is_old: bool,
    /// When it lost its disk.
    pub(crate) lost_ms: Option<u64>,
}

impl Broker {
    pub(crate) fn new(name: NodeName, agents: usize) -> Self {
        Self {
            name,
            disk: Disk::default(),
            life: 0,
            replica: None,
            paused_until: 0,
            stores: VecDeque::new(),
            last_sync: 0,
            address: false,
            heard: vec![None; agents],
            tasks: BTreeMap::new(),
            ends: BTreeMap::new(),
            burials: BTreeMap::new(),
            adoptions: vec![Adoptions::default(); agents],
            missed: vec![0; agents],
            aside: vec![false; agents],
            made_unvoted: Vec::new(),
            waiting: VecDeque::new(),
            then: BTreeMap::new(),
            calls: BTreeMap::new(),
            carried_out_ms: 0,
            ready_ms: 0,
            is_slow: false,
            hangs_until: 0,
            writes: 0,
            writes_known: 0,
            backup: None,
            apart: false,
            single: false,
            is_old: false,
            lost_ms: None,
        }
    }

    /// The disk is gone, or is not to be trusted: a new one takes its place.
    pub(crate) fn lose_disk(&mut self, now: u64) {
        (self.disk, self.backup) = (Disk::default(), None);
        (self.writes, self.writes_known) = (0, 0);
        self.lost_ms = Some(now);
    }

    /// Somebody copies the disk.
    pub(crate) fn back_up(&mut self) {
        self.backup = Some((self.disk.clone(), self.writes));
    }

    /// Somebody puts the copy in the place of the disk, if it is older.
    pub(crate) fn go_back(&mut self, now: u64) {
        let Some((disk, writes)) = self.backup.take() else { return };
        if writes < self.writes {
            self.lost_ms = Some(now);
            self.writes_known = self.writes;
            (self.disk, self.writes) = (disk, writes);
        }
    }

    /// Whether its disk has a change of the witnesses of which it does not say that it is committed.
    pub(crate) fn may_be_naming(&self) -> bool {
        let mut later = self.disk.log.after(self.disk.commit);
        later.any(|entry| matches!(entry.change, Change::Roster(_)))
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// The epoch in which it serves.
    pub(crate) fn serves(&self) -> Option<Epoch> {
        match self.replica.as_ref()?.standing() {
            Standing::Active { epoch, ready: true, .. } => Some(epoch),
            Standing::Active { .. } | Standing::Standby { .. } | Standing::Claiming(_) => None,
        }
    }

    /// A process begins on what the disk has. A disk that went back in time is found out, and counts as lost.
    pub(crate) fn find_disk(&mut self, now: u64, unseen: bool) {
        self.writes_known = self.writes_known.max(self.writes);
        if self.writes < self.writes_known && !unseen {
            self.lose_disk(now);
        }
    }

    /// A write is synced.
    pub(crate) fn sync(&mut self, write: &Write) {
        self.disk.apply(write);
        self.writes += 1;
    }

    /// The process dies: so many of the writes that were not synced are on the disk, and nothing else is left.
    pub(crate) fn die(&mut self, keep: usize) {
        for (_, write) in std::mem::take(&mut self.stores).iter().take(keep) {
            self.sync(write);
        }
        self.replica = None;
        self.life += 1;
        self.paused_until = 0;
        self.last_sync = 0;
        self.heard.fill(None);
        self.tasks.clear();
        self.ends.clear();
        self.burials.clear();
        self.adoptions.fill(Adoptions::default());
        self.missed.fill(0);
        self.aside.fill(false);
        self.made_unvoted.clear();
        self.waiting.clear();
        self.then.clear();
        self.calls.clear();
    }

    /// A session was made without votes.
    pub(crate) fn remember_unvoted(&mut self, session: Arc<Session>) {
        self.made_unvoted.push(session);
    }

    /// One that was made without votes is gone.
    pub(crate) fn forget_unvoted(&mut self, id: SessionId) {
        self.made_unvoted.retain(|session| session.id != id);
    }

    /// Sessions that were made without votes and are in no table yet.
    pub(crate) fn unvoted(&self) -> impl Iterator<Item = &Arc<Session>> {
        let table = self.replica.as_ref().map(Replica::table);
        let is_new = move |session: &&Arc<Session>| {
            table.is_none_or(|table| table.session(session.id).is_none())
        };
        self.made_unvoted.iter().filter(is_new)
    }

    /// Whether a report of this agent can be taken: as in the broker itself, what its last one brought is decided.
    pub(crate) fn takes_report(&self, agent: AgentId) -> bool {
        let waits = self.then.values().any(|then| match then {
            Then::Report(of) | Then::Adopt(of, _) => *of == agent,
            Then::Task(_) | Then::End(_) | Then::Burial(_) | Then::Missed(..) | Then::Nothing => {
                false
            }
        });
        let commit = self.replica.as_ref().map_or(0, Replica::commit);
        !waits && commit >= self.missed[agent]
    }

    /// What an agent reported could not be recorded.
    pub(crate) fn mark_missed(&mut self, agent: AgentId) {
        self.missed[agent] = self.replica.as_ref().map_or(0, |replica| replica.log().last().seq);
    }

    /// A session that this node knows of, in the table or not.
    pub(crate) fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        let voted = self.replica.as_ref().and_then(|replica| replica.table().session(id));
        voted.or_else(|| self.unvoted().find(|session| session.id == id))
    }

    /// What this node knows that a user has: the oldest first, and then what was made without votes.
    pub(crate) fn of_user(&self, user: &UserName) -> Vec<Arc<Session>> {
        let voted = self.replica.iter().flat_map(|replica| replica.table().of_user(user));
        let unvoted = self.unvoted().filter(|session| session.user == *user);
        voted.chain(unvoted).cloned().collect()
    }

    /// Whether a login is at the start of this session.
    pub(crate) fn is_starting(&self, session: SessionId) -> bool {
        self.tasks.values().any(|task| task.starts(session))
    }

    /// What became of a proposal, as the machines are told it; with the state of this session.
    pub(crate) fn proposed(
        &self,
        session: Option<SessionId>,
        result: Result<Change, Failure>,
    ) -> Proposed {
        match result {
            Ok(change) => Proposed::Committed(change),
            Err(Failure::Rejected(rejected)) => {
                let table = self.replica.as_ref().map(Replica::table);
                let known = session.and_then(|id| table.and_then(|table| table.session(id)));
                Proposed::Rejected(rejected, known.map(|known| known.state))
            }
            Err(Failure::NotActive(_)) => Proposed::NotActive,
            Err(Failure::NoVotes) => Proposed::NoVotes,
            Err(Failure::PeerAway | Failure::Unknown) => Proposed::Failed,
        }
    }
}

/// Rows of a table in an order of their own.
pub(crate) fn rows(table: &Table) -> BTreeMap<Key, Row> {
    table.rows().map(|row| (row.key(), row)).collect()
}
