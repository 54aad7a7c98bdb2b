//! What a replica holds, changed in memory and on disk by the same step.

use std::collections::BTreeSet;

use super::{
    disk::Mark,
    log::{Entry, Log},
    message::{Holds, Image, Supply},
    mutant::{self, Mutant},
    node::{Replica, Role},
};
use crate::{AgentName, Change, Key, Lsn, Table};

impl Replica {
    /// Puts entries into the log, here and on disk.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        self.joined = true;
        self.log.append(entries.iter().cloned());
        self.writing().append.extend(entries);
    }

    /// Cuts the log. In a write of its own, as the order matters.
    pub(super) fn truncate(&mut self, seq: u64) {
        if self.log.last().seq > seq {
            self.flush();
            self.log.truncate(seq);
            self.writing().truncate = Some(seq);
        }
    }

    /// Entries up to `seq` are committed: they enter the table.
    pub(super) fn commit_to(&mut self, seq: u64) {
        let seq = seq.min(self.log.last().seq);
        let first = self.commit;
        while self.commit < seq {
            let late = mutant::on(Mutant::OutOfOrder) && matches!(self.role, Role::Standby { .. });
            let next = if late { seq + first - self.commit } else { self.commit + 1 };
            let Some(entry) = self.log.entry(next) else { return };
            self.table.apply(&entry.change);
            self.touched.keys.extend(entry.change.key());
            self.commit += 1;
            self.writing().commit = Some(self.commit);
        }
    }

    /// What a claimant with these holdings lacks.
    pub(super) fn supply(&self, holds: &Holds) -> Supply {
        let last = self.log.last();
        if holds.joined && !goes_further(last, &holds.last) {
            return Supply::Nothing;
        }
        self.supply_to_follower(holds)
    }

    /// What a follower with these holdings lacks of this reign. What it has beyond counts for nothing: the reign does.
    pub(super) fn supply_to_follower(&self, holds: &Holds) -> Supply {
        let common = self.log.common(&holds.history, &holds.last);
        if holds.joined && common.seq >= holds.reach && self.log.contains(&common) {
            let entries = self.log.after(common.seq).cloned().collect();
            return Supply::Entries { prev: common, entries };
        }
        Supply::Image(self.image())
    }

    /// The committed table and what follows it.
    pub(super) fn image(&self) -> Image {
        let at = self.log.lsn(self.commit).cloned().unwrap_or_else(|| self.log.base().clone());
        Image {
            rows: self.table.rows().collect(),
            history: self
                .log
                .history()
                .iter()
                .filter(|(_, first)| *first <= at.seq)
                .cloned()
                .collect(),
            entries: self.log.after(at.seq).cloned().collect(),
            at,
        }
    }

    /// Takes another node's table for ours.
    pub(super) fn install(&mut self, image: Image) {
        self.flush();
        let rows = image.rows.into();
        let install = super::Install { at: image.at, history: image.history, rows, whole: true };
        self.table = Table::default();
        self.touched.whole = true;
        self.foreign = None;
        self.put_rows(install);
        // What changed before `at` is not known here, so a window can begin no earlier.
        self.set_mark(None);
        self.append(image.entries);
    }

    /// Sets rows at a position, at which the log starts over.
    pub(super) fn put_rows(&mut self, install: super::Install) {
        for row in install.rows.iter() {
            self.table.set_row(row);
            self.touched.keys.insert(row.key());
        }
        self.log = Log::at(install.at.clone(), install.history.clone());
        self.commit = install.at.seq;
        self.joined = true;
        self.writing().install = Some(install);
    }

    /// Who the witnesses are: as committed, and as each later entry would have it. A change of the witnesses is
    /// committed by both brokers only, and until a broker knows of that it needs most of the old and of the new ones.
    pub(super) fn rosters(&self) -> Vec<std::sync::Arc<[AgentName]>> {
        let later = self.log.after(self.commit).filter_map(|entry| match &entry.change {
            Change::Roster(agents) => Some(agents),
            Change::Reserved(_)
            | Change::Running { .. }
            | Change::Tombstone { .. }
            | Change::TombstoneDone { .. }
            | Change::Ending { .. }
            | Change::Gone { .. }
            | Change::Adopted(_)
            | Change::AgentFailed { .. }
            | Change::Drained { .. }
            | Change::Noted(_)
            | Change::Began { .. } => None,
        });
        self.table.roster().into_iter().chain(later).cloned().collect()
    }

    /// Whether there are witnesses at all.
    pub(super) fn has_witnesses(&self) -> bool {
        self.rosters().iter().any(|roster| !roster.is_empty())
    }

    /// Whether most of the witnesses are in `has`.
    pub(super) fn most(&self, has: impl Fn(&AgentName) -> bool) -> bool {
        let rosters = self.rosters();
        !rosters.is_empty()
            && rosters
                .iter()
                .all(|roster| roster.iter().filter(|agent| has(agent)).count() > roster.len() / 2)
    }

    pub(super) fn set_mark(&mut self, mark: Option<Mark>) {
        if self.mark != mark {
            self.mark.clone_from(&mark);
            self.writing().mark = Some(mark);
        }
    }

    /// What changed after `seq`.
    pub(super) fn keys_after(&self, seq: u64) -> BTreeSet<Key> {
        self.log.after(seq).filter_map(|entry| entry.change.key()).collect()
    }

    /// Bounds the log. What a window would need of it goes into the mark.
    pub(super) fn trim(&mut self) {
        let keep = self.config.limits.log_keep;
        // Seldom and then many.
        if self.log.len() <= keep + keep / 4 {
            return;
        }
        let seq = self.log.last().seq.saturating_sub(keep as u64).min(self.commit);
        if seq <= self.log.base().seq {
            return;
        }
        if let Some(mut mark) = self.mark.clone() {
            let gone = self.log.after(mark.base.seq).take_while(|entry| entry.lsn.seq <= seq);
            mark.keys.extend(gone.filter_map(|entry| entry.change.key()));
            self.set_mark(Some(mark));
        }
        self.log.trim(seq);
        self.writing().trim = Some(seq);
    }

    /// What must hold at every moment.
    #[cfg(any(debug_assertions, feature = "mutants"))]
    pub(super) fn check(&self) {
        assert!(
            self.log.base().seq <= self.commit,
            "{self:?}: forgot an entry that is not committed"
        );
        assert!(self.commit <= self.log.last().seq, "{self:?}: committed what it does not have");
        assert!(
            self.log.last().epoch <= self.promised,
            "{self:?}: holds an entry above its promise"
        );
        if let Role::Active(active) = &self.role {
            assert!(active.epoch == self.promised, "{self:?}: active below its promise");
        }
    }
}

/// Whether a log that ends at `a` is to be preferred to one that ends at `b`: by epoch first, as a longer log may be
/// that of a reign which was replaced.
pub(super) fn goes_further(a: &Lsn, b: &Lsn) -> bool {
    if mutant::on(Mutant::LongestLog) { a.seq > b.seq } else { a > b }
}
