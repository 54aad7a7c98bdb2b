//! The names of X displays, which lie where everybody can write: made so that only root can take them.
//!
//! An X client that is told `:10` asks the abstract name `@/tmp/.X11-unix/X10` first, then the socket of that path, and
//! shows its cookie to whoever answers. So the abstract name is held by root without anybody listening on it
//! ([`Name`]): clients are refused there and go on to the path. The X server runs with a `/tmp` of its own ([`Stage`]),
//! where nobody else's locks and sockets are; its socket is then put at the usual path in the host's `/tmp`, in place
//! of whatever stands there ([`Place::publish`]). Everything is done by descriptor, and no link is followed.

use std::{
    fs,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags},
    io::Errno,
    net::{SocketAddrUnix, bind},
};
use vsm_core::SessionId;
use vsm_daemon::hole::{self, Hole};

/// The folder in which X clients look for sockets.
const SOCKETS: &str = "/tmp/.X11-unix";
/// The part of it that is ours: for root, passed through by X servers.
const OWN: &str = ".vsm";
/// Mode of folders that everybody puts names into.
const SHARED_MODE: u32 = 0o1777;
/// Tries against somebody who makes and removes a name all the time; one is enough unless both happen in between.
const TRIES_MAX: u32 = 64;

/// The abstract name of a display, held and not listened on.
#[derive(Debug)]
pub struct Name(OwnedFd);

impl Name {
    /// Takes the name.
    ///
    /// # Errors
    /// `AddrInUse` if somebody has it.
    pub fn hold(display: u32) -> io::Result<Self> {
        // One end of a pair is connected, so that it can never listen; clients are refused there.
        let (socket, _) = UnixStream::pair()?;
        let address =
            SocketAddrUnix::new_abstract_name(format!("{SOCKETS}/X{display}").as_bytes())?;
        if !hole::is_open(Hole::AbstractName) {
            bind(&socket, &address)?;
        }
        Ok(Self(socket.into()))
    }

    /// A second hold: the name is free when all are dropped.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn again(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

/// Who stands at the usual paths of a display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nobody.
    None,
    /// A lock or a socket, and nobody listens.
    Stale,
    /// Somebody listens: an X server of this user.
    Listening(u32),
}

/// The displays whose sockets are listened on by path, as `/proc/net/unix` tells, lowest first.
#[must_use]
pub fn listening() -> Vec<u32> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    listening_in(&table)
}

fn listening_in(table: &str) -> Vec<u32> {
    /// `__SO_ACCEPTCON` of the kernel.
    const ACCEPTS: &str = "00010000";
    let display = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let flags = fields.nth(3)?;
        let path = fields.nth(3)?;
        let number = path.strip_prefix(SOCKETS)?.strip_prefix("/X")?;
        (flags == ACCEPTS).then(|| number.parse().ok())?
    };
    let mut all: Vec<u32> = table.lines().filter_map(display).collect();
    all.sort_unstable();
    all
}

/// Looks at the usual paths of a display; `listening` is what [`listening`] gave.
#[must_use]
pub fn mark(display: u32, listening: impl FnOnce() -> bool) -> Mark {
    let owner = |path: &str| {
        fs::symlink_metadata(path).ok().map(|found| std::os::unix::fs::MetadataExt::uid(&found))
    };
    let socket = owner(&format!("{SOCKETS}/X{display}"));
    match socket {
        Some(uid) if listening() => return Mark::Listening(uid),
        Some(_) => return Mark::Stale,
        None => {}
    }
    let locks = [format!("/tmp/.X{display}-lock"), format!("/tmp/.tX{display}-lock")];
    if locks.iter().any(|path| owner(path).is_some()) { Mark::Stale } else { Mark::None }
}

/// The folders that hold the names, checked to be root's.
#[derive(Debug)]
pub struct Place {
    tmp: OwnedFd,
    sockets: OwnedFd,
    own: OwnedFd,
    /// What was moved out of the way, a line each.
    pub moved: Vec<String>,
}

/// An X server's own `/tmp`.
#[derive(Debug)]
pub struct Stage {
    /// The folder, for the mount.
    pub dir: PathBuf,
    sockets: OwnedFd,
}

const DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why others than root can take names out of a folder; none = they cannot: it is root's, and who else may write cannot
/// remove what is not theirs.
fn unsafety(dir: &OwnedFd) -> io::Result<Option<String>> {
    let stat = rustix::fs::fstat(dir)?;
    let mode = stat.st_mode & 0o7777;
    let safe = stat.st_uid == 0 && (mode & 0o022 == 0 || mode & 0o1000 != 0);
    Ok((!safe).then(|| format!("owned by uid {}, mode {mode:04o}", stat.st_uid)))
}

fn named(path: &Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens a folder in `parent` that is root's, and makes it where it is missing. One that somebody else has put there
/// is moved aside, which root can always do in a folder that is safe.
fn claim(parent: &OwnedFd, path: &Path, mode: u32, moved: &mut Vec<String>) -> io::Result<OwnedFd> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fail = |error: Errno| named(path, error);
    for _ in 0..TRIES_MAX {
        let why = match rustix::fs::openat(parent, &*name, DIR, Mode::empty()) {
            Ok(dir) => match unsafety(&dir)? {
                None => return Ok(dir),
                why => why,
            },
            Err(Errno::NOENT) => None,
            Err(Errno::NOTDIR | Errno::LOOP) => Some("no folder".to_owned()),
            Err(error) => return Err(fail(error)),
        };
        let other = format!("{name}.vsm-{:08x}", rand::random::<u32>());
        rustix::fs::mkdirat(parent, &*other, Mode::RWXU).map_err(fail)?;
        let made = rustix::fs::openat(parent, &*other, DIR, Mode::empty()).map_err(fail)?;
        // The umask has no say in it.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(fail)?;
        let flags = if why.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let done = rustix::fs::renameat_with(parent, &*other, parent, &*name, flags);
        match (done, why) {
            (Ok(()), None) => return Ok(made),
            (Ok(()), Some(why)) => {
                moved.push(format!("{} ({why}) was moved aside to {other}", path.display()));
                return Ok(made);
            }
            (Err(error), why) => {
                // It was just made, and is empty.
                let _ = rustix::fs::unlinkat(parent, &*other, AtFlags::REMOVEDIR);
                if !matches!(error, Errno::NOENT | Errno::EXIST) {
                    let why = why.unwrap_or_else(|| "it cannot be made".to_owned());
                    let why = io::Error::other(format!("{why}, and cannot be replaced: {error}"));
                    return Err(named(path, why));
                }
            }
        }
    }
    Err(named(path, io::Error::other("somebody makes and removes it all the time")))
}

impl Place {
    /// Opens the folders, and makes them where they are missing or somebody else's.
    ///
    /// # Errors
    /// If names there cannot be protected; names the folder and says why.
    pub fn open() -> io::Result<Self> {
        let path = Path::new("/tmp");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tmp = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| named(path, e))?;
        if let Some(why) = unsafety(&tmp)? {
            let why = format!("{why}; it must be root's, and mode 1777");
            return Err(named(path, io::Error::other(why)));
        }
        let mut moved = Vec::new();
        let sockets = claim(&tmp, Path::new(SOCKETS), SHARED_MODE, &mut moved)?;
        // Desktops' session managers have their names there.
        claim(&tmp, Path::new("/tmp/.ICE-unix"), SHARED_MODE, &mut moved)?;
        let own = claim(&sockets, &Path::new(SOCKETS).join(OWN), 0o711, &mut moved)?;
        Ok(Self { tmp, sockets, own, moved })
    }

    /// Makes what is to be the `/tmp` of a session's X server.
    ///
    /// # Errors
    /// If it is there already, or the disk is full.
    pub fn stage(&self, id: SessionId, uid: u32, gid: u32) -> io::Result<Stage> {
        let name = id.to_string();
        let dir = Path::new(SOCKETS).join(OWN).join(&name);
        let make = || -> rustix::io::Result<OwnedFd> {
            rustix::fs::mkdirat(&self.own, &*name, Mode::RWXU)?;
            let stage = rustix::fs::openat(&self.own, &*name, DIR, Mode::empty())?;
            rustix::fs::mkdirat(&stage, ".X11-unix", Mode::RWXU)?;
            let sockets = rustix::fs::openat(&stage, ".X11-unix", DIR, Mode::empty())?;
            rustix::fs::fchmod(&sockets, Mode::from_raw_mode(SHARED_MODE))?;
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(&stage, Some(uid), Some(gid))?;
            Ok(sockets)
        };
        let sockets = make().map_err(|error| named(&dir, error))?;
        Ok(Stage { dir, sockets })
    }

    /// Puts the socket that an X server has made on its stage where clients look for it, and a lock beside it that
    /// other X servers heed. Whatever stands there goes.
    ///
    /// # Errors
    /// If it is not a socket of the user's, or the folder cannot be written.
    pub fn publish(&self, stage: &Stage, display: u32, uid: u32, x_server: i32) -> io::Result<()> {
        let name = format!("X{display}");
        let path = Path::new(SOCKETS).join(&name);
        let put = || -> io::Result<()> {
            // What an agent that was killed here left behind.
            self.discard(&self.own, &name);
            rustix::fs::linkat(&stage.sockets, &*name, &self.own, &*name, AtFlags::empty())?;
            // Looked at where only root can change it.
            let found = rustix::fs::statat(&self.own, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(found.st_mode);
            if kind != FileType::Socket || found.st_uid != uid {
                self.discard(&self.own, &name);
                return Err(io::Error::other("the X server has made no socket"));
            }
            self.put(&name, &self.sockets)
        };
        put().map_err(|error| named(&path, error))?;
        // For other X servers' sake: a host on which it cannot be made works as well.
        let lock = format!(".X{display}-lock");
        let _ = self.lock(&lock, x_server).and_then(|()| self.put(&lock, &self.tmp));
        self.discard(&self.own, &lock);
        Ok(())
    }

    fn lock(&self, name: &str, pid: i32) -> io::Result<()> {
        self.discard(&self.own, name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o444);
        let file = rustix::fs::openat(&self.own, name, flags | OFlags::CLOEXEC, mode)?;
        rustix::fs::fchmod(&file, mode)?;
        fs::File::from(file).write_all(format!("{pid:>10}\n").as_bytes())
    }

    /// Moves a file of ours to where it is looked for, in place of what stands there, which is discarded.
    fn put(&self, name: &str, to: &OwnedFd) -> io::Result<()> {
        for _ in 0..TRIES_MAX {
            let free = rustix::fs::renameat_with(&self.own, name, to, name, RenameFlags::NOREPLACE);
            match free {
                Err(Errno::EXIST) => {}
                // A file system that knows no flags.
                Err(Errno::INVAL) => {
                    return Ok(rustix::fs::renameat(&self.own, name, to, name)?);
                }
                done => return Ok(done?),
            }
            match rustix::fs::renameat_with(&self.own, name, to, name, RenameFlags::EXCHANGE) {
                Err(Errno::NOENT) => {}
                done => {
                    done?;
                    self.discard(&self.own, name);
                    return Ok(());
                }
            }
        }
        Err(io::Error::other("somebody makes and removes it all the time"))
    }

    /// Removes a name; a folder with something in it is moved to a name that nobody looks for.
    fn discard(&self, from: &OwnedFd, name: &str) {
        match rustix::fs::unlinkat(from, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            Ok(()) | Err(_) => return,
        }
        if rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR).is_err() {
            let other = format!("{name}.old-{:08x}", rand::random::<u32>());
            // If it stays, the next one is exchanged for it.
            let _ = rustix::fs::renameat(from, name, &self.own, other);
        }
    }

    /// Takes the names of a display away; only for one that was ours.
    pub fn withdraw(&self, display: u32) {
        self.discard(&self.sockets, &format!("X{display}"));
        self.discard(&self.tmp, &format!(".X{display}-lock"));
    }

    /// Removes an X server's `/tmp`; the X server has ended.
    pub fn remove_stage(&self, id: SessionId) {
        // Links in it are removed and not followed; the folder above is root's. Not there is as good.
        let _ = crate::folders::remove(&Path::new(SOCKETS).join(OWN).join(id.to_string()));
    }
}

/// Takes away what a session has of names, where it has any.
pub fn clear(id: SessionId, display: Option<u32>) {
    // Where the folders are not safe no session was started.
    let Ok(place) = Place::open() else { return };
    if let Some(display) = display {
        place.withdraw(display);
    }
    place.remove_stage(id);
}

/// Gives this process, and what it becomes, the stage as its `/tmp`. Mounts that come and go on the host later still
/// do.
///
/// # Errors
/// If the process may not mount.
pub fn enter(stage: &Path) -> io::Result<()> {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    mount(Some(stage), "/tmp", NONE, MsFlags::MS_BIND, NONE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_by_path_is_found() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 11 /tmp/.X11-unix/X10\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 12 /tmp/.X11-unix/X11\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 13 @/tmp/.X11-unix/X12\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 14\n";
        assert_eq!(listening_in(table), [10]);
    }
}
