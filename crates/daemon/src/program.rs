//! Programs that a process of root's runs because a configuration or a directory names them: each is root's alone to
//! change, and so is everything on the way to it, from `/` on.
//!
//! That is looked at when the program is used. The way is walked by descriptors, so that what was looked at is what is
//! there. Where root alone may change each directory and each link, nobody else can put another thing in the place of
//! one between the look and the use. So the program may then be run by its path, which scripts see as `$0`.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

use crate::hole::{self, Hole};

/// Links that are followed on one way, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Why something is not run as root.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// Something on the way cannot be looked at.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// It is no absolute path.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    /// More links than a way may have.
    #[error("{0} leads through more than {LINKS_MAX} links")]
    Links(PathBuf),
    /// The thing itself may be changed by somebody else.
    #[error("it is not root's, or others may write to it")]
    Itself,
    /// Somebody else may put another thing in its place.
    #[error("the directory that it is in is not root's alone: others may change {0}")]
    Way(PathBuf),
    /// It is something else.
    #[error("it is not a {0}")]
    Kind(&'static str),
    /// Its mode does not let root run it.
    #[error("it is not executable")]
    NotExecutable,
}

/// Whether root may run the program at `path`: see the module.
///
/// # Errors
/// Why not.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    let file = walk(path)?;
    if !FileType::from_raw_mode(file.st_mode).is_file() {
        Err(Untrusted::Kind("file"))
    } else if !only_roots(&file) && !hole::is_open(Hole::ProgramOwner) {
        Err(Untrusted::Itself)
    } else if file.st_mode & 0o100 == 0 {
        Err(Untrusted::NotExecutable)
    } else {
        Ok(())
    }
}

/// Whether what lies in the directory at `path` is there by root's will alone.
///
/// # Errors
/// Why not.
pub fn check_directory(path: &Path) -> Result<(), Untrusted> {
    let directory = walk(path)?;
    if !FileType::from_raw_mode(directory.st_mode).is_dir() {
        Err(Untrusted::Kind("directory"))
    } else if only_roots(&directory) {
        Ok(())
    } else {
        Err(Untrusted::Itself)
    }
}

/// A directory on the way.
struct Step {
    fd: OwnedFd,
    path: PathBuf,
}

/// Follows a path by descriptors, its links too, and looks at each directory and link on the way; what stands at its
/// end is the caller's to look at.
fn walk(path: &Path) -> Result<Stat, Untrusted> {
    if !path.is_absolute() {
        return Err(Untrusted::Relative(path.to_owned()));
    }
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = Step { fd: root.map_err(at(Path::new("/")))?, path: PathBuf::from("/") };
    let mut found = stat(&root)?;
    let mut way = vec![root];
    let mut todo = names(path);
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let Some(last) = way.last() else { return Err(Untrusted::Relative(path.to_owned())) };
        passable(last)?;
        let here = last.path.join(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&last.fd, &name, flags, Mode::empty()).map_err(at(&here))?;
        let step = Step { fd, path: here };
        let seen = stat(&step)?;
        let kind = FileType::from_raw_mode(seen.st_mode);
        if kind.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(Untrusted::Links(path.to_owned()));
            }
            if !roots(&seen) {
                return Err(Untrusted::Way(step.path));
            }
            let target = readlinkat(&step.fd, "", Vec::new()).map_err(at(&step.path))?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                way.truncate(1);
            }
            todo.extend(names(&target));
            continue;
        }
        if kind.is_dir() {
            way.push(step);
        } else if !todo.is_empty() {
            return Err(at(&step.path)(rustix::io::Errno::NOTDIR));
        }
        found = seen;
    }
    Ok(found)
}

/// The parts of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

fn at(path: &Path) -> impl FnOnce(rustix::io::Errno) -> Untrusted {
    let path = path.to_owned();
    |error| Untrusted::Io(path, error.into())
}

fn stat(step: &Step) -> Result<Stat, Untrusted> {
    fstat(&step.fd).map_err(at(&step.path))
}

/// Fails where somebody else may put another thing in the place of one of root's in this directory. In one with the
/// sticky bit, as `/tmp`, they may not, and things that are not root's are refused by themselves.
fn passable(directory: &Step) -> Result<(), Untrusted> {
    let seen = stat(directory)?;
    let sticky = seen.st_mode & 0o1000 != 0;
    if only_roots(&seen) || (roots(&seen) && sticky) {
        Ok(())
    } else {
        Err(Untrusted::Way(directory.path.clone()))
    }
}

/// Whether root alone, or who this process runs as, may change it.
fn only_roots(seen: &Stat) -> bool {
    roots(seen) && seen.st_mode & 0o022 == 0
}

fn roots(seen: &Stat) -> bool {
    seen.st_uid == 0 || seen.st_uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn says(path: &Path, words: &str) {
        let why = check(path).unwrap_err().to_string();
        assert!(why.contains(words), "{words}: {why}");
    }

    /// Whoever may write to any directory on the way may put a directory of their own in its place.
    #[test]
    fn every_directory_on_the_way_is_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        let program = deep.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o700);
        check(&program).unwrap();
        check_directory(&deep).unwrap();
        for name in ["a", "a/b", "a/b/c"] {
            let open = dir.path().join(name);
            mode(&open, 0o777);
            says(&program, &open.display().to_string());
            assert!(check_directory(&deep).is_err());
            mode(&open, 0o1777);
            check(&program).unwrap_or_else(|why| panic!("what is root's in a sticky one: {why}"));
            mode(&open, 0o755);
        }
        mode(&program, 0o770);
        says(&program, "others may write to it");
        mode(&program, 0o600);
        says(&program, "not executable");
        says(&deep, "not a file");
        says(&program.join("x"), "Not a directory");
        says(Path::new("program"), "absolute");
    }

    /// A link counts as what it leads to, and the directory that it lies in counts too.
    #[test]
    fn links_lead_where_root_says() {
        let dir = tempfile::tempdir().unwrap();
        let (safe, open) = (dir.path().join("safe"), dir.path().join("open"));
        for path in [&safe, &open] {
            fs::create_dir(path).unwrap();
        }
        let program = safe.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o700);
        symlink("../safe/./program", open.join("link")).unwrap();
        symlink(open.join("link"), safe.join("link")).unwrap();
        symlink("loop", safe.join("loop")).unwrap();
        check(&safe.join("link")).unwrap();
        mode(&open, 0o777);
        // The program at the end is as safe as before, and somebody else may choose which one it is.
        says(&safe.join("link"), "open");
        says(&safe.join("loop"), "links");
        if rustix::process::geteuid().is_root() {
            mode(&open, 0o1777);
            std::os::unix::fs::lchown(open.join("link"), Some(65534), None).unwrap();
            says(&safe.join("link"), "open/link");
        }
    }
}
