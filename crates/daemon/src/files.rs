//! The one way to replace a file: whole or not at all, also when the power fails.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, chown},
    path::Path,
};

/// Whose the new file is, and who may read it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Permission bits, on which the mask of the process has no effect beyond taking some away.
    pub mode: u32,
    /// The owner; none = whoever writes it.
    pub uid: Option<u32>,
}

impl Access {
    /// For whoever writes it alone.
    pub const OWN: Self = Self { mode: 0o600, uid: None };
}

/// Replaces a file, or makes it. The content and the new name are durable when this returns; a reader sees the old file
/// or the new one. A file has one writer at a time.
///
/// # Errors
/// If the disk is full, read-only, or broken; names the file, which is as it was.
pub fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.tmp"));
    let write = || {
        // One may be left from a crash. What lies there is never written through.
        if let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(access.mode).open(&temporary)?;
        file.write_all(content)?;
        if access.uid.is_some() {
            chown(&temporary, access.uid, None)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| {
        // A half-written one on a full disk would only take more room.
        let _ = fs::remove_file(&temporary);
        io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for text in ["one", "two"] {
            replace(&path, text.as_bytes(), Access { mode: 0o640, uid: None }).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("no/file");
        let error = replace(&gone, b"", Access::OWN).unwrap_err().to_string();
        assert!(error.contains(&gone.display().to_string()), "{error}");
        // A folder cannot be replaced by a file.
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(replace(&folder, b"x", Access::OWN).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
