//! One cgroup v2 per session, so that nothing which a session started can hide: a process may leave its parent, its
//! process group and its terminal, but not its cgroup.
//!
//! Controllers are used where the broker sends limits. Where no cgroup v2 is mounted or it cannot be written,
//! everything works without, and the end of a session falls back to its descendants and their environment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use vsm_core::{Resources, SessionId};

use crate::process;

/// Where the monitors themselves go: out of `vsmagent`'s own cgroup, so that stopping its service leaves them alone.
const MONITORS: &str = "monitors";

/// The cgroup of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup(PathBuf);

/// Where cgroup v2 is mounted, by `/proc/self/mountinfo`: the last one, which may cover those before it.
pub(crate) fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let mut points = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        after.starts_with("cgroup2 ").then(|| crate::folders::decoded(point))
    });
    points.next_back()
}

/// The cgroup that everything which this process can see is in: the root, in a container that of the container; none =
/// no cgroup v2 is mounted.
#[must_use]
pub fn root() -> Option<PathBuf> {
    mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Whose memory a session was killed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// It used all that it may.
    Own,
    /// The host had none left.
    Host,
}

/// The length in microseconds of the periods in which CPU time is counted; the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// Microseconds of a period that are one percent of a CPU.
const CPU_PERCENT_US: u64 = CPU_PERIOD_US / 100;

/// Why a session is not held to one of its limits.
#[derive(Debug, thiserror::Error)]
pub enum NotHeld {
    /// This host, or whatever it runs in, has not delegated the controller.
    #[error("there is no {controller} controller in {} (cgroup v2)", folder.display())]
    NoController {
        /// As the kernel names it.
        controller: &'static str,
        /// Where it is missing.
        folder: PathBuf,
    },
    /// The kernel does not take it.
    #[error("cannot write {}: {why}", path.display())]
    NotWritten {
        /// The kernel's file.
        path: PathBuf,
        /// What it says.
        why: io::Error,
    },
}

fn write(path: PathBuf, value: &str) -> Result<(), NotHeld> {
    fs::write(&path, value).map_err(|why| NotHeld::NotWritten { path, why })
}

impl Cgroup {
    /// Makes the session's cgroup; none = there is no cgroup v2 that can be written.
    #[must_use]
    pub fn create(id: SessionId) -> Option<Self> {
        let dir = root()?.join("vsm").join(id.to_string());
        fs::create_dir_all(&dir).ok()?;
        Some(Self(dir))
    }

    /// One whose folder is known.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Limits what is in it, all together. Of each limit that cannot be held it says why, in one line.
    #[must_use]
    pub fn limit(&self, resources: Resources) -> Vec<NotHeld> {
        let Resources { memory_max_mib, cpu_max_percent, pids_max } = resources;
        let cpu = u64::from(cpu_max_percent).saturating_mul(CPU_PERCENT_US);
        let wanted = [
            (memory_max_mib > 0, "memory", memory_max_mib.saturating_mul(1 << 20).to_string()),
            (cpu_max_percent > 0, "cpu", format!("{cpu} {CPU_PERIOD_US}")),
            (pids_max > 0, "pids", pids_max.to_string()),
        ];
        let mut failed = Vec::new();
        for (_, controller, value) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
            failed.extend(self.hold(controller, &value).err());
        }
        failed
    }

    /// Has a controller hold the session to one limit.
    fn hold(&self, controller: &'static str, value: &str) -> Result<(), NotHeld> {
        let above: Vec<&Path> = self.0.ancestors().skip(1).take(2).collect();
        for folder in above.into_iter().rev() {
            let has = |file: &str| {
                let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
                text.split_whitespace().any(|word| word == controller)
            };
            if has("cgroup.subtree_control") {
                continue;
            }
            if !has("cgroup.controllers") {
                return Err(NotHeld::NoController { controller, folder: folder.to_owned() });
            }
            write(folder.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        }
        write(self.0.join(format!("{controller}.max")), value)?;
        if controller == "memory" {
            // Whole or not at all: what is left of a desktop without the one program that was the largest is of no use
            // to anybody, and its user would not be told.
            write(self.0.join("memory.oom.group"), "1")?;
        }
        Ok(())
    }

    /// Whether the kernel has killed it, whole, for want of memory.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        let read = |file: &str| fs::read_to_string(self.0.join(file)).unwrap_or_default();
        if read("memory.oom.group").trim() != "1" {
            return None;
        }
        let events = read("memory.events");
        let count = |name: &str| -> u64 {
            let line = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
        };
        match (count("oom_kill"), count("oom")) {
            (0, _) => None,
            (_, 0) => Some(Shortage::Host),
            (..) => Some(Shortage::Own),
        }
    }

    /// Moves this process into it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn join(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), "0")
    }

    /// Moves another process into it; one that is gone already is none to move.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn take(&self, pid: i32) -> io::Result<()> {
        match fs::write(self.0.join("cgroup.procs"), pid.to_string()) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    /// Moves this process to where the monitors are.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn join_monitors(&self) -> io::Result<()> {
        let dir = self.0.with_file_name(MONITORS);
        fs::create_dir_all(&dir)?;
        Self(dir).join()
    }

    /// The processes in it; zombies are not listed.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        // 0 = in a pid namespace that is not ours.
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
    }

    /// Kills all that is in it.
    pub fn kill(&self) {
        if fs::write(self.0.join("cgroup.kill"), "1").is_err() {
            // Before Linux 5.14.
            process::signal_all(&self.pids(), Signal::KILL);
        }
    }

    /// Removes it; one that is not empty stays.
    pub fn remove(&self) {
        // A session may have made cgroups below its own only as root; what cannot be removed does no harm.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with files as the kernel has them: no host here has the controllers in cgroup v2.
    #[test]
    fn limits_are_written_where_the_controllers_are_and_told_where_they_are_not() {
        let root = tempfile::tempdir().unwrap();
        let above = root.path().join("vsm");
        let dir = above.join("id");
        fs::create_dir_all(&dir).unwrap();
        let cgroup = Cgroup::at(dir.clone());
        let all = Resources { memory_max_mib: 512, cpu_max_percent: 150, pids_max: 4096 };
        let failed = cgroup.limit(all);
        assert_eq!(failed.len(), 3, "{failed:?}");
        let place = root.path().display();
        assert_eq!(
            failed[0].to_string(),
            format!("there is no memory controller in {place} (cgroup v2)")
        );
        assert!(!dir.join("memory.max").exists());
        assert!(cgroup.limit(Resources::default()).is_empty());
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        fs::write(root.path().join("cgroup.subtree_control"), "pids\n").unwrap();
        fs::write(above.join("cgroup.controllers"), "cpu pids memory\n").unwrap();
        assert!(cgroup.limit(all).is_empty());
        let is = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!((is("memory.max"), is("memory.oom.group")), ("536870912".into(), "1".into()));
        assert_eq!((is("cpu.max"), is("pids.max")), ("150000 100000".into(), "4096".into()));
        let control = fs::read_to_string(above.join("cgroup.subtree_control")).unwrap();
        assert_eq!(control, "+pids");
    }

    #[test]
    fn a_shortage_of_memory_is_told_by_the_kernels_counts() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::at(dir.path().to_owned());
        let events = |max: u32, oom: u32, killed: u32| {
            let text = format!("low 0\nhigh 0\nmax {max}\noom {oom}\noom_kill {killed}\n");
            fs::write(dir.path().join("memory.events"), text).unwrap();
            cgroup.shortage()
        };
        assert_eq!(events(9, 1, 3), None, "without a limit one process is killed, not the session");
        fs::write(dir.path().join("memory.oom.group"), "1\n").unwrap();
        assert_eq!(events(9, 0, 0), None, "it was near its limit, and no more");
        assert_eq!(events(9, 1, 3), Some(Shortage::Own));
        assert_eq!(events(0, 0, 3), Some(Shortage::Host));
    }

    #[test]
    fn the_mount_is_found() {
        let info = "24 1 0:22 / /sys rw - sysfs sysfs rw\n30 24 0:27 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 none rw\n";
        assert_eq!(mount_point(info), Some("/sys/fs/cgroup/uni fied".into()));
        let covered = format!("{info}31 1 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n");
        assert_eq!(mount_point(&covered), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount_point("24 1 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
