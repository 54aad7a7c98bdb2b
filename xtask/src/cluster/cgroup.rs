//! A control group for every host, where the machine has the unified hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock::wait_for;

const PARENT: &str = "vsm-cluster";
/// How long processes may take to stop.
const FREEZE_WAIT: Duration = Duration::from_secs(5);

/// Where the machine has the hierarchy of control groups of this kind and with these options.
fn mount_point(is_it: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind, options) = (words.next()?, words.next()?, words.next()?);
        is_it(kind, options).then(|| PathBuf::from(path))
    })
}

fn of_cluster_v1(cluster: &str, controller: &str) -> Option<PathBuf> {
    let has = |options: &str| options.split(',').any(|option| option == controller);
    let mount = mount_point(|kind, options| kind == "cgroup" && has(options));
    Some(mount?.join(PARENT).join(cluster))
}

/// A host's group in an older hierarchy with this controller, whether or not it was made; none = there is no such
/// hierarchy.
pub(crate) fn of_host_v1(cluster: &str, host: &str, controller: &str) -> Option<PathBuf> {
    of_cluster_v1(cluster, controller).map(|dir| dir.join(host))
}

fn of_cluster(cluster: &str) -> Option<PathBuf> {
    Some(mount_point(|kind, _| kind == "cgroup2")?.join(PARENT).join(cluster))
}

/// Makes a host's group; without control groups, or without the right to make one, there is none.
pub(crate) fn make(cluster: &str, host: &str) -> bool {
    of_cluster(cluster).is_some_and(|dir| fs::create_dir_all(dir.join(host)).is_ok())
}

/// A host's group, if it was made.
pub(crate) fn of_host(cluster: &str, host: &str) -> Option<PathBuf> {
    of_cluster(cluster).map(|dir| dir.join(host)).filter(|dir| dir.is_dir())
}

/// Stops all processes of a host where they are, or lets them go on; both hold when it returns.
pub(crate) fn set_frozen(cluster: &str, host: &str, frozen: bool) -> Result<()> {
    let Some(group) = of_host(cluster, host) else {
        // Nothing can have been frozen without them.
        return if frozen { bail!("no control groups (cgroup2) on this machine") } else { Ok(()) };
    };
    let wanted = if frozen { "1" } else { "0" };
    let file = group.join("cgroup.freeze");
    fs::write(&file, wanted).with_context(|| file.display().to_string())?;
    wait_for(&format!("the control group of {host}"), FREEZE_WAIT, || {
        if is_frozen(cluster, host) == frozen {
            Ok(())
        } else {
            Err(format!("it is not yet frozen: {wanted}"))
        }
    })
}

/// Whether all processes of a host are stopped.
pub(crate) fn is_frozen(cluster: &str, host: &str) -> bool {
    let events =
        of_host(cluster, host).map(|group| fs::read_to_string(group.join("cgroup.events")));
    events.is_some_and(|events| events.is_ok_and(|text| text.lines().any(|l| l == "frozen 1")))
}

/// Ends what still lives in a cluster's groups.
pub(crate) fn kill(cluster: &str) {
    if let Some(dir) = of_cluster(cluster).filter(|dir| dir.is_dir()) {
        // Kernels before 5.14 do not have it; then the namespaces' end is what ends them.
        let _ = fs::write(dir.join("cgroup.kill"), "1");
    }
}

/// Removes a cluster's groups, which must be empty of processes.
pub(crate) fn remove(cluster: &str) -> Result<()> {
    let all = [of_cluster(cluster), of_cluster_v1(cluster, "cpu")];
    for dir in all.into_iter().flatten().filter(|dir| dir.is_dir()) {
        remove_tree(&dir)?;
        if let Some(parent) = dir.parent() {
            // Not empty means that another cluster stands.
            let _ = fs::remove_dir(parent);
        }
    }
    Ok(())
}

/// Groups can only be removed one by one, the lowest first; their files go with them.
fn remove_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir).with_context(|| dir.display().to_string())
}
