//! Folders that a user can write to, and root has to clear: by descriptor, without following links, and without
//! entering what is mounted there.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Folders within each other that are cleared at once, each of which is a descriptor; deeper ones come in the next
/// round.
const DEPTH_MAX: u32 = 64;
/// Rounds: a user can fill a folder as fast as it is emptied, and what stays is found again.
const ROUNDS_MAX: u32 = 1000;

/// A path as the kernel writes it into tables, with blanks, tabs, line ends and backslashes in octal.
#[must_use]
pub fn decoded(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let octal = |digits: &[u8]| {
        let number = digits.iter().try_fold(0u32, |sum, digit| {
            matches!(digit, b'0'..=b'7').then(|| sum * 8 + u32::from(digit - b'0'))
        });
        number.and_then(|number| u8::try_from(number).ok())
    };
    let mut rest = field.as_bytes();
    let mut path = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        path.push(escaped.unwrap_or(*first));
        rest = after.get(if escaped.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    std::ffi::OsString::from_vec(path).into()
}

/// Where something is mounted below a folder, relative to it; what was mounted last comes first.
pub(crate) fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(decoded);
    let below = points.filter_map(|point| Some(point.strip_prefix(dir).ok()?.to_owned()));
    let mut all: Vec<PathBuf> = below.filter(|path| !path.as_os_str().is_empty()).collect();
    all.reverse();
    all
}

const WITHIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Takes away what is mounted below a folder of root's, and nothing that a link there names.
pub fn unmount_below(dir: &Path) {
    let Ok(top) = rustix::fs::open(dir, FOLDER, Mode::empty()) else { return };
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mounts_below(&info, dir) {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(found) = rustix::fs::openat2(&top, &point, flags, Mode::empty(), WITHIN) else {
            continue;
        };
        // The name of a descriptor leads to what it is, wherever the path leads by now. One that is no mount any more
        // is refused by the kernel.
        let by_descriptor = format!("/proc/self/fd/{}", found.as_raw_fd());
        // One that stays is not entered when the folder is removed.
        let _ = nix::mount::umount2(Path::new(&by_descriptor), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Removes a folder with all that is in it; its parent is root's.
///
/// # Errors
/// If something stays: it is being filled, or a file system is still mounted in it.
pub fn remove(dir: &Path) -> io::Result<()> {
    let top = match rustix::fs::open(dir, FOLDER, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        // Whatever else stands there.
        Err(Errno::NOTDIR | Errno::LOOP) => return fs::remove_file(dir),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0;
    for _ in 0..ROUNDS_MAX {
        let before = moved;
        clear(&top, top.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    fs::remove_dir(dir)
}

/// Clears one folder; what is too deep is moved to the top.
fn clear(top: &OwnedFd, dir: BorrowedFd<'_>, depth: u32, moved: &mut u64) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        }
        if rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        if depth == DEPTH_MAX {
            *moved += 1;
            rustix::fs::renameat(dir, name, top, format!(".deep-{moved}"))?;
            continue;
        }
        let flags = WITHIN | ResolveFlags::NO_XDEV;
        let below = rustix::fs::openat2(dir, name, FOLDER, Mode::empty(), flags)?;
        clear(top, below.as_fd(), depth + 1, moved)?;
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_tables_of_the_kernel_are_decoded() {
        for (field, path) in [
            ("/a\\040b\\011c\\012d\\134e", "/a b\tc\nd\\e"),
            ("/x\\134040y", "/x\\040y"),
            ("/a\\08\\", "/a\\08\\"),
            ("/a\\777", "/a\\777"),
        ] {
            assert_eq!(decoded(field), Path::new(path), "{field}");
        }
        let info = "24 1 0:22 / /run/s/a\\040b rw - tmpfs x rw\n25 1 0:23 / /run/s/a\\040b/c rw - tmpfs x rw\n\
                    26 1 0:24 / /run/s rw - tmpfs x rw\n27 1 0:25 / /run/sx rw - tmpfs x rw\n";
        assert_eq!(mounts_below(info, Path::new("/run/s")), [Path::new("a b/c"), Path::new("a b")]);
    }

    #[test]
    fn a_folder_goes_however_deep_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (doomed, kept) = (dir.path().join("doomed"), dir.path().join("kept"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let deep = (0..200).fold(doomed.clone(), |path, _| path.join("deeper"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, doomed.join("deeper/link")).unwrap();
        std::os::unix::fs::symlink(&kept, deep.join("link")).unwrap();
        remove(&doomed).unwrap();
        assert!(!doomed.exists() && kept.join("file").exists());
        remove(&doomed).unwrap();
        std::os::unix::fs::symlink(&kept, &doomed).unwrap();
        remove(&doomed).unwrap();
        assert!(!doomed.exists() && kept.join("file").exists());
    }
}
