//! Which certificates count no more, as brokers have told it. An agent has no table: it writes down all that it was
//! ever told, and is never told that something counts again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use vsm_core::{IdentityName, UnixMillis};
use vsm_daemon::{
    files::{self, Access},
    open::Revoked,
    tls::Tls,
    trouble::{Kind, Troubles},
};

/// Lines `ROLE/NAME MILLISECONDS`.
const FILE: &str = "revoked";
/// Identities that are kept: more than a cell of the largest size has.
const KEPT_MAX: usize = 65_536;

/// What counts no more, in force and on disk.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    tls: Tls,
    all: Mutex<Revoked>,
}

/// Why it is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("more than {KEPT_MAX} identities are revoked")]
    TooMany,
    #[error("cannot write {path}: {why}")]
    Write { path: PathBuf, why: String },
}

impl Kept {
    /// What was written down. A file that cannot be read revokes nothing, which is told; brokers say it all again.
    pub(super) fn load(dir: &Path, tls: Tls, troubles: &Troubles) -> Self {
        let path = dir.join(FILE);
        let all = match read(&path) {
            Ok(all) => all,
            Err(error) => {
                let what = format!(
                    "which certificates are revoked is not known before a broker tells it: {}: {error}",
                    path.display()
                );
                troubles.raise(Kind::Certificate, "revoked", what);
                Revoked::new()
            }
        };
        tls.revoke(all.clone());
        Self { path, tls, all: Mutex::new(all) }
    }

    /// Takes what a broker says. It is on disk before it is answered.
    pub(super) fn take(&self, told: Revoked, troubles: &Troubles) -> Result<(), NotTaken> {
        let mut all = self.all.lock();
        let mut new = all.clone();
        for (name, before) in told {
            let known = new.entry(name).or_insert(before);
            *known = before.max(*known);
        }
        if new.len() > KEPT_MAX {
            return Err(NotTaken::TooMany);
        }
        if new != *all {
            // In force first: a disk that is full is no reason to let somebody in.
            self.tls.revoke(new.clone());
            all.clone_from(&new);
        }
        let lines = new.iter().map(|(name, before)| format!("{name} {}\n", before.0));
        let text: String = lines.collect();
        if fs::read_to_string(&self.path).is_ok_and(|now| now == text) {
            return Ok(());
        }
        let access = Access { mode: 0o600, uid: None };
        files::replace(&self.path, text.as_bytes(), access)
            .map_err(|error| NotTaken::Write { path: self.path.clone(), why: error.to_string() })?;
        troubles.over(Kind::Certificate, "revoked");
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Revoked> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Revoked::new()),
        read => read?,
    };
    let line = |line: &str| -> Option<(IdentityName, UnixMillis)> {
        let (name, before) = line.split_once(' ')?;
        Some((name.parse().ok()?, UnixMillis(before.parse().ok()?)))
    };
    let all: Option<Revoked> = text.lines().map(line).collect();
    all.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
}
