//! The cluster's network: one bridge in a namespace of its own, one `eth0` per host.
//!
//! Nothing is attached to the namespace of the machine, so no packet leaves the cluster and
//! several clusters can use the same addresses side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::lock::Lock;
use super::spec::{Host, Layout, SWITCH, netns, owns_netns, state_dir};
use crate::command::{command, run};

const NETNS_DIR: &str = "/run/netns";

/// Makes what is missing, and again what an interrupted command left half made.
pub(crate) fn up(layout: &Layout, lock: &Lock) -> Result<()> {
    let switch = netns(&layout.name, SWITCH);
    if !complete(layout, SWITCH) {
        add(layout, lock, &switch)?;
        let bridge = "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
                      link set lo up\nlink set br0 up\n";
        batch(layout, lock, Some(&switch), bridge)?;
        mark_complete(layout, SWITCH)?;
    }
    for host in layout.hosts.iter().filter(|host| !complete(layout, &host.name)) {
        plug(layout, lock, host)?;
        mark_complete(layout, &host.name)?;
    }
    Ok(())
}

fn plug(layout: &Layout, lock: &Lock, host: &Host) -> Result<()> {
    let (switch, own) = (netns(&layout.name, SWITCH), netns(&layout.name, &host.name));
    let port = &host.name;
    if exists(&own) {
        // The kernel removes a namespace later than its name; the port must be free now.
        let _ = run(&mut command(&["ip", "-n", &switch, "link", "del", port]));
    }
    add(layout, lock, &own)?;
    let cable = format!(
        "link add {port} type veth peer name eth0 netns {own}\nlink set {port} master br0 up\n"
    );
    batch(layout, lock, Some(&switch), &cable)?;
    let mut addresses = "link set lo up\nlink set eth0 up\n".to_owned();
    for address in &host.addresses {
        writeln!(addresses, "addr add {address}/24 dev eth0")?;
    }
    batch(layout, lock, Some(&own), &addresses)
}

/// The namespace exists and all in it was made.
fn complete(layout: &Layout, host: &str) -> bool {
    exists(&netns(&layout.name, host)) && complete_mark(layout, host).exists()
}

fn mark_complete(layout: &Layout, host: &str) -> Result<()> {
    let mark = complete_mark(layout, host);
    fs::write(&mark, "").with_context(|| mark.display().to_string())
}

fn complete_mark(layout: &Layout, host: &str) -> PathBuf {
    state_dir(&layout.name).join("net").join(host)
}

fn add(layout: &Layout, lock: &Lock, netns: &str) -> Result<()> {
    if path(netns).exists() {
        remove(netns)?;
    }
    batch(layout, lock, None, &format!("netns add {netns}\n"))
}

/// Runs `ip` once for several lines; the lines go by a file since stdin carries the lock.
fn batch(layout: &Layout, lock: &Lock, inside: Option<&str>, lines: &str) -> Result<()> {
    let file = state_dir(&layout.name).join("ip.batch");
    fs::write(&file, lines).with_context(|| file.display().to_string())?;
    let mut ip = command(&["ip"]);
    if let Some(netns) = inside {
        ip.args(["-n", netns]);
    }
    run(lock.lend(ip.arg("-batch").arg(&file))?)?;
    Ok(())
}

/// The path of a namespace.
pub(crate) fn path(netns: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(netns)
}

/// The namespaces of a cluster that exist, also of one whose state is lost.
pub(crate) fn of_cluster(name: &str) -> Vec<String> {
    let entries = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|netns| owns_netns(name, netns)).collect()
}

/// Removes a namespace, also one that was only half made.
pub(crate) fn remove(netns: &str) -> Result<()> {
    if exists(netns) {
        run(&mut command(&["ip", "netns", "del", netns]))?;
    } else {
        fs::remove_file(path(netns)).with_context(|| path(netns).display().to_string())?;
    }
    Ok(())
}

fn exists(netns: &str) -> bool {
    inode(netns).is_some()
}

/// What identifies a namespace; `None` where there is none, or only its empty mount point.
pub(crate) fn inode(netns: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let there = fs::metadata(path(netns)).ok()?;
    let parent = fs::metadata(NETNS_DIR).ok()?;
    (there.dev() != parent.dev()).then(|| format!("net:[{}]", there.ino()))
}

/// The processes that live in one of these namespaces; a zombie lives in none.
pub(crate) fn processes(inodes: &BTreeSet<String>) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| lives_in(*pid).is_some_and(|ns| inodes.contains(&ns))).collect()
}

/// The network namespace of a process; `None` when it has ended.
pub(crate) fn lives_in(pid: i32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.into_os_string().into_string().ok()
}
