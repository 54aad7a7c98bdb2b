//! The store on disk: one SQLite file, `vsm.db`, in WAL mode with `synchronous = FULL`, so that a commit is durable
//! when it returns and a crash at any point leaves the state before or after it.
//!
//! | table | holds |
//! | --- | --- |
//! | `meta` | lineage |
//! | `epoch` | each reign with the number of its first change |
//! | `changelog` | the last changes, protobuf `vsm.sync.v1.Change`, by number |
//! | `session` | each session, protobuf `vsm.session.v1.Session`, by id |
//! | `tombstone`, `agent_failure` | starts given up, failure marks |
//!
//! `session`, `tombstone` and `agent_failure` are the table after the last entry of `changelog`: both are written in
//! one transaction. `PRAGMA user_version` is the format. One process holds the lock file next to it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use prost::Message;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use uuid::Uuid;
use vsm_core::{Change, Epoch, LineageId, Session, SessionId, Table, UnixMillis};
use vsm_daemon::clock;
use vsm_proto::{session::v1 as pb, sync::v1 as log};

use crate::store::{Entry, Loaded, Store, StoreError};

const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE epoch (counter INTEGER NOT NULL, node TEXT NOT NULL, first_seq INTEGER NOT NULL,
        PRIMARY KEY (counter, node)) STRICT;
    CREATE TABLE changelog (seq INTEGER PRIMARY KEY, counter INTEGER NOT NULL, node TEXT NOT NULL,
        change BLOB NOT NULL) STRICT;
    CREATE TABLE session (id BLOB PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE tombstone (id BLOB PRIMARY KEY, agent TEXT NOT NULL, at_unix_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE agent_failure (agent TEXT PRIMARY KEY, at_unix_ms INTEGER NOT NULL) STRICT;
    PRAGMA user_version = 1;";

/// A store on disk.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    keep: u64,
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
    /// Opens or makes the store in `dir`, keeping the last `keep` entries of the log. A damaged file is moved aside and
    /// a new one made: its sessions come back from the agents.
    ///
    /// # Errors
    /// If another process has it open, the file is of a newer version, or the system refuses.
    pub fn open(dir: &Path, keep: u64) -> Result<Opened, StoreError> {
        let io = |source| StoreError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join("lock")).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => StoreError::Locked(dir.to_owned()),
            fs::TryLockError::Error(source) => io(source),
        })?;
        let path = dir.join("vsm.db");
        let (connection, damaged) = match connect(&path) {
            Ok(connection) => (connection, None),
            Err(StoreError::Damaged { why, .. }) => {
                let aside = move_aside(&path)?;
                (connect(&path)?, Some((aside, why)))
            }
            Err(error) => return Err(error),
        };
        Ok(Opened { store: Self { connection, path, keep, _lock: lock }, damaged })
    }

    fn wrap(&self, source: rusqlite::Error) -> StoreError {
        wrap(&self.path, source)
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        read(&self.connection, &self.path)
    }

    fn begin_epoch(&mut self, epoch: &Epoch, first_seq: u64) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO epoch VALUES (?1, ?2, ?3)",
                params![signed(epoch.counter), epoch.node.as_str(), signed(first_seq)],
            )
            .map_err(|error| self.wrap(error))?;
        Ok(())
    }

    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE meta SET value = ?1 WHERE key = 'lineage'", [lineage.to_string()])
            .map_err(|error| self.wrap(error))?;
        Ok(())
    }

    fn append(&mut self, entries: &[Entry], after: &Table) -> Result<(), StoreError> {
        let keep = self.keep;
        let path = &self.path;
        let wrap = |error| wrap(path, error);
        let transaction = self.connection.transaction().map_err(wrap)?;
        for entry in entries {
            write_entry(&transaction, entry, after).map_err(wrap)?;
        }
        if let Some(last) = entries.last() {
            let first_kept = signed(last.lsn.seq.saturating_sub(keep));
            transaction
                .execute("DELETE FROM changelog WHERE seq <= ?1", [first_kept])
                .map_err(wrap)?;
        }
        transaction.commit().map_err(wrap)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let wrap = |error| wrap(path, error);
    let connection = Connection::open(path).map_err(wrap)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(wrap)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(wrap)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(wrap)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), why: verdict });
    }
    let format: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
    match format {
        0 => {
            let lineage = Uuid::new_v4();
            let insert = format!("INSERT INTO meta VALUES ('lineage', '{lineage}');");
            connection.execute_batch(&format!("BEGIN; {SCHEMA} {insert} COMMIT;")).map_err(wrap)?;
        }
        FORMAT => {}
        found => return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT }),
    }
    // Reading all of it now finds a record that does not parse while the file can still be moved aside.
    read(&connection, path)?;
    Ok(connection)
}

fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let suffix = format!("damaged-{}", clock::unix_millis().0);
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

fn read(connection: &Connection, path: &Path) -> Result<Loaded, StoreError> {
    let wrap = |error| wrap(path, error);
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let lineage: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'lineage'", [], |row| row.get(0))
        .optional()
        .map_err(wrap)?;
    let lineage: LineageId =
        lineage.unwrap_or_default().parse().map_err(|error| damaged(format!("meta: {error}")))?;
    let mut epochs = Vec::new();
    for row in rows(connection, "SELECT node, counter, first_seq FROM epoch ORDER BY counter, node")
        .map_err(wrap)?
    {
        let (node, counter, first) = row;
        let node = node.parse().map_err(|error| damaged(format!("epoch: {error}")))?;
        epochs.push((Epoch { counter: unsigned(counter), node }, unsigned(first)));
    }
    let last_seq: i64 = connection
        .query_row("SELECT coalesce(max(seq), 0) FROM changelog", [], |row| row.get(0))
        .map_err(wrap)?;
    let table = read_table(connection, path)?;
    Ok(Loaded { lineage, epochs, last_seq: unsigned(last_seq), table })
}

fn read_table(connection: &Connection, path: &Path) -> Result<Table, StoreError> {
    let wrap = |error| wrap(path, error);
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let mut table = Table::default();
    let mut statement = connection.prepare("SELECT record FROM session").map_err(wrap)?;
    let records = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).map_err(wrap)?;
    for record in records {
        let record = pb::Session::decode(record.map_err(wrap)?.as_slice())
            .map_err(|error| damaged(format!("session: {error}")))?;
        let session =
            Session::try_from(record).map_err(|error| damaged(format!("session: {error}")))?;
        table.apply(&Change::Adopted(session.into()));
    }
    let mut statement =
        connection.prepare("SELECT agent, at_unix_ms, id FROM tombstone").map_err(wrap)?;
    let stones = statement
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Uuid>(2)?))
        })
        .map_err(wrap)?;
    for stone in stones {
        let (agent, at, id) = stone.map_err(wrap)?;
        let agent = agent.parse().map_err(|error| damaged(format!("tombstone: {error}")))?;
        table.apply(&Change::Tombstone {
            id: SessionId::new(id),
            agent,
            at: UnixMillis(unsigned(at)),
        });
    }
    for (agent, at, _) in
        rows(connection, "SELECT agent, at_unix_ms, 0 FROM agent_failure").map_err(wrap)?
    {
        let agent = agent.parse().map_err(|error| damaged(format!("agent_failure: {error}")))?;
        table.apply(&Change::AgentFailed { agent, at: UnixMillis(unsigned(at)) });
    }
    Ok(table)
}

fn rows(connection: &Connection, query: &str) -> rusqlite::Result<Vec<(String, i64, i64)>> {
    let mut statement = connection.prepare(query)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

fn write_entry(
    transaction: &Transaction<'_>,
    entry: &Entry,
    after: &Table,
) -> rusqlite::Result<()> {
    let change = log::Change::from(&entry.change).encode_to_vec();
    transaction.prepare_cached("INSERT INTO changelog VALUES (?1, ?2, ?3, ?4)")?.execute(
        params![
            signed(entry.lsn.seq),
            signed(entry.lsn.epoch.counter),
            entry.lsn.epoch.node.as_str(),
            change
        ],
    )?;
    if let Change::AgentFailed { agent, at } = &entry.change {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO agent_failure VALUES (?1, ?2)")?
            .execute(params![agent.as_str(), signed(at.0)])?;
    }
    let Some(id) = entry.change.session() else { return Ok(()) };
    match after.session(id) {
        Some(session) => transaction
            .prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2)")?
            .execute(params![id.uuid(), pb::Session::from(session.as_ref()).encode_to_vec()])?,
        None => {
            transaction.prepare_cached("DELETE FROM session WHERE id = ?1")?.execute([id.uuid()])?
        }
    };
    match after.tombstone(id) {
        Some((agent, at)) => transaction
            .prepare_cached("INSERT OR REPLACE INTO tombstone VALUES (?1, ?2, ?3)")?
            .execute(params![id.uuid(), agent.as_str(), signed(at.0)])?,
        None => transaction
            .prepare_cached("DELETE FROM tombstone WHERE id = ?1")?
            .execute([id.uuid()])?,
    };
    Ok(())
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
