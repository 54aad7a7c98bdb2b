//! The log of changes as one node holds it: contiguous numbers after a base, each entry with the epoch that made it,
//! and the history of epochs, by which two nodes find their last common point.

use std::collections::VecDeque;

use super::mutant::{self, Mutant};
use crate::{Change, Epoch, Lsn};

/// Epochs that are remembered. Older ones make a resync a snapshot, nothing worse.
const HISTORY_MAX: usize = 128;

/// One change at its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position.
    pub lsn: Lsn,
    /// What changed.
    pub change: Change,
}

/// Epochs with the number of their first entry, oldest first.
pub type History = Vec<(Epoch, u64)>;

/// Entries after a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    base: Lsn,
    entries: VecDeque<Entry>,
    history: History,
}

impl Default for Log {
    fn default() -> Self {
        Self::at(Lsn::zero(), Vec::new())
    }
}

impl Log {
    /// An empty log after `base`.
    #[must_use]
    pub fn at(base: Lsn, history: History) -> Self {
        let mut log = Self { base, entries: VecDeque::new(), history };
        log.bound_history();
        log
    }

    /// The position before the first entry that is held.
    #[must_use]
    pub const fn base(&self) -> &Lsn {
        &self.base
    }

    /// The position of the last entry.
    #[must_use]
    pub fn last(&self) -> &Lsn {
        self.entries.back().map_or(&self.base, |entry| &entry.lsn)
    }

    /// Epochs so far.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The position with this number, if the log reaches there.
    #[must_use]
    pub fn lsn(&self, seq: u64) -> Option<&Lsn> {
        if seq == self.base.seq {
            return Some(&self.base);
        }
        self.entry(seq).map(|entry| &entry.lsn)
    }

    /// The entry with this number.
    #[must_use]
    pub fn entry(&self, seq: u64) -> Option<&Entry> {
        let index = seq.checked_sub(self.base.seq)?.checked_sub(1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Whether this very position is part of the log.
    #[must_use]
    pub fn contains(&self, lsn: &Lsn) -> bool {
        self.lsn(lsn.seq) == Some(lsn)
    }

    /// Entries after `seq`, in order.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(seq.saturating_sub(self.base.seq)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip)
    }

    /// Adds entries that follow the last.
    pub fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            debug_assert_eq!(entry.lsn.seq, self.last().seq + 1, "a gap in the log");
            if self.history.last().is_none_or(|(epoch, _)| *epoch != entry.lsn.epoch) {
                self.history.push((entry.lsn.epoch.clone(), entry.lsn.seq));
                self.bound_history();
            }
            self.entries.push_back(entry);
        }
    }

    /// Drops everything after `seq`.
    pub fn truncate(&mut self, seq: u64) {
        while self.last().seq > seq && !self.entries.is_empty() {
            self.entries.pop_back();
        }
        while self.history.last().is_some_and(|(_, first)| *first > self.last().seq) {
            self.history.pop();
        }
    }

    /// Forgets the oldest entries up to `seq`.
    pub fn trim(&mut self, seq: u64) {
        while self.base.seq < seq
            && let Some(entry) = self.entries.pop_front()
        {
            self.base = entry.lsn;
        }
    }

    /// How many entries are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last position that is common to this log and one with this history and last position. One epoch is one
    /// writer, so two logs that share an epoch agree up to where the shorter leaves it.
    #[must_use]
    pub fn common(&self, history: &History, last: &Lsn) -> Lsn {
        let end = |history: &History, last: u64, index: usize| {
            history.get(index + 1).map_or(last, |(_, first)| first - 1)
        };
        // What came right after the first is forgotten in a full history: how far that reign went is not known.
        let forgot = |history: &History| usize::from(history.len() >= HISTORY_MAX);
        let from = forgot(&self.history).max(forgot(history));
        for (index, (epoch, first)) in self.history.iter().enumerate().skip(from).rev() {
            let Some(theirs) =
                history.iter().position(|(other, from)| other == epoch && from == first)
            else {
                continue;
            };
            let seq =
                end(&self.history, self.last().seq, index).min(end(history, last.seq, theirs));
            return Lsn { epoch: epoch.clone(), seq };
        }
        Lsn::zero()
    }

    /// The reign that wrote the first entry of all: the *life* of the table. None where that is not known.
    #[must_use]
    pub fn life(&self) -> Option<&Epoch> {
        life(&self.history)
    }

    /// Whether a log with this history is of another life of the table: it began when both brokers had lost theirs, and
    /// this one was put back from a copy, or the other way round. Nothing in it says anything of this life.
    #[must_use]
    pub fn is_foreign(&self, history: &History) -> bool {
        self.life().zip(life(history)).is_some_and(|(own, other)| own != other)
            && !mutant::on(Mutant::ForeignLogTaken)
    }

    /// The first is kept, as it tells the life.
    fn bound_history(&mut self) {
        let surplus = self.history.len().saturating_sub(HISTORY_MAX);
        if surplus > 0 {
            self.history.drain(1..=surplus);
        }
    }
}

/// The life that a history tells.
pub(super) fn life(history: &History) -> Option<&Epoch> {
    history.first().filter(|(_, first)| *first == 1).map(|(epoch, _)| epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(counter: u64) -> Epoch {
        Epoch { nonce: 0, counter, node: "a".parse().unwrap() }
    }

    fn log(epochs: &[u64]) -> Log {
        let mut log = Log::default();
        for (counter, seq) in epochs.iter().zip(1..) {
            log.append([Entry {
                lsn: Lsn { epoch: epoch(*counter), seq },
                change: Change::Began { pair: true },
            }]);
        }
        log
    }

    #[test]
    fn the_common_point_is_where_the_shared_epoch_is_left() {
        let ours = log(&[1, 1, 2, 2, 5]);
        let check = |theirs: &[u64]| {
            let theirs = log(theirs);
            let common = ours.common(theirs.history(), theirs.last());
            assert_eq!(common, theirs.common(ours.history(), ours.last()), "both sides agree");
            common.seq
        };
        assert_eq!(check(&[1, 1, 2, 2, 5]), 5);
        assert_eq!(check(&[1, 1, 2]), 3);
        assert_eq!(check(&[1, 1, 2, 2, 3, 3]), 4);
        assert_eq!(check(&[1, 1, 1, 1]), 2);
        assert_eq!(check(&[4]), 0);
        assert_eq!(check(&[]), 0);
    }

    #[test]
    fn truncating_and_trimming_keep_positions_and_history() {
        let mut ours = log(&[1, 1, 2, 2, 5]);
        ours.truncate(3);
        assert_eq!((ours.last().seq, ours.history().len()), (3, 2));
        ours.trim(2);
        assert_eq!((ours.base().seq, ours.len()), (2, 1));
        assert!(ours.lsn(1).is_none() && ours.contains(&Lsn { epoch: epoch(1), seq: 2 }));
        assert_eq!(ours.after(2).count(), 1);
        assert_eq!(ours.history().len(), 2, "history reaches further back than the entries");
    }
}
