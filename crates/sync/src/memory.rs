//! The store's twin in memory, for tests and simulation: what SQLite keeps on disk, kept in a value that can be cloned
//! as "the disk" and opened again.

use vsm_core::{
    LineageId, Row,
    replica::{Disk, Write},
};

use crate::store::{Loaded, Store, StoreError};

/// A store without a disk.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    loaded: Loaded,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new(lineage: LineageId) -> Self {
        Self { loaded: Loaded { lineage, disk: Disk::default() } }
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(self.loaded.clone())
    }

    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError> {
        self.loaded.lineage = lineage;
        Ok(())
    }

    /// The rows are what applying the writes gives, so they are not looked at.
    fn write(&mut self, writes: &[Write], _rows: &[Row]) -> Result<(), StoreError> {
        for write in writes {
            self.loaded.disk.apply(write);
        }
        Ok(())
    }
}
