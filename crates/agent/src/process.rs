//! Processes named so that a pid which is used again is not mistaken for the one that was meant.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    sync::OnceLock,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use vsm_core::SessionId;

/// The variable by which a process is known to belong to a session where there is no cgroup.
pub const SESSION_VARIABLE: &str = "VSM_SESSION_ID";

/// A process: its pid, and when it started in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time, field 22 of `/proc/PID/stat`.
    pub start: u64,
}

/// What `/proc/PID/stat` tells.
struct Stat {
    state: u8,
    parent: i32,
    flags: u32,
    start: u64,
    pending: u64,
}

/// `PF_EXITING` of the kernel.
const EXITING: u32 = 0x4;
/// SIGKILL as it stands in a set of pending signals.
const KILL_PENDING: u64 = 1 << 8;

/// Longer than 52 numbers and a name of 16 bytes can be.
const STAT_MAX: usize = 2048;
/// What stands before the mask of signals in `/proc/PID/status` is less, for a user of some hundred groups too.
const STATUS: usize = 4096;
/// The same for one of all groups that there can be.
const STATUS_MAX: usize = 1 << 20;

fn stat(pid: i32) -> Option<Stat> {
    read_stat(&fs::File::open(format!("/proc/{pid}/stat")).ok()?)
}

fn read_stat(file: &fs::File) -> Option<Stat> {
    let mut buffer = [0; STAT_MAX];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..length)?);
    // The name stands in brackets and may hold anything, brackets and blanks among it.
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    let pending = fields.nth(8)?.parse().ok()?;
    Some(Stat { state, parent, flags, start, pending })
}

impl Process {
    /// The process that has this pid now; none = there is none.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start: stat.start })
    }

    /// This process itself.
    #[must_use]
    pub fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).unwrap_or(Self { pid, start: 0 })
    }

    /// Whether it runs; a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid)
            .is_some_and(|stat| stat.start == self.start && !matches!(stat.state, b'Z' | b'X'))
    }

    /// A hold on it by which it can be asked and signalled without a race; none = it is gone.
    #[must_use]
    pub fn hold(self) -> Option<Held> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Only now is the pid pinned: look whether it is still the one.
        self.is_alive().then_some(Held { fd, pid: self.pid, marks: OnceLock::new() })
    }
}

/// What the kernel tells of a process that is asked about again and again, in files that stay open: every login asks,
/// and each system call counts.
#[derive(Debug)]
struct Marks {
    stat: fs::File,
    status: fs::File,
}

impl Marks {
    fn open(pid: i32) -> Option<Self> {
        let open = |name: &str| fs::File::open(format!("/proc/{pid}/{name}")).ok();
        Some(Self { stat: open("stat")?, status: open("status")? })
    }

    /// Whether it dies, or was sent SIGKILL.
    fn is_doomed(&self) -> bool {
        let dies = |stat: Stat| stat.flags & EXITING != 0 || stat.pending & KILL_PENDING != 0;
        read_stat(&self.stat).is_none_or(dies) || self.is_to_be_killed()
    }

    /// Whether it was sent SIGKILL, as a whole. The mark on its main thread is gone for a moment before that one is
    /// marked as exiting; this one stays.
    fn is_to_be_killed(&self) -> bool {
        let mut buffer = [0; STATUS];
        let shared = shared_pending(&self.status, &mut buffer)
            .or_else(|| shared_pending(&self.status, &mut vec![0; STATUS_MAX]));
        shared.is_some_and(|mask| mask & KILL_PENDING != 0)
    }
}

/// Signals that wait for a process as a whole; none = they are not in as much of its status as was read.
fn shared_pending(status: &fs::File, buffer: &mut [u8]) -> Option<u64> {
    let length = status.read_at(buffer, 0).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..length)?);
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mask = lines.find_map(|line| line.strip_prefix("ShdPnd:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// A process held by a pidfd.
#[derive(Debug)]
pub struct Held {
    fd: OwnedFd,
    pid: i32,
    /// Opened when they are asked for first.
    marks: OnceLock<Marks>,
}

impl Held {
    /// Whether it runs at this moment and was not killed; never blocks. A large process takes milliseconds to die
    /// after the kill, in which the pidfd says nothing yet; the kernel's marks on it do.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let marks = match self.marks.get() {
            Some(marks) => Some(marks),
            None => Marks::open(self.pid).map(|marks| self.marks.get_or_init(|| marks)),
        };
        // Asked last: as long as it has not ended, the marks are its own. Where there are no descriptors to open them
        // with, that is all that is known.
        marks.is_none_or(|marks| !marks.is_doomed()) && self.has_not_ended()
    }

    /// Whether it has not ended; a few microseconds behind for a small process, milliseconds for a large one, and a
    /// tenth of the cost of [`Held::is_alive`].
    #[must_use]
    pub fn has_not_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// To wait for its end.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sends a signal; a process that is gone is no error.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The kernel's boot id; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// All live descendants of `ancestor`. Complete where the ancestor is a subreaper.
#[must_use]
pub fn descendants(ancestor: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all_pids()
        .filter_map(|pid| {
            stat(pid).filter(|stat| stat.state != b'Z').map(|stat| (pid, stat.parent))
        })
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// All live processes whose initial environment names the session. Processes that threw their environment away are
/// missed: this is for hosts without cgroup v2 only.
#[must_use]
pub fn by_environment(id: SessionId) -> Vec<i32> {
    let wanted = format!("{SESSION_VARIABLE}={id}");
    let names = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        })
    };
    all_pids()
        .filter(names)
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.state != b'Z'))
        .collect()
}

/// Signals processes; those that are gone are no error.
pub fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // Fails only for one that has just gone.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use vsm_daemon::clock;

    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let own = Process::own();
        assert!(own.is_alive() && own.hold().unwrap().is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
        assert!(Process { start: own.start + 1, ..own }.hold().is_none());
    }

    #[test]
    fn a_killed_child_is_seen_dead_before_it_is_reaped() {
        let id: SessionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let mut child =
            Command::new("sleep").arg("60").env(SESSION_VARIABLE, id.to_string()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let held = Process::of(pid).unwrap().hold().unwrap();
        assert!(held.is_alive());
        assert!(descendants(Process::own().pid).contains(&pid));
        // `spawn` returns when the program has replaced ours, which may be before the kernel shows its environment.
        let until = clock::now() + Duration::from_secs(10);
        while !by_environment(id).contains(&pid) {
            assert!(clock::now() < until, "its environment does not name the session");
            std::thread::yield_now();
        }
        held.signal(Signal::KILL).unwrap();
        assert!(!held.is_alive(), "from the moment of the kill");
        let mut fds = [PollFd::new(&held.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
        assert!(!held.is_alive());
        assert!(!descendants(Process::own().pid).contains(&pid));
        child.wait().unwrap();
        held.signal(Signal::KILL).unwrap();
    }
}
