//! The store's twin in memory, for tests and simulation: what SQLite keeps on disk, kept in a value that can be cloned
//! as "the disk" and opened again. It fails when it is told to, and it checks what SQLite takes on trust: that the rows
//! it is given are what the writes make of the table.

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use vsm_core::{
    Key, LineageId, Row,
    replica::{Disk, Write},
};

use crate::store::{Loaded, Store, StoreError};

/// What stands for the file in errors.
const PATH: &str = "/memory";

/// How a store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nothing can be written.
    Full,
    /// Nothing can be written, and nothing read.
    Broken,
}

#[derive(Debug, Default)]
struct Condition {
    failing: Option<Failing>,
    /// The next write fails, and no other.
    once: bool,
    failed: u64,
    wrong: Option<String>,
}

/// A hand on a store from outside, while its owner has it. Clones share it, as do clones of the store.
#[derive(Debug, Clone, Default)]
pub struct StoreSwitch(Arc<Mutex<Condition>>);

impl StoreSwitch {
    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.0.lock()
    }

    /// From now on it fails in this way; none = it does what it is asked.
    pub fn set(&self, failing: Option<Failing>) {
        self.condition().failing = failing;
    }

    /// The next write fails as on a full disk, those after it do not.
    pub fn fail_once(&self) {
        self.condition().once = true;
    }

    /// How many calls have failed so far because they were told to.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.condition().failed
    }

    /// The first write whose rows were not what it makes of the table.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        self.condition().wrong.clone()
    }

    fn call(&self, writes: bool) -> Result<(), StoreError> {
        let mut condition = self.condition();
        let once = writes && std::mem::take(&mut condition.once);
        let error = match condition.failing {
            Some(Failing::Broken) => StoreError::Io {
                path: PathBuf::from(PATH),
                source: io::Error::other("it is broken"),
            },
            Some(Failing::Full) if writes => StoreError::Full(PathBuf::from(PATH)),
            _ if once => StoreError::Full(PathBuf::from(PATH)),
            _ => return Ok(()),
        };
        condition.failed += 1;
        Err(error)
    }

    fn refuse(&self, wrong: String) -> StoreError {
        let why = wrong.clone();
        self.condition().wrong.get_or_insert(wrong);
        StoreError::Damaged { path: PathBuf::from(PATH), why }
    }
}

/// A store without a disk.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    loaded: Loaded,
    switch: StoreSwitch,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new(lineage: LineageId) -> Self {
        let loaded = Loaded { lineage, disk: Disk::default() };
        Self { loaded, switch: StoreSwitch::default() }
    }

    /// What makes it fail.
    #[must_use]
    pub fn switch(&self) -> StoreSwitch {
        self.switch.clone()
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.switch.call(false)?;
        Ok(self.loaded.clone())
    }

    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError> {
        self.switch.call(true)?;
        self.loaded.lineage = lineage;
        Ok(())
    }

    fn write(&mut self, writes: &[Write], rows: &[Row]) -> Result<(), StoreError> {
        self.switch.call(true)?;
        let mut disk = self.loaded.disk.clone();
        let mut changed = Changed::default();
        for write in writes {
            changed.apply(&mut disk, write);
        }
        changed.check(&disk, rows).map_err(|wrong| self.switch.refuse(wrong.to_string()))?;
        self.loaded.disk = disk;
        Ok(())
    }
}

/// A row that is not what the writes before it make of it.
#[derive(Debug, thiserror::Error)]
enum WrongRow {
    #[error("this row is not given, or not as it is: {0:?}")]
    Missing(Box<Row>),
    #[error("no write explains this row: {0:?}")]
    Unexplained(Box<Row>),
}

/// What writes do to the table.
#[derive(Default)]
struct Changed {
    keys: BTreeSet<Key>,
    /// The whole table was replaced.
    whole: bool,
}

impl Changed {
    fn apply(&mut self, disk: &mut Disk, write: &Write) {
        let Write { install, truncate, append, commit, promised, mark, trim, unsure, peer_off } =
            write.clone();
        if let Some(install) = &install {
            self.whole |= install.whole;
            self.keys.extend(install.rows.iter().map(Row::key));
        }
        disk.apply(&Write { install, truncate, append, ..Write::default() });
        // Before they are trimmed.
        let committed =
            disk.log.after(disk.commit).take_while(|entry| Some(entry.lsn.seq) <= commit);
        self.keys.extend(committed.filter_map(|entry| entry.change.key()));
        disk.apply(&Write { commit, promised, mark, trim, unsure, peer_off, ..Write::default() });
    }

    /// Each row that is committed or installed is given as it is now, and no other.
    fn check(&self, disk: &Disk, rows: &[Row]) -> Result<(), WrongRow> {
        let wanted: Vec<Row> = if self.whole {
            disk.table.rows().collect()
        } else {
            self.keys.iter().filter_map(|key| disk.table.row(key)).collect()
        };
        if let Some(missing) = wanted.iter().find(|row| !rows.contains(row)) {
            return Err(WrongRow::Missing(Box::new(missing.clone())));
        }
        match rows.iter().find(|row| !wanted.contains(row)) {
            Some(more) => Err(WrongRow::Unexplained(Box::new(more.clone()))),
            None => Ok(()),
        }
    }
}
