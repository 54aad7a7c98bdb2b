//! The store on disk: one SQLite file, `vsm.db`, in WAL mode with `synchronous = FULL`, so that a commit is durable
//! when it returns and a crash at any point leaves the state before or after it.
//!
//! | table | holds |
//! | --- | --- |
//! | `meta` | lineage, whether there is a table, the promise, what is committed, where the log and the window begin |
//! | `epoch` | each reign with the number of its first change |
//! | `changelog` | the last changes, protobuf `vsm.sync.v1.Change`, by number |
//! | `session` | each session, protobuf `vsm.session.v1.Session`, by id |
//! | `tombstone`, `agent_failure`, `roster` | starts given up, failure marks, the witnesses |
//! | `drain`, `event` | agents drained by an administrator, and the trail: protobuf `vsm.sync.v1.Drain` and `Event` |
//! | `identity` | invitations, certificates that were issued, revocations: protobuf `vsm.sync.v1.Identity` |
//! | `web_keys` | the keys by which browsers log in, by user: protobuf `vsm.sync.v1.WebKeys` |
//! | `mark` | what changed before the log begins and the witnesses may have to keep, protobuf `vsm.sync.v1.Row` |
//!
//! The tables but `changelog` are the state at the committed number; all is written in one transaction.
//! `PRAGMA user_version` is the format. One process holds the lock file next to it.

mod read;
mod write;

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode};
use uuid::Uuid;
use vsm_core::{LineageId, NodeName, Row, replica::Write};
use vsm_daemon::clock;

use crate::store::{Loaded, Store, StoreError};

/// Of the file's pages this much is kept in memory.
const CACHE_KIB: i64 = 512;

/// From format 1, which had neither drain marks nor a trail.
const FROM_1: &str = "
    CREATE TABLE drain (agent TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE event (slot INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
    PRAGMA user_version = 2;";

/// From format 2, in which reigns had no nonce.
const FROM_2: &str = "
    CREATE TABLE epoch_3 (counter INTEGER NOT NULL, node TEXT NOT NULL, nonce INTEGER NOT NULL, first_seq INTEGER NOT NULL,
        PRIMARY KEY (counter, node, nonce)) STRICT;
    INSERT INTO epoch_3 SELECT counter, node, 0, first_seq FROM epoch;
    DROP TABLE epoch;
    ALTER TABLE epoch_3 RENAME TO epoch;
    ALTER TABLE changelog ADD COLUMN nonce INTEGER NOT NULL DEFAULT 0;
    PRAGMA user_version = 3;";

/// From format 3, in which a table with a mark might have rows that were not committed.
const FROM_3: &str = "
    INSERT INTO meta SELECT 'unsure', EXISTS (SELECT 1 FROM meta WHERE key = 'mark_seq');
    PRAGMA user_version = 4;";

/// From format 4, which knew nothing of identities.
const FROM_4: &str = "
    CREATE TABLE identity (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 5;";

/// From format 5, which knew no web keys.
const FROM_5: &str = "
    CREATE TABLE web_keys (user TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 6;";

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE epoch (counter INTEGER NOT NULL, node TEXT NOT NULL, first_seq INTEGER NOT NULL,
        PRIMARY KEY (counter, node)) STRICT;
    CREATE TABLE changelog (seq INTEGER PRIMARY KEY, counter INTEGER NOT NULL, node TEXT NOT NULL,
        change BLOB NOT NULL) STRICT;
    CREATE TABLE session (id BLOB PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE tombstone (id BLOB PRIMARY KEY, agent TEXT NOT NULL, at_unix_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE agent_failure (agent TEXT PRIMARY KEY, at_unix_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE roster (place INTEGER PRIMARY KEY, agent TEXT NOT NULL) STRICT;
    CREATE TABLE mark (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// What leads from each format to the next; format 0 is an empty file.
const STEPS: [&str; 6] = [SCHEMA, FROM_1, FROM_2, FROM_3, FROM_4, FROM_5];

/// How names of copies of replaced tables go on after `vsm.db.`; a time follows.
const REPLACED: &str = "replaced-";
/// Copies of replaced tables that are kept; beyond them none is made, so that they never fill the disk.
const COPIES_MAX: usize = 4;

/// A store on disk.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    /// Held for as long as the store is open.
    _lock: File,
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SqliteStore,
    /// Where the former file was moved because it was damaged, and what was wrong with it.
    pub damaged: Option<(PathBuf, String)>,
}

impl SqliteStore {
    /// Opens or makes the store in `dir`. A damaged file is moved aside and a new one made: what it held comes back
    /// from the other broker and from the agents.
    ///
    /// # Errors
    /// If another process has it open, the file is of a newer version, or the system refuses.
    pub fn open(dir: &Path) -> Result<Opened, StoreError> {
        let io = |source| StoreError::Io { path: dir.to_owned(), source };
        // Who has which desktop is nobody else's business.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let lock = private(&dir.join("lock")).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => StoreError::Locked(dir.to_owned()),
            fs::TryLockError::Error(source) => io(source),
        })?;
        let path = dir.join("vsm.db");
        let (connection, damaged) = match connect(&path) {
            Ok(connection) => (connection, None),
            Err(StoreError::Damaged { why, .. }) => {
                let aside = move_aside(&path, "damaged")?;
                (connect(&path)?, Some((aside, why)))
            }
            Err(error) => return Err(error),
        };
        Ok(Opened { store: Self { connection, path, _lock: lock }, damaged })
    }

    /// Begins anew where nobody would miss what there is ([`vsm_core::replica::Disk::is_expendable`]), and says where
    /// the former file is.
    ///
    /// # Errors
    /// If a file cannot be read, moved or made; then this store is of no use any more.
    pub fn set_aside_expendable(&mut self, peer: &NodeName) -> Result<Option<PathBuf>, StoreError> {
        if !self.load()?.disk.is_expendable(peer) {
            return Ok(None);
        }
        let nothing = Connection::open_in_memory().map_err(|error| wrap(&self.path, error))?;
        // The last one to close it leaves the one file, whose name changes at once.
        let former = std::mem::replace(&mut self.connection, nothing);
        former.close().map_err(|(_, error)| wrap(&self.path, error))?;
        let aside = move_aside(&self.path, "former")?;
        self.connection = connect(&self.path)?;
        Ok(Some(aside))
    }

    /// A table of one life of the pair gives way to one of another ([`vsm_core::replica::Log::is_foreign`]): what was
    /// done in it counts no more, and somebody may miss it. So there is a copy of it. That it cannot be made keeps
    /// nobody from following.
    fn keep_what_is_replaced(&mut self, writes: &[Write]) {
        let whole = |write: &&Write| write.install.as_ref().is_some_and(|install| install.whole);
        let Some(install) = writes.iter().find(whole).and_then(|write| write.install.as_ref())
        else {
            return;
        };
        let of_another_life =
            self.load().is_ok_and(|loaded| loaded.disk.log.is_foreign(&install.history));
        if !of_another_life || copies(&self.path) >= COPIES_MAX {
            return;
        }
        let copy = self.path.with_extension(format!("db.{REPLACED}{}", clock::unix_millis().0));
        // It has the mode of the file that is there.
        let made = private(&copy).map_err(|error| error.to_string()).and_then(|_| {
            let into = self.connection.execute("VACUUM INTO ?1", [copy.display().to_string()]);
            into.map_err(|error| error.to_string())
        });
        match made {
            Ok(_) => {
                tracing::warn!(copy = %copy.display(), "the table here is of another life of the pair than the other node's, and gives way to it");
            }
            Err(error) => {
                tracing::error!(copy = %copy.display(), error, "the table here gives way to one of another life, and no copy of it can be made");
            }
        }
    }

    /// Makes a pair's table a single server's ([`vsm_core::replica::Disk::leave_pair`]); a store without a table stays
    /// so.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn leave_pair(&mut self, node: NodeName, nonce: u32) -> Result<(), StoreError> {
        let disk = self.load()?.disk;
        if !disk.joined {
            return Ok(());
        }
        let write = disk.leave_pair(node, nonce);
        let rows = write.install.as_ref().map(|install| Arc::clone(&install.rows));
        // Its own table with a new life: nothing gives way.
        self.commit(&[write], &rows.unwrap_or_default())
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        read::all(&self.connection, &self.path)
    }

    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE meta SET value = ?1 WHERE key = 'lineage'", [lineage.to_string()])
            .map_err(|error| wrap(&self.path, error))?;
        Ok(())
    }

    fn write(&mut self, writes: &[Write], rows: &[Row]) -> Result<(), StoreError> {
        self.keep_what_is_replaced(writes);
        self.commit(writes, rows)
    }
}

impl SqliteStore {
    fn commit(&mut self, writes: &[Write], rows: &[Row]) -> Result<(), StoreError> {
        let path = &self.path;
        let wrap = |error| wrap(path, error);
        let transaction = self.connection.transaction().map_err(wrap)?;
        write::all(&transaction, writes, rows).map_err(wrap)?;
        transaction.commit().map_err(wrap)
    }
}

/// How many copies of replaced tables there are beside a table.
fn copies(path: &Path) -> usize {
    let beside = path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten();
    let prefix = format!("vsm.db.{REPLACED}");
    let is_copy = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
    beside.filter_map(Result::ok).filter(is_copy).count()
}

/// Opens or makes a file for this user alone.
fn private(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let wrap = |error| wrap(path, error);
    // SQLite gives the files beside it the same mode.
    private(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
    let connection = Connection::open(path).map_err(wrap)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(wrap)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(wrap)?;
    // The table is read once and then only written: 2 MiB of its pages, as SQLite keeps them by itself, would be for
    // nothing.
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(wrap)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(wrap)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), why: verdict });
    }
    let format: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
    let steps = usize::try_from(format).ok().and_then(|format| STEPS.get(format..));
    let Some(steps) = steps else {
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        return Err(StoreError::Newer { path: path.to_owned(), found: format, known });
    };
    if !steps.is_empty() {
        let lineage = match format {
            0 => format!("INSERT INTO meta VALUES ('lineage', '{}');", Uuid::new_v4()),
            _ => String::new(),
        };
        let all = format!("BEGIN; {} {lineage} COMMIT;", steps.concat());
        connection.execute_batch(&all).map_err(wrap)?;
    }
    // Reading all of it now finds a record that does not parse while the file can still be moved aside.
    read::all(&connection, path)?;
    Ok(connection)
}

fn move_aside(path: &Path, what: &str) -> Result<PathBuf, StoreError> {
    let suffix = format!("{what}-{}", clock::unix_millis().0);
    let aside = path.with_extension(format!("db.{suffix}"));
    for extension in ["db", "db-wal", "db-shm"] {
        let from = path.with_extension(extension);
        if from.exists() {
            let to = path.with_extension(format!("{extension}.{suffix}"));
            fs::rename(&from, to).map_err(|source| StoreError::Io { path: from, source })?;
        }
    }
    Ok(aside)
}

fn wrap(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { path, why: source.to_string() }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        _ => StoreError::Sqlite { path, source },
    }
}

/// SQLite's integers are signed; ours stay far below the sign bit.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
