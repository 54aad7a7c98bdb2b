//! Replacing files so that a crash, a full disk or a second writer never leaves half an edit: a lock, new
//! contents in temporary files, fsync, then renames, and the old contents put back where a rename fails.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often, and how many times, a held lock is tried again: ten seconds in all.
const LOCK_WAIT: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 200;

/// Held while a configuration directory is changed; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `dir`, which is made where it is missing.
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        }
        let path = dir.join(".vsm-config.lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o644).open(&path)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(error),
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a file lock has no wait with a deadline"
                )]
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{} is held by another writer", path.display()),
        ))
    }
}

/// A file with its new contents.
#[derive(Clone, Debug)]
pub(crate) struct Rewrite {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

/// Gives all files their new contents, or none. Modes and owners are kept; new files get mode 0644.
pub(crate) fn replace_all(rewrites: &[Rewrite]) -> Result<(), (PathBuf, io::Error)> {
    let mut staged: Vec<Staged> = Vec::new();
    for rewrite in rewrites {
        let next = Staged::write(rewrite).map_err(|error| (rewrite.file.clone(), error))?;
        staged.push(next);
    }
    for i in 0..staged.len() {
        if let Err(error) = staged[i].commit() {
            // Best effort: the first error is the one to report.
            staged[..i].iter().for_each(Staged::put_back);
            return Err((staged[i].target.clone(), error));
        }
    }
    Ok(())
}

/// New contents on disk beside the file that they will replace.
struct Staged {
    target: PathBuf,
    temporary: PathBuf,
    old: Option<Vec<u8>>,
    renamed: bool,
}

impl Staged {
    fn write(rewrite: &Rewrite) -> io::Result<Self> {
        // A link stays a link: the file that it names is replaced.
        let target = fs::canonicalize(&rewrite.file).unwrap_or_else(|_| rewrite.file.clone());
        let old = match fs::read(&target) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = target.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        // From here on the drop of `staged` removes the temporary file.
        let staged = Self { target, temporary, old, renamed: false };
        let mut file =
            OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged.temporary)?;
        file.write_all(rewrite.text.as_bytes())?;
        let mode = match fs::metadata(&staged.target) {
            Ok(metadata) => {
                chown(&staged.temporary, Some(metadata.uid()), Some(metadata.gid()))?;
                metadata.permissions().mode()
            }
            Err(_) => 0o644,
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(staged)
    }

    fn commit(&mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.renamed = true;
        let dir = self.target.parent().unwrap_or_else(|| Path::new("/"));
        File::open(dir)?.sync_all()
    }

    fn put_back(&self) {
        // Nothing more can be done where this fails too; the caller reports the first error.
        let _ = match &self.old {
            Some(bytes) => fs::write(&self.target, bytes),
            None => fs::remove_file(&self.target),
        };
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.renamed {
            // It may never have been made.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(file: &Path, text: &str) -> Rewrite {
        Rewrite { file: file.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn modes_and_links_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace_all(&[rewrite(&link, "new")]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_failure_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good");
        fs::write(&good, "old").unwrap();
        let bad = dir.path().join("no/such/dir");
        assert_eq!(replace_all(&[rewrite(&good, "new"), rewrite(&bad, "x")]).unwrap_err().0, bad);
        assert_eq!(fs::read_to_string(&good).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_rename_that_fails_puts_the_earlier_ones_back() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good");
        fs::write(&good, "old").unwrap();
        let fresh = dir.path().join("fresh");
        let mut staged = [
            Staged::write(&rewrite(&good, "new")).unwrap(),
            Staged::write(&rewrite(&fresh, "new")).unwrap(),
        ];
        staged.iter_mut().for_each(|file| file.commit().unwrap());
        staged.iter().for_each(Staged::put_back);
        assert_eq!(fs::read_to_string(&good).unwrap(), "old");
        assert!(!fresh.exists());
    }
}
