//! What a broker's replica keeps durable, and the writes that change it. A store applies a write as a whole; the
//! in-memory twin here is what the simulation crashes and tears.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    log::{Entry, History, Log},
    mutant::{self, Mutant},
};
use crate::{Change, Epoch, Key, Lsn, NodeName, Row, Table};

/// What is durable.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Whether there is a table: false on a new disk.
    pub joined: bool,
    /// The highest epoch that was promised or claimed.
    pub promised: Epoch,
    /// The log.
    pub log: Log,
    /// Known to be committed, and in `table`; behind what is known in memory.
    pub commit: u64,
    /// The table after entry `commit`.
    pub table: Table,
    /// Where the witnesses' window begins, while there may be one.
    pub mark: Option<Mark>,
    /// The table may have rows that are not committed: one voter had them, and no reign has committed them since.
    pub unsure: bool,
    /// The peer was switched off while this node had everything, and has not been heard since.
    pub peer_off: bool,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            joined: false,
            promised: Epoch::zero(),
            log: Log::default(),
            commit: 0,
            table: Table::default(),
            mark: None,
            unsure: false,
            peer_off: false,
        }
    }
}

/// Where the witnesses' window begins. Without it a broker that restarts would not know how much of what it holds the
/// other one lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// A position that both brokers have.
    pub base: Lsn,
    /// What changed between there and where the log begins; the log knows the rest.
    pub keys: BTreeSet<Key>,
}

/// One change of what is durable: applied whole, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// Rows of another node that replace or complete the table; the log starts over at their position.
    pub install: Option<Install>,
    /// The log is cut after this number.
    pub truncate: Option<u64>,
    /// Entries that follow the last.
    pub append: Vec<Entry>,
    /// Entries up to this number enter the table.
    pub commit: Option<u64>,
    /// The promise.
    pub promised: Option<Epoch>,
    /// Where the witnesses' window begins, or that there is none any more.
    pub mark: Option<Option<Mark>>,
    /// The log is forgotten up to this number.
    pub trim: Option<u64>,
    /// Rows of one voter came in, or a reign has committed what is here.
    pub unsure: Option<bool>,
    /// The peer was switched off, or is heard again.
    pub peer_off: Option<bool>,
}

/// Rows at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// The position.
    pub at: Lsn,
    /// Epochs up to it.
    pub history: History,
    /// The rows.
    pub rows: Arc<[Row]>,
    /// Whether they are the whole table, or what changed of it.
    pub whole: bool,
}

impl Write {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Disk {
    /// Whether nobody would miss it: a server kept it that was never one of a pair with this peer, so no vote of it
    /// counts anywhere, and it has no sessions, no starts that were given up and no agents that are drained. What is
    /// not known to be committed counts as there.
    #[must_use]
    pub fn is_expendable(&self, peer: &NodeName) -> bool {
        let mut table = self.table.clone();
        self.log.after(self.commit).for_each(|entry| table.apply(&entry.change));
        let of_pair = |entry: &Entry| entry.change == Change::Began { pair: true };
        // A pair's first reign is there before its witnesses are named: this node's in its log, the peer's by its
        // epoch. A vote for the peer is in the promise before anything of that reign is in the log.
        let alone = mutant::on(Mutant::PairForServer)
            || !self.log.after(self.log.base().seq).any(of_pair)
                && self.promised.node != *peer
                && self.log.history().iter().all(|(epoch, _)| epoch.node != *peer);
        let empty = table.sessions().len() == 0
            && table.tombstones().next().is_none()
            && table.drains().next().is_none();
        self.joined && alone && table.roster().is_none() && empty
    }

    /// Whether it is a pair's, or was: then a vote may be somewhere that this node knows nothing of, and it is never
    /// reigned over by one vote.
    #[must_use]
    pub fn is_paired(&self) -> bool {
        let named = |entry: &Entry| matches!(entry.change, Change::Roster(_));
        self.table.roster().is_some() || self.log.after(self.log.base().seq).any(named)
    }

    /// What makes a pair's table a single server's, kept by `node`: nothing of the pair is left in it, what is in the
    /// log and not known to be committed is kept, and a new life of the table begins. Agents learn that life from its
    /// first reign on, so that the other node's copy gets no votes when it is started again, and is replaced when the
    /// two become a pair.
    #[must_use]
    pub fn leave_pair(&self, node: NodeName, nonce: u32) -> Write {
        let mut table = self.table.clone();
        self.log.after(self.commit).for_each(|entry| table.apply(&entry.change));
        let Lsn { epoch, seq } = self.log.last();
        let epoch = self.promised.clone().max(epoch.clone()).next(node, nonce);
        let rows = table.rows().filter(|row| !matches!(row, Row::Roster(_))).collect();
        let install = Install {
            at: Lsn { epoch: epoch.clone(), seq: *seq },
            history: vec![(epoch.clone(), 1)],
            rows,
            whole: true,
        };
        Write {
            install: Some(install),
            promised: Some(epoch),
            mark: Some(None),
            unsure: Some(false),
            peer_off: Some(false),
            ..Write::default()
        }
    }

    /// Applies a write.
    pub fn apply(&mut self, write: &Write) {
        if let Some(install) = &write.install {
            if install.whole {
                self.table = Table::default();
            }
            for row in install.rows.iter() {
                self.table.set_row(row);
            }
            self.log = Log::at(install.at.clone(), install.history.clone());
            self.commit = install.at.seq;
            self.joined = true;
        }
        if let Some(seq) = write.truncate {
            self.log.truncate(seq);
        }
        if !write.append.is_empty() {
            self.log.append(write.append.iter().cloned());
            self.joined = true;
        }
        if let Some(commit) = write.commit {
            for seq in self.commit + 1..=commit {
                if let Some(entry) = self.log.entry(seq) {
                    self.table.apply(&entry.change);
                    self.commit = seq;
                }
            }
        }
        if let Some(promised) = &write.promised {
            self.promised = promised.clone();
        }
        if let Some(mark) = &write.mark {
            self.mark.clone_from(mark);
        }
        if let Some(seq) = write.trim {
            self.log.trim(seq.min(self.commit));
        }
        self.unsure = write.unsure.unwrap_or(self.unsure);
        self.peer_off = write.peer_off.unwrap_or(self.peer_off);
    }
}
