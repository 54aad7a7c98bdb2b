//! The disk on which a host's daemon keeps its store: a file system of its own, so that it can be
//! full, lost or put back while the host runs.
//!
//! It is a tmpfs, mounted on the machine and bound inside the host. So it outlives a power cut, and
//! changing its size from outside takes effect at once, also for files that are open.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

use super::spec::{Host, Layout, Role, state_dir};
use crate::command::{command, run};
use crate::host::boot::Paths;

/// Room for a table of several hundred thousand sessions; only what is written takes memory.
const SIZE: &str = "size=1g,mode=700";
/// How often the disk may grow between measuring it and closing it.
const CLOSE_TRIES: u32 = 100;

/// Mounts a host's disk unless it is there.
pub(super) fn make(layout: &Layout, host: &Host) -> Result<()> {
    let disk = path(&layout.name, &host.name);
    if host.role == Role::Client || mounts()?.contains(&disk) {
        return Ok(());
    }
    mount(Some("vsm-disk"), &disk, Some("tmpfs"), MsFlags::empty(), Some(SIZE))
        .with_context(|| format!("mount tmpfs on {}", disk.display()))
}

/// Unmounts all disks of a cluster, whatever is on them.
pub(super) fn remove_all(state: &Path) -> Result<()> {
    for disk in mounts()?.into_iter().filter(|path| path.starts_with(state) && path != state) {
        umount2(&disk, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", disk.display()))?;
    }
    Ok(())
}

/// Leaves no room on a host's disk: what is there can be changed, nothing can be added.
pub(super) fn close(cluster: &str, host: &str) -> Result<()> {
    let disk = path(cluster, host);
    for _ in 0..CLOSE_TRIES {
        let now = statvfs(&disk).with_context(|| disk.display().to_string())?;
        let used = (now.blocks() - now.blocks_free()) * now.fragment_size();
        // A tmpfs of size 0 has no limit. The kernel refuses less than what is used by now.
        let size = used.max(now.fragment_size());
        if resize(&disk, &format!("size={size}")).is_ok() {
            return Ok(());
        }
    }
    bail!("{}: grows faster than it can be filled", disk.display())
}

/// Gives the disk its room again.
pub(super) fn open(cluster: &str, host: &str) -> Result<()> {
    let disk = path(cluster, host);
    resize(&disk, SIZE).with_context(|| format!("resize {}", disk.display()))
}

fn resize(disk: &Path, options: &str) -> Result<()> {
    Ok(mount(None::<&str>, disk, None::<&str>, MsFlags::MS_REMOUNT, Some(options))?)
}

/// Removes all that is on a host's disk.
pub(super) fn wipe(cluster: &str, host: &str) -> Result<()> {
    for entry in fs::read_dir(path(cluster, host))? {
        let entry = entry?;
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        removed.with_context(|| entry.path().display().to_string())?;
    }
    Ok(())
}

/// Copies what is on a host's disk aside; an earlier copy is replaced.
pub(super) fn save(cluster: &str, host: &str) -> Result<()> {
    let (copy, fresh) = (saved(cluster, host), path(cluster, host).with_extension("saved.new"));
    let _ = fs::remove_dir_all(&fresh);
    copy_all(&path(cluster, host), &fresh)?;
    let _ = fs::remove_dir_all(&copy);
    Ok(fs::rename(fresh, copy)?)
}

/// Whether there is such a copy.
pub(super) fn is_saved(cluster: &str, host: &str) -> bool {
    saved(cluster, host).is_dir()
}

/// Puts the copy back in place of what is on the disk.
pub(super) fn restore(cluster: &str, host: &str) -> Result<()> {
    wipe(cluster, host)?;
    copy_all(&saved(cluster, host), &path(cluster, host))
}

/// Copies what an agent promised to another one, whose own is lost by that.
pub(super) fn copy_promise(cluster: &str, from: &str, to: &str) -> Result<()> {
    let of = |host| path(cluster, host).join("promise");
    fs::copy(of(from), of(to)).with_context(|| of(from).display().to_string())?;
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    run(command(&["cp", "--archive"]).arg(from.join(".")).arg(to))?;
    Ok(())
}

fn path(cluster: &str, host: &str) -> PathBuf {
    Paths::of(&state_dir(cluster), host).disk
}

fn saved(cluster: &str, host: &str) -> PathBuf {
    path(cluster, host).with_extension("saved")
}

/// Everything that is mounted on the machine.
fn mounts() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect())
}
