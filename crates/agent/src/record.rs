//! The files that say which sessions there are: what a restart of anything may rely on.
//!
//! ```text
//! STATE_DIR/sessions/ID.json   one per live session, written by its vsm-session; the agent owns whether it exists
//! STATE_DIR/done/ID.json       how a start or a session ended: so that a late or repeated start is never run
//! STATE_DIR/damaged/           files that could not be read, moved aside for people to look at
//! STATE_DIR/log/ID.log         the session's log
//! ```
//! Files change by a temporary file, fsync, rename, fsync of the folder. A crash leaves the old or the new file and
//! perhaps a temporary one (`.ID.json.tmp`), which is written over next time. The end of a session writes `done`
//! first and removes `sessions` after: of an id in both, `done` counts.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use vsm_core::{EndReason, Ended, Limits, Session, SessionId, UnixMillis};
use vsm_daemon::files::{self, Access};

use crate::{process::Process, refusal::Refused};

/// Version of the record's form. A higher one is read too: fields are only added.
pub const VERSION: u32 = 1;
/// Largest file that is read; a record is about 1 KiB.
const FILE_MAX: u64 = 1 << 20;

/// A live session: all that is needed to find it again, and to rebuild the broker's table from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Form of the record.
    pub version: u32,
    /// The session, in state running.
    pub session: Session,
    /// Boot of the host in which it was started.
    pub boot_id: String,
    /// User id of the owner.
    pub uid: u32,
    /// Its `vsm-session`.
    pub monitor: Process,
    /// Its X server.
    pub x_server: Process,
    /// Folder of its cgroup.
    pub cgroup: Option<PathBuf>,
    /// Limits that it is kept to.
    #[serde(default)]
    pub limits: Limits,
}

/// A start or a session that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub id: SessionId,
    /// When.
    pub at: UnixMillis,
    /// How.
    pub outcome: Outcome,
}

/// How a start or a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It never ran.
    Refused(Refused),
    /// It ran.
    Ended {
        /// Why it ended.
        reason: EndReason,
        /// One line for people.
        detail: String,
    },
}

impl Done {
    /// As the broker is told of a session that is gone; a start that never ran counts as terminated.
    #[must_use]
    pub fn ended(&self) -> Ended {
        let (reason, detail) = match &self.outcome {
            Outcome::Ended { reason, detail } => (*reason, detail.clone()),
            Outcome::Refused(refused) => {
                (EndReason::Terminated, format!("it did not start: {refused}"))
            }
        };
        Ended { id: self.id, reason, detail, at: self.at }
    }
}

/// A file that cannot be read as what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("cannot read {path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cut off or overwritten.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// File.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads a JSON file of bounded size.
///
/// # Errors
/// If it cannot be read, or is damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > FILE_MAX {
        return Err(io(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large")));
    }
    let text = fs::read(path).map_err(io)?;
    serde_json::from_slice(&text)
        .map_err(|source| ReadError::Damaged { path: path.to_owned(), source })
}

/// The folders under `/vsmagent/state_dir`.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

impl Store {
    /// Makes the folders where they are missing, for root only.
    ///
    /// # Errors
    /// If one cannot be made; names it.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        for name in ["sessions", "done", "damaged", "log"] {
            let dir = state_dir.join(name);
            builder.recursive(true).mode(0o700).create(&dir).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot make {}: {error}", dir.display()))
            })?;
        }
        Ok(Self(state_dir.to_owned()))
    }

    /// The store in a folder that [`Store::open`] has made before.
    #[must_use]
    pub fn at(state_dir: &Path) -> Self {
        Self(state_dir.to_owned())
    }

    fn path(&self, folder: &str, id: SessionId) -> PathBuf {
        self.0.join(folder).join(format!("{id}.json"))
    }

    /// The session's log file.
    #[must_use]
    pub fn log(&self, id: SessionId) -> PathBuf {
        self.0.join("log").join(format!("{id}.log"))
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Makes the record of a live session durable.
    ///
    /// # Errors
    /// If it cannot be written; names the file.
    pub fn save_record(&self, record: &Record) -> io::Result<()> {
        files::replace(
            &self.path("sessions", record.session.id),
            &serde_json::to_vec_pretty(record)?,
            Access::OWN,
        )
    }

    /// Makes it durable that a start or a session is over, and drops the live record.
    ///
    /// # Errors
    /// If it cannot be written; the live record is then left.
    pub fn save_done(&self, done: &Done) -> io::Result<()> {
        files::replace(&self.path("done", done.id), &serde_json::to_vec(done)?, Access::OWN)?;
        self.remove_record(done.id);
        Ok(())
    }

    /// Drops a live record.
    pub fn remove_record(&self, id: SessionId) {
        // Not there is as good.
        let _ = fs::remove_file(self.path("sessions", id));
    }

    /// How a start or a session ended, if that was kept.
    #[must_use]
    pub fn done(&self, id: SessionId) -> Option<Done> {
        read_json(&self.path("done", id)).ok()
    }

    /// All live records, each readable or not.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn records(&self) -> io::Result<Vec<(SessionId, Result<Record, ReadError>)>> {
        Ok(self
            .ids("sessions")?
            .into_iter()
            .map(|id| (id, read_json(&self.path("sessions", id))))
            .collect())
    }

    /// All that is over, oldest first. Files that cannot be read are skipped: their sessions are over all the same.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn all_done(&self) -> io::Result<Vec<Done>> {
        let mut all: Vec<Done> =
            self.ids("done")?.into_iter().filter_map(|id| self.done(id)).collect();
        all.sort_by_key(|done| done.at);
        Ok(all)
    }

    fn ids(&self, folder: &str) -> io::Result<Vec<SessionId>> {
        let id =
            |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
        Ok(fs::read_dir(self.0.join(folder))?.flatten().filter_map(id).collect())
    }

    /// Moves a damaged record out of the way; tells where to.
    ///
    /// # Errors
    /// If it cannot be moved.
    pub fn move_aside(&self, id: SessionId, now: UnixMillis) -> io::Result<PathBuf> {
        let to = self.0.join("damaged").join(format!("{id}.{}.json", now.0));
        fs::rename(self.path("sessions", id), &to)?;
        Ok(to)
    }

    /// Forgets one that is over, its logs too.
    pub fn forget(&self, id: SessionId) {
        let log = self.log(id);
        for path in [self.path("done", id), log.with_extension("log.old"), log] {
            // Not there is as good.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record() -> Record {
        let session = serde_json::json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "user": "alice", "agent": "agent1", "state": "running",
            "display": 10, "request": "01890a5d-ac96-774b-bcce-b302099a8058", "params": {}, "created": 1
        });
        let own = Process::own();
        Record {
            version: VERSION,
            session: serde_json::from_value(session).unwrap(),
            boot_id: "b".to_owned(),
            uid: 1001,
            monitor: own,
            x_server: own,
            cgroup: None,
            limits: Limits::default(),
        }
    }

    #[test]
    fn a_record_survives_and_a_cut_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let record = record();
        let id = record.session.id;
        store.save_record(&record).unwrap();
        let all = store.records().unwrap();
        assert_eq!(all[0].1.as_ref().unwrap(), &record);
        let path = store.path("sessions", id);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let (_, cut) = store.records().unwrap().remove(0);
        assert!(matches!(cut, Err(ReadError::Damaged { .. })));
        let aside = store.move_aside(id, UnixMillis(7)).unwrap();
        assert!(aside.exists() && store.records().unwrap().is_empty());
    }

    #[test]
    fn an_end_replaces_the_live_record_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let record = record();
        let id = record.session.id;
        store.save_record(&record).unwrap();
        let outcome = Outcome::Ended { reason: EndReason::Logout, detail: "exit 0".to_owned() };
        let done = Done { id, at: UnixMillis(5), outcome };
        store.save_done(&done).unwrap();
        assert!(store.records().unwrap().is_empty());
        assert_eq!(store.done(id), Some(done));
        store.forget(id);
        assert!(store.all_done().unwrap().is_empty());
    }
}
