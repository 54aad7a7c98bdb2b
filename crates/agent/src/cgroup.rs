//! One cgroup v2 per session, so that nothing which a session started can hide: a process may leave its parent, its
//! process group and its terminal, but not its cgroup.
//!
//! Only the tree is used, no controller. Where no cgroup v2 is mounted or it cannot be written, everything works
//! without, and the end of a session falls back to its descendants and their environment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use vsm_core::SessionId;

use crate::process;

/// Where the monitors themselves go: out of `vsmagent`'s own cgroup, so that stopping its service leaves them alone.
const MONITORS: &str = "monitors";

/// The cgroup of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup(PathBuf);

/// Where cgroup v2 is mounted, by `/proc/self/mountinfo`: the last one, which may cover those before it.
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let mut points = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        after.starts_with("cgroup2 ").then(|| PathBuf::from(point.replace("\\040", " ")))
    });
    points.next_back()
}

/// The cgroup that everything which this process can see is in: the root, in a container that of the container; none =
/// no cgroup v2 is mounted.
#[must_use]
pub fn root() -> Option<PathBuf> {
    mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)
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

    #[test]
    fn the_mount_is_found() {
        let info = "24 1 0:22 / /sys rw - sysfs sysfs rw\n30 24 0:27 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 none rw\n";
        assert_eq!(mount_point(info), Some("/sys/fs/cgroup/uni fied".into()));
        let covered = format!("{info}31 1 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n");
        assert_eq!(mount_point(&covered), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount_point("24 1 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
