//! The cluster's network: one bridge in a namespace of its own, one `eth0` per host.
//!
//! Nothing is attached to the namespace of the machine, so no packet leaves the cluster and
//! several clusters can use the same addresses side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
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
    power_on(layout, lock, host)
}

/// A host that is off answers nobody, though the kernel keeps its network.
pub(crate) fn power_off(layout: &Layout, lock: &Lock, host: &Host) -> Result<()> {
    let own = netns(&layout.name, &host.name);
    batch(layout, lock, Some(&own), "link set eth0 down\naddr flush dev eth0\n")
}

/// A host that boots has its own addresses and no other.
pub(crate) fn power_on(layout: &Layout, lock: &Lock, host: &Host) -> Result<()> {
    let mut lines = "link set lo up\nlink set eth0 up\naddr flush dev eth0\n".to_owned();
    for address in &host.addresses {
        writeln!(lines, "addr add {address}/24 dev eth0")?;
    }
    batch(layout, lock, Some(&netns(&layout.name, &host.name)), &lines)
}

/// Adds or takes away an address of a host; true if there was something to do.
pub(crate) fn set_address(
    layout: &Layout,
    host: &str,
    address: Ipv4Addr,
    wanted: bool,
) -> Result<bool> {
    if addresses(&layout.name, host)?.contains(&address) == wanted {
        return Ok(false);
    }
    let (verb, address) = (if wanted { "add" } else { "del" }, format!("{address}/24"));
    let own = netns(&layout.name, host);
    run(&mut command(&["ip", "-n", &own, "addr", verb, &address, "dev", "eth0"]))?;
    Ok(true)
}

/// The addresses that a host has now, in the kernel's order.
pub(crate) fn addresses(cluster: &str, host: &str) -> Result<Vec<Ipv4Addr>> {
    let own = netns(cluster, host);
    let shown = run(&mut command(&["ip", "-n", &own, "-4", "-o", "addr", "show", "dev", "eth0"]))?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let word = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
    Ok(shown.lines().filter_map(word).collect())
}

/// The hosts that have an address now.
pub(crate) fn holders(layout: &Layout, address: Ipv4Addr) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for host in &layout.hosts {
        if addresses(&layout.name, &host.name)?.contains(&address) {
            holders.push(host.name.clone());
        }
    }
    Ok(holders)
}

/// Changes a host's port at the switch: `up`, `down`, `nomaster`, `master br0`.
pub(crate) fn set_port(layout: &Layout, lock: &Lock, host: &str, words: &str) -> Result<()> {
    let switch = netns(&layout.name, SWITCH);
    batch(layout, lock, Some(&switch), &format!("link set {host} {words}\n"))
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
