//! What root grants to a daemon's account: files that become its own, and keys that it may read. Root does it in
//! folders that the account may write to. So no link is followed, and nothing is given away that has a second name
//! elsewhere.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::account::{self, Account};

/// Gives the account a file of root's that has no other name.
///
/// # Errors
/// If the system refuses.
pub fn own(path: &Path, account: Account) -> io::Result<()> {
    let Some(file) = open(path)? else { return Ok(()) };
    let found = file.metadata()?;
    if found.is_file() && found.uid() == 0 && found.nlink() == 1 {
        fchown(&file, Some(account.uid), Some(account.gid))?;
    }
    Ok(())
}

/// A key of root's, which root's group or that of a daemon may read too: this group may read it, and nobody else. One
/// that others can read stays as it is, for the daemon to refuse.
///
/// # Errors
/// If the system refuses.
pub fn readable(path: &Path, group: u32) -> io::Result<()> {
    let Some(file) = open(path)? else { return Ok(()) };
    let found = file.metadata()?;
    let is_ours = found.gid() == 0 || account::key_groups().contains(&found.gid());
    let is_open = found.mode() & if is_ours || found.gid() == group { 0o037 } else { 0o077 } != 0;
    let is_done = found.gid() == group && found.mode() & 0o7777 == 0o640;
    if found.is_file() && found.uid() == 0 && !is_open && !is_done {
        fchown(&file, None, Some(group))?;
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    Ok(())
}

/// Makes a log file, where there is none, and gives it to the account. Where it cannot be made that is for the log of
/// whoever writes it.
///
/// # Errors
/// If the system refuses to give it.
pub fn log_file(path: &Path, account: Account) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Ok(()),
        _ => own(path, account),
    }
}

/// Opens what is there itself, and never waits for it; none = there is nothing, or a link, which is left alone.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const GROUP: u32 = 65_533;

    fn of(path: &Path) -> (u32, u32, u32) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    fn file(path: &Path, mode: u32) {
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_of_roots_can_be_read_by_the_group_and_one_that_is_open_stays_so() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, mode) in [("host.key", 0o600), ("open.key", 0o644), ("target", 0o600)] {
            file(&at(name), mode);
        }
        symlink(at("target"), at("link.key")).unwrap();
        for name in ["host.key", "open.key", "link.key", "missing.key"] {
            readable(&at(name), GROUP).unwrap();
        }
        assert_eq!(of(&at("host.key")), (0, GROUP, 0o640));
        assert_eq!(of(&at("open.key")), (0, 0, 0o644));
        assert_eq!(of(&at("target")), (0, 0, 0o600));
        readable(&at("host.key"), GROUP).unwrap();
    }
}
