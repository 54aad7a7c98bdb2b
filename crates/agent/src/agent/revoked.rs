//! Which certificates count no more, as brokers have told it. An agent has no table: it writes down all that it was
//! ever told, and is never told that something counts again. `vsm-agent-net`, which looks at certificates, is told it
//! before it lets anybody in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use vsm_core::{IdentityName, UnixMillis};
use vsm_daemon::{
    clock,
    files::{self, Access},
    open::{self, Revoked},
    trouble::{Kind, Troubles},
};

/// Lines `ROLE/NAME MILLISECONDS`.
const FILE: &str = "revoked";
/// Identities that are kept: more than a cell of the largest size has.
const KEPT_MAX: usize = 65_536;

/// So far ahead of this host's clock a moment may be.
const AHEAD_MS_MAX: u64 = 2 * 86_400_000;

/// What counts no more, in memory and on disk.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    all: Mutex<Revoked>,
}

/// Why it is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("more than {KEPT_MAX} identities are revoked")]
    TooMany,
    #[error(
        "{0} would be revoked up to a moment that is far ahead of the clock here; timedatectl on both hosts shows which is wrong"
    )]
    Ahead(IdentityName),
    #[error("cannot write {path}: {why}")]
    Write { path: PathBuf, why: String },
}

impl Kept {
    /// What was written down. A file that cannot be read revokes nothing, which is told; brokers say it all again.
    pub(super) fn load(dir: &Path, troubles: &Troubles) -> Self {
        let path = dir.join(FILE);
        let (all, wrong) = read(&path);
        if let Some(why) = wrong {
            let what = format!(
                "not all is known that is revoked before a broker tells it: {}: {why}",
                path.display()
            );
            troubles.raise(Kind::Identity, "revoked", what);
        }
        Self { path, all: Mutex::new(all) }
    }

    /// All of it.
    pub(super) fn all(&self) -> Revoked {
        self.all.lock().clone()
    }

    /// Takes what a broker says. It is on disk before it is answered.
    pub(super) fn take(&self, told: Revoked, troubles: &Troubles) -> Result<(), NotTaken> {
        let most = clock::unix_millis().0.saturating_add(AHEAD_MS_MAX);
        if let Some((name, _)) = told.iter().find(|(_, before)| before.0 > most) {
            return Err(NotTaken::Ahead(name.clone()));
        }
        let mut all = self.all.lock();
        let mut new = all.clone();
        open::revoke_too(&mut new, told);
        if new.len() > KEPT_MAX {
            return Err(NotTaken::TooMany);
        }
        // In force first: a disk that is full is no reason to let somebody in.
        all.clone_from(&new);
        let lines = new.iter().map(|(name, before)| format!("{name} {}\n", before.0));
        let text: String = lines.collect();
        if fs::read_to_string(&self.path).is_ok_and(|now| now == text) {
            return Ok(());
        }
        let access = Access { mode: 0o600, uid: None };
        files::replace(&self.path, text.as_bytes(), access)
            .map_err(|error| NotTaken::Write { path: self.path.clone(), why: error.to_string() })?;
        troubles.over(Kind::Identity, "revoked");
        Ok(())
    }
}

/// What can be read of it, and what is wrong with the rest.
fn read(path: &Path) -> (Revoked, Option<String>) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Revoked::new(), None),
        Err(error) => return (Revoked::new(), Some(error.to_string())),
    };
    let line = |line: &str| -> Option<(IdentityName, UnixMillis)> {
        let (name, before) = line.split_once(' ')?;
        Some((name.parse().ok()?, UnixMillis(before.parse().ok()?)))
    };
    let all: Revoked = text.lines().filter_map(line).collect();
    let lost = text.lines().count() - text.lines().filter_map(line).count();
    let wrong = (lost > 0).then(|| format!("{lost} line(s) of it are damaged"));
    (all, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_kept_and_what_is_damaged_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (path, name) = (dir.path().join(FILE), "agent/lab7".parse::<IdentityName>().unwrap());
        assert_eq!(read(&path), (Revoked::new(), None));
        fs::write(&path, "agent/lab7 1000\nagent/lab8 ").unwrap();
        let (all, wrong) = read(&path);
        assert_eq!(all, Revoked::from([(name, UnixMillis(1000))]));
        assert!(wrong.unwrap().starts_with("1 line"));
    }
}
