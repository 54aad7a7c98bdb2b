//! What the kernel tells of a daemon of a miniature host.

use anyhow::{Context, Result};

use crate::cluster::Cluster;

const KIB_PER_MIB: f64 = 1024.0;
/// The clock of `/proc/PID/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident {
    pub(super) now: f64,
    /// The most that it ever was.
    pub(super) peak: f64,
}

/// The pid of a daemon.
pub(super) fn daemon(cluster: &Cluster, host: &str, name: &str) -> Result<String> {
    let pid = cluster.daemon(host, name)?.pid;
    Ok(pid.with_context(|| format!("{name} does not run on {host}"))?.to_string())
}

pub(super) fn resident(cluster: &Cluster, host: &str, pid: &str) -> Result<Resident> {
    let status = cluster.output(host, "root", &["cat", &format!("/proc/{pid}/status")])?;
    let mib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("VmRSS")?;
        Ok(kib.parse::<f64>()? / KIB_PER_MIB)
    };
    Ok(Resident { now: mib("VmRSS:")?, peak: mib("VmHWM:")? })
}

/// The same of a daemon.
pub(super) fn of_daemon(cluster: &Cluster, host: &str, name: &str) -> Result<Resident> {
    resident(cluster, host, &daemon(cluster, host, name)?)
}

/// User and system time of some processes so far, in seconds.
pub(super) fn worked(cluster: &Cluster, host: &str, pids: &[&str]) -> Result<f64> {
    let files: Vec<_> = pids.iter().map(|pid| format!("/proc/{pid}/stat")).collect();
    let words: Vec<_> = ["cat"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let stats = cluster.output(host, "root", &words)?;
    let mut all = 0.0;
    for stat in stats.lines() {
        // The name may hold blanks: what counts comes behind it.
        let (_, fields) = stat.rsplit_once(") ").context("stat")?;
        for ticks in fields.split(' ').skip(11).take(2) {
            all += ticks.parse::<f64>().context("stat")?;
        }
    }
    Ok(all / TICKS_PER_SECOND)
}
