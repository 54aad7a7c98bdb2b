//! The store's twin in memory, for tests and simulation: what SQLite keeps on disk, kept in a value that can be cloned
//! as "the disk" and opened again.

use vsm_core::{Epoch, LineageId, Table};

use crate::store::{Entry, Loaded, Store, StoreError};

/// A store without a disk.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    loaded: Loaded,
    log: Vec<Entry>,
    keep: usize,
}

impl MemoryStore {
    /// An empty one that keeps the last `keep` entries of its log.
    #[must_use]
    pub fn new(lineage: LineageId, keep: usize) -> Self {
        let loaded = Loaded { lineage, epochs: Vec::new(), last_seq: 0, table: Table::default() };
        Self { loaded, log: Vec::new(), keep }
    }

    /// The entries that are kept, oldest first.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.log
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(self.loaded.clone())
    }

    fn begin_epoch(&mut self, epoch: &Epoch, first_seq: u64) -> Result<(), StoreError> {
        self.loaded.epochs.push((epoch.clone(), first_seq));
        Ok(())
    }

    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError> {
        self.loaded.lineage = lineage;
        Ok(())
    }

    fn append(&mut self, entries: &[Entry], after: &Table) -> Result<(), StoreError> {
        self.log.extend_from_slice(entries);
        let surplus = self.log.len().saturating_sub(self.keep);
        self.log.drain(..surplus);
        self.loaded.table = after.clone();
        if let Some(last) = entries.last() {
            self.loaded.last_seq = last.lsn.seq;
        }
        Ok(())
    }
}
