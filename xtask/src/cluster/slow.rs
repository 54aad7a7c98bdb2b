//! A host that has less of the processor than it wants, as a small or a crowded machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cgroup;

/// Of one round of the scheduler, in µs.
const PERIOD_US: u64 = 100_000;
/// Moving processes is repeated until none is left, as they begin others meanwhile.
const ROUNDS_MAX: u32 = 20;

/// Lets a host have so many hundredths of one core from now on, or as much as it likes. A host that boots meanwhile may
/// have more.
pub(super) fn set(cluster: &str, host: &str, percent: Option<u32>) -> Result<()> {
    let quota = percent.map(|percent| u64::from(percent) * PERIOD_US / 100);
    let Some(group) = cgroup::of_host(cluster, host) else {
        bail!("no control groups (cgroup2) on this machine");
    };
    // Where the processor is shared out by the same hierarchy, as on today's systems.
    let above: Vec<&Path> = group.ancestors().skip(1).take(3).collect();
    for above in above.iter().rev() {
        let _ = fs::write(above.join("cgroup.subtree_control"), "+cpu");
    }
    let bound = group.join("cpu.max");
    if bound.exists() {
        let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        return write(&bound, &format!("{quota} {PERIOD_US}"));
    }
    let Some(other) = cgroup::of_host_v1(cluster, host, "cpu") else {
        bail!("no control groups of this machine share out the processor");
    };
    fs::create_dir_all(&other).with_context(|| other.display().to_string())?;
    let quota = quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
    write(&other.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
    write(&other.join("cpu.cfs_quota_us"), &quota)?;
    move_all(&group, &other)
}

/// How often the host had to stop as it had used up its share.
pub(super) fn stops(cluster: &str, host: &str) -> Result<u64> {
    let groups = [cgroup::of_host(cluster, host), cgroup::of_host_v1(cluster, host, "cpu")];
    let count = |group: PathBuf| {
        let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok())
    };
    let counts = groups.into_iter().flatten().filter_map(count);
    counts.max().with_context(|| format!("nothing counts how often {host} was stopped"))
}

/// Puts all processes of one group, and of those below it, into another hierarchy's.
fn move_all(from: &Path, to: &Path) -> Result<()> {
    let mut moved = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let mut left = Vec::new();
        processes(from, &mut left)?;
        left.retain(|pid| !moved.contains(pid));
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            // It may have ended.
            let _ = fs::write(to.join("cgroup.procs"), &pid);
            moved.insert(pid);
        }
    }
    bail!("processes are begun faster than they can be moved to {}", to.display())
}

fn processes(group: &Path, all: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    all.extend(text.lines().map(str::to_owned));
    for entry in fs::read_dir(group)? {
        let path: PathBuf = entry?.path();
        // One that is gone has no processes.
        if path.is_dir() && path.exists() {
            processes(&path, all)
                .or_else(|error| if path.exists() { Err(error) } else { Ok(()) })?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("{}: {text}", file.display()))
}
