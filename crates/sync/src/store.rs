//! What a store must do. There are two: SQLite on disk, and its twin in memory; one conformance test holds both to it.

use std::{io, path::PathBuf};

use vsm_core::{
    LineageId, Row,
    replica::{Disk, Write},
};

/// What a store holds when it is opened.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The table's lineage.
    pub lineage: LineageId,
    /// The replica's part: promise, log, table, mark.
    pub disk: Disk,
}

/// A store that cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("another vsmserver has {0} open")]
    Locked(PathBuf),
    /// The file is damaged, or not of this kind.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file was written by a newer version.
    #[error("{path} has format {found}, and this version knows up to {known}")]
    Newer {
        /// File.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// The disk is full.
    #[error("the disk that holds {0} is full")]
    Full(PathBuf),
    /// The system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot write {path}: {source}")]
    Sqlite {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// Keeps what a replica has durable. A call that returns has made its change durable; one that fails has changed
/// nothing.
pub trait Store: Send {
    /// Everything that it holds.
    ///
    /// # Errors
    /// If it cannot be read.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Replaces the lineage of a table that holds nothing yet.
    ///
    /// # Errors
    /// If it cannot be written.
    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError>;

    /// Makes writes durable, in their order, all or none. `rows` are the states, after the last of them, of all that
    /// they commit or install; all rows of the table where one of them installs a whole table.
    ///
    /// # Errors
    /// If they cannot be written.
    fn write(&mut self, writes: &[Write], rows: &[Row]) -> Result<(), StoreError>;
}
