//! Taking a cluster away, whatever is left of it.
//!
//! Nothing here trusts the state directory: namespaces are found by their names, processes by the
//! namespaces, so that an `up` that was killed at any point is cleaned up in the same way.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lock::Lock;
use super::spec::{STATE_ROOT, check_name, state_dir};
use super::{cgroup, disk, net};
use crate::clock;

/// How long killed processes may take to be gone.
const END_WAIT: Duration = Duration::from_secs(10);

/// Removes everything of the cluster `name`; a name under which nothing stands is no error.
///
/// # Errors
/// Names what could not be removed.
pub fn down(name: &str) -> Result<()> {
    check_name(name)?;
    if !Path::new(STATE_ROOT).exists() && net::of_cluster(name).is_empty() {
        return Ok(());
    }
    let lock = Lock::take(name)?;
    down_locked(name)?;
    lock.remove()
}

/// The same for one who holds the lock and goes on with it.
pub(super) fn down_locked(name: &str) -> Result<()> {
    let namespaces = net::of_cluster(name);
    let inodes = namespaces.iter().filter_map(|netns| net::inode(netns)).collect();
    cgroup::kill(name);
    retry(|| end_processes(&inodes))?;
    for netns in &namespaces {
        net::remove(netns)?;
    }
    // A process leaves its group a little after its namespaces.
    retry(|| cgroup::remove(name))?;
    remove_state(&state_dir(name))
}

/// Kills what lives in these namespaces; fails while there is something.
fn end_processes(inodes: &BTreeSet<String>) -> Result<()> {
    let alive = net::processes(inodes);
    for pid in &alive {
        // It may have ended in between.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    if alive.is_empty() { Ok(()) } else { bail!("processes {alive:?} do not end") }
}

/// Tries until it works; unlike `clock::wait_for` also while this process is being stopped.
fn retry(mut step: impl FnMut() -> Result<()>) -> Result<()> {
    let end = clock::now() + END_WAIT;
    loop {
        match step() {
            Err(_) if clock::now() < end => clock::pause(Duration::from_millis(2)),
            result => return result,
        }
    }
}

fn remove_state(state: &Path) -> Result<()> {
    disk::remove_all(state)?;
    // A tmpfs where the machine's own /run cannot carry an overlay: see `up`.
    let _ = umount2(state, MntFlags::MNT_DETACH);
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| state.display().to_string())
        }
        _ => Ok(()),
    }
}
