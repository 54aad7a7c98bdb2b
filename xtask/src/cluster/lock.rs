//! One change at a time to one cluster.
//!
//! An exclusive `flock` on `/run/vsm-cluster/NAME.lock`. Every program that `up` runs gets the lock
//! as its stdin and so holds it too: after a SIGKILL of `up` a following `down` waits until the
//! last helper has ended, and cannot miss what that helper was just making.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::spec::STATE_ROOT;
use crate::clock;

/// How long another command may hold the lock: a whole `up` fits.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// The held lock; released when it and its copies are closed.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock of the cluster `name`.
    pub(crate) fn take(name: &str) -> Result<Self> {
        let path = PathBuf::from(STATE_ROOT).join(format!("{name}.lock"));
        // A stopping process must still be able to clean up, so this wait has its own loop.
        let end = clock::now() + LOCK_WAIT;
        loop {
            if let Some(file) = Self::attempt(&path)? {
                return Ok(Self { file, path });
            }
            if clock::now() >= end {
                anyhow::bail!("{}: held by another command for a minute", path.display());
            }
            clock::pause(Duration::from_millis(5));
        }
    }

    fn attempt(path: &PathBuf) -> Result<Option<File>> {
        std::fs::create_dir_all(STATE_ROOT).context(STATE_ROOT)?;
        std::fs::set_permissions(STATE_ROOT, Permissions::from_mode(0o700)).context(STATE_ROOT)?;
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = opened.with_context(|| path.display().to_string())?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // The one before us may have removed the file that we have just locked.
        let ours = file.metadata()?.ino();
        let same = std::fs::metadata(path).is_ok_and(|there| there.ino() == ours);
        Ok(same.then_some(file))
    }

    /// Gives `command` a copy of the lock for as long as it lives.
    pub(crate) fn lend<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        Ok(command.stdin(Stdio::from(self.file.try_clone()?)))
    }

    /// Removes the lock's file and the directory of all clusters if this was the last.
    pub(crate) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).with_context(|| self.path.display().to_string())?;
        // Not empty means that another cluster stands.
        let _ = std::fs::remove_dir(STATE_ROOT);
        Ok(())
    }
}
