//! What a node holds of the table: the log, what is committed of it, and the promise. Each step changes it in memory
//! and in the write that is being put together.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    disk::{Disk, Install, Mark},
    log::{Entry, History, Log},
    message::{Holds, Image, Supply, Window},
    mutant::{self, Mutant},
    outbox::Outbox,
};
use crate::{AgentName, Change, Epoch, Key, Lsn, Table};

/// What changed in the committed table since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// All of it was replaced.
    pub whole: bool,
    /// These keys, beside that.
    pub keys: BTreeSet<Key>,
}

/// What one node holds.
pub(super) struct Ledger {
    /// There is a table: false on a new disk.
    pub(super) joined: bool,
    /// The highest epoch that was promised or claimed.
    pub(super) promised: Epoch,
    pub(super) log: Log,
    /// Committed, and what readers see.
    pub(super) table: Table,
    /// The number up to which it is.
    pub(super) commit: u64,
    /// Where the witnesses' window begins, while there may be one.
    pub(super) mark: Option<Mark>,
    /// The table may have rows that are not committed: what one voter held is not shown before a reign has committed
    /// it.
    pub(super) unsure: bool,
    /// The witnesses know of another life of the table than ours, and this is it.
    pub(super) foreign: Option<Epoch>,
    pub(super) touched: Touched,
}

impl Ledger {
    /// What is durable.
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            joined: disk.joined,
            promised: disk.promised,
            log: disk.log,
            table: disk.table,
            commit: disk.commit,
            mark: disk.mark.filter(|_| !mutant::on(Mutant::MarkForgotten)),
            unsure: disk.unsure && !mutant::on(Mutant::SureAfterRestart),
            foreign: None,
            touched: Touched::default(),
        }
    }

    pub(super) fn promise(&mut self, out: &mut Outbox, epoch: Epoch) {
        self.promised = epoch.clone();
        out.writing().promised = Some(epoch);
    }

    /// Puts entries into the log.
    pub(super) fn append(&mut self, out: &mut Outbox, entries: Vec<Entry>) {
        self.joined = true;
        self.log.append(entries.iter().cloned());
        out.writing().append.extend(entries);
    }

    /// Cuts the log. In a write of its own, as the order matters.
    pub(super) fn truncate(&mut self, out: &mut Outbox, seq: u64) {
        if self.log.last().seq > seq {
            out.flush();
            self.log.truncate(seq);
            out.writing().truncate = Some(seq);
        }
    }

    /// Entries up to `seq` are committed: they enter the table.
    pub(super) fn commit_to(&mut self, out: &mut Outbox, seq: u64) {
        self.commit_in_order(out, seq, false);
    }

    /// The same; `reversed` is a deliberate bug.
    pub(super) fn commit_in_order(&mut self, out: &mut Outbox, seq: u64, reversed: bool) {
        let seq = seq.min(self.log.last().seq);
        let first = self.commit;
        while self.commit < seq {
            let next = if reversed { seq + first - self.commit } else { self.commit + 1 };
            let Some(entry) = self.log.entry(next) else { return };
            self.table.apply(&entry.change);
            self.touched.keys.extend(entry.change.key());
            self.commit += 1;
            out.writing().commit = Some(self.commit);
        }
    }

    /// What this node holds, as it tells others.
    pub(super) fn holds(&self) -> Holds {
        Holds {
            joined: self.joined,
            paired: self.is_paired(),
            last: self.log.last().clone(),
            history: self.log.history().clone(),
            reach: self.commit,
        }
    }

    /// The position up to which it is committed.
    pub(super) fn committed(&self) -> Lsn {
        self.log.lsn(self.commit).unwrap_or_else(|| self.log.base()).clone()
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
    fn image(&self) -> Image {
        let at = self.committed();
        let began = |(_, first): &&(Epoch, u64)| *first <= at.seq;
        let history: History = self.log.history().iter().filter(began).cloned().collect();
        let entries = self.log.after(at.seq).cloned().collect();
        Image { rows: self.table.rows().collect(), history, entries, at }
    }

    /// Takes what another voter had that this node lacks.
    pub(super) fn learn(&mut self, out: &mut Outbox, supply: Supply) {
        match supply {
            Supply::Nothing => {}
            Supply::Entries { prev, entries } => {
                self.truncate(out, prev.seq);
                self.append(out, entries);
            }
            Supply::Image(image) => self.install(out, image),
        }
    }

    /// Takes another node's table for ours. Its sender may have learnt some of it from one voter: no reader sees it
    /// before a reign has committed it.
    pub(super) fn install(&mut self, out: &mut Outbox, image: Image) {
        out.flush();
        let rows = image.rows.into();
        let install = Install { at: image.at, history: image.history, rows, whole: true };
        self.table = Table::default();
        self.touched.whole = true;
        self.foreign = None;
        self.put_rows(out, install);
        // What changed before `at` is not known here, so a window can begin no earlier.
        self.set_mark(out, None);
        self.append(out, image.entries);
        self.set_unsure(out, true);
    }

    /// Takes what the witnesses kept, if it joins on to what is here: all that is in the table must be in what the
    /// window follows, and all that the window follows must be here. Whether it did.
    pub(super) fn learn_window(&mut self, out: &mut Outbox, window: &Window) -> bool {
        let common = self.log.common(&window.history, &window.last).seq;
        let joins = common >= self.commit.max(window.base.seq);
        if !joins && !mutant::on(Mutant::JoinUnchecked) {
            return false;
        }
        self.commit_to(out, window.base.seq);
        out.flush();
        // Its rows are the state after its last entry of everything that changed after its base.
        let (at, history) = (window.last.clone(), window.history.clone());
        let rows = window.rows.values().cloned().collect();
        self.put_rows(out, Install { at, history, rows, whole: false });
        // One voter had them.
        self.set_unsure(out, true);
        let keys = window.rows.keys().cloned().collect();
        self.set_mark(out, Some(Mark { base: window.base.clone(), keys }));
        true
    }

    /// Sets rows at a position, at which the log starts over.
    fn put_rows(&mut self, out: &mut Outbox, install: Install) {
        for row in install.rows.iter() {
            self.table.set_row(row);
            self.touched.keys.insert(row.key());
        }
        self.log = Log::at(install.at.clone(), install.history.clone());
        self.commit = install.at.seq;
        self.joined = true;
        out.writing().install = Some(install);
    }

    /// Who the witnesses are: as committed, and as each later entry would have it. A change of the witnesses is
    /// committed by both brokers only, and until a broker knows of that it needs most of the old and of the new ones.
    pub(super) fn rosters(&self) -> Vec<Arc<[AgentName]>> {
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
            | Change::Identity { .. }
            | Change::WebKeys { .. }
            | Change::Began { .. } => None,
        });
        self.table.roster().into_iter().chain(later).cloned().collect()
    }

    /// Whether entries up to `seq` that are not committed yet name the witnesses anew.
    pub(super) fn names_witnesses_until(&self, seq: u64) -> bool {
        let mut later = self.log.after(self.commit).take_while(|entry| entry.lsn.seq <= seq);
        later.any(|entry| matches!(entry.change, Change::Roster(_)))
    }

    /// Whether the pair was formed: its witnesses are named.
    pub(super) fn is_paired(&self) -> bool {
        !self.rosters().is_empty()
    }

    /// Whether there are witnesses at all.
    pub(super) fn has_witnesses(&self) -> bool {
        self.rosters().iter().any(|roster| !roster.is_empty())
    }

    /// The witnesses of all rosters that count.
    pub(super) fn all_witnesses(&self) -> BTreeSet<AgentName> {
        self.rosters().iter().flat_map(|roster| roster.iter().cloned()).collect()
    }

    /// Whether most of the witnesses are in `has`.
    pub(super) fn most(&self, has: impl Fn(&AgentName) -> bool) -> bool {
        let rosters = self.rosters();
        !rosters.is_empty()
            && rosters
                .iter()
                .all(|roster| roster.iter().filter(|agent| has(agent)).count() > roster.len() / 2)
    }

    pub(super) fn set_mark(&mut self, out: &mut Outbox, mark: Option<Mark>) {
        if self.mark != mark {
            self.mark.clone_from(&mark);
            out.writing().mark = Some(mark);
        }
    }

    /// Durable, so that a restart neither shows what no reign has committed, nor hides what one has.
    pub(super) fn set_unsure(&mut self, out: &mut Outbox, unsure: bool) {
        if self.unsure != unsure {
            self.unsure = unsure;
            out.writing().unsure = Some(unsure);
        }
    }

    /// What changed after `seq`.
    pub(super) fn keys_after(&self, seq: u64) -> BTreeSet<Key> {
        self.log.after(seq).filter_map(|entry| entry.change.key()).collect()
    }

    /// Bounds the log to about `keep` entries. What a window would need of the others goes into the mark.
    pub(super) fn trim(&mut self, out: &mut Outbox, keep: usize) {
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
            self.set_mark(out, Some(mark));
        }
        self.log.trim(seq);
        out.writing().trim = Some(seq);
    }
}

/// Whether a log that ends at `a` is to be preferred to one that ends at `b`: by epoch first, as a longer log may be
/// that of a reign which was replaced.
pub(super) fn goes_further(a: &Lsn, b: &Lsn) -> bool {
    if mutant::on(Mutant::LongestLog) { a.seq > b.seq } else { a > b }
}

/// Whether an epoch is above another. Equal counters of two nodes are two epochs.
pub(super) fn outranks(a: &Epoch, b: &Epoch) -> bool {
    if mutant::on(Mutant::NoTieBreak) { a.counter >= b.counter && a != b } else { a > b }
}
