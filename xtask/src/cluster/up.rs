//! Bringing a cluster up: state, network, files, power.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::lock::Lock;
use super::spec::{
    Brokers, ClusterSpec, HaSoftware, Host, Layout, RESOURCE, Role, Start, state_dir,
};
use super::{
    Cluster, cgroup, disk, down, files, init_pid, net, pacemaker, pki, plan, power_switch, systemd,
    web,
};
use crate::clock::wait_for;
use crate::command::{command, run, tail};
use crate::host::boot::Paths;
use crate::host::control::{DaemonState, Request, ask};
use crate::interrupt;
use crate::progress::Progress;

/// How long a host may take until its sshd listens.
const BOOT_WAIT: Duration = Duration::from_secs(60);
/// The same with systemd, while all hosts boot at the same time on two processors.
const SYSTEMD_WAIT: Duration = Duration::from_secs(90);
/// How long keepalived may take to give the resource address to one of two fresh brokers.
const ADDRESS_WAIT: Duration = Duration::from_secs(60);

pub(super) fn up(spec: &ClusterSpec) -> Result<Layout> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a cluster needs root: namespaces, mounts and an sshd of its own");
    }
    let progress = Progress::new(spec.progress);
    let lock = Lock::take(&spec.name)?;
    if spec.fresh {
        down::down_locked(&spec.name)?;
    }
    let layout = state(spec)?;
    interrupt::check()?;
    progress.step("keys and programs");
    files::shared(spec, &layout, &lock)?;
    web::shared(&layout)?;
    if layout.start == Start::Ready {
        for missing in files::install_binaries(spec)? {
            progress.step(format!("warning: {missing} is not built and left out"));
        }
    }
    interrupt::check()?;
    progress.step("network");
    net::up(&layout, &lock)?;
    let off: Vec<_> =
        layout.hosts.iter().filter(|host| init_pid(&layout.name, &host.name).is_none()).collect();
    for host in layout.hosts.iter().filter(|_| layout.start == Start::Ready) {
        pki::of_host(&layout, host, &lock)?;
    }
    if layout.software == HaSoftware::Pacemaker {
        pacemaker::shared(&layout)?;
        power_switch::turn_on(&layout, spec)?;
    }
    for host in &off {
        interrupt::check()?;
        prepare(&layout, host)?;
        launch(&layout, host, spec, &lock)?;
    }
    // All of them: one that was found may still be booting for a command that was killed.
    for host in &layout.hosts {
        wait_ready(&layout, host)?;
        if off.contains(&host) {
            progress.step(format!("{} is up", host.name));
        } else if layout.start == Start::Ready {
            start_failed(&layout, host)?;
        }
    }
    let moves = layout.start == Start::Ready && layout.brokers == Brokers::Pair;
    if moves && off.iter().any(|host| host.role == Role::Broker) {
        let wait = match layout.software {
            HaSoftware::Keepalived => ADDRESS_WAIT,
            HaSoftware::Pacemaker => {
                progress.step("waiting for Pacemaker, which takes its time");
                pacemaker::configure(&layout, spec)?;
                pacemaker::ADDRESS_WAIT
            }
        };
        let holder = wait_for("the resource address", wait, || holder(&layout))?;
        progress.step(format!("{} is on {holder}", RESOURCE.0));
    }
    progress.step(format!("cluster {} stands", layout.name));
    Ok(layout)
}

/// Writes what a host has before it boots; keeps what is there.
pub(super) fn prepare(layout: &Layout, host: &Host) -> Result<()> {
    files::of_host(layout, host)?;
    web::of_host(layout, host)?;
    if layout.start == Start::Ready {
        disk::make(layout, host)?;
    }
    plan::write(layout, host)
}

/// The one broker that has the resource address.
fn holder(layout: &Layout) -> Result<String, String> {
    let holders = net::holders(layout, RESOURCE.1).map_err(|error| format!("{error:#}"))?;
    match &holders[..] {
        [holder] => Ok(holder.clone()),
        _ => Err(format!("it is on {holders:?}")),
    }
}

/// Finds or makes the state directory and the note of what the cluster consists of.
fn state(spec: &ClusterSpec) -> Result<Layout> {
    let state = state_dir(&spec.name);
    let layout = Layout::new(spec);
    if let Ok(standing) = Cluster::read_layout(&spec.name) {
        if standing != layout {
            bail!("cluster {:?} stands with other hosts or users: take it down first", spec.name);
        }
        return Ok(layout);
    }
    fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
    // It may have been mounted by an attempt that got no further.
    if statfs(&state)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
        // An overlay cannot be the upper half of another, as in most containers.
        mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("mode=700"))
            .with_context(|| format!("mount tmpfs on {}", state.display()))?;
    }
    // The hosts' users pass through it to what is bound from here.
    fs::set_permissions(&state, Permissions::from_mode(0o755))?;
    // Whole or not at all: a later command reads it.
    fs::write(state.join("cluster.json.new"), serde_json::to_vec_pretty(&layout)?)?;
    fs::rename(state.join("cluster.json.new"), state.join("cluster.json"))?;
    Ok(layout)
}

/// Turns the power on again, for a host that was cut off.
pub(super) fn power_on(layout: &Layout, host: &Host, helper: &Path, lock: &Lock) -> Result<()> {
    let spec = ClusterSpec::new(&layout.name, helper);
    launch(layout, host, &spec, lock)?;
    wait_ready(layout, host)
}

fn launch(layout: &Layout, host: &Host, spec: &ClusterSpec, lock: &Lock) -> Result<()> {
    cgroup::make(&layout.name, &host.name);
    net::power_on(layout, lock, host)?;
    let mut launcher = command(&[&spec.helper]);
    launcher.args(["host-launch", &layout.name, &host.name]);
    run(lock.lend(&mut launcher)?).with_context(|| format!("{} does not start", host.name))?;
    Ok(())
}

/// Gives daemons that could not start another chance: their program may have been built since.
fn start_failed(layout: &Layout, host: &Host) -> Result<()> {
    let socket = Paths::of(&state_dir(&layout.name), &host.name).socket();
    for daemon in ask(&socket, &Request::Status)? {
        if daemon.state == DaemonState::Failed {
            ask(&socket, &Request::Start(daemon.name))?;
        }
    }
    Ok(())
}

/// Waits until PID 1 has started what it is to start and sshd listens.
fn wait_ready(layout: &Layout, host: &Host) -> Result<()> {
    if cgroup::is_frozen(&layout.name, &host.name) {
        bail!("{} is frozen: cluster heal lets it go on", host.name);
    }
    let paths = Paths::of(&state_dir(&layout.name), &host.name);
    let gone = || {
        let log = fs::read(paths.log_of("init")).unwrap_or_default();
        format!("{} ended while it booted:\n{}", host.name, tail(&log))
    };
    let mut dead = None;
    let what = format!("{} to boot", host.name);
    let (wait, booted): (_, &dyn Fn(i32) -> Result<()>) = match layout.start {
        Start::Ready => (BOOT_WAIT, &|_| ask(&paths.socket(), &Request::Status).map(drop)),
        Start::Fresh => (SYSTEMD_WAIT, &systemd::is_up),
    };
    let ready = wait_for(&what, wait, || {
        let Some(pid) = init_pid(&layout.name, &host.name) else {
            dead = Some(gone());
            return Ok(());
        };
        booted(pid).map_err(|error| format!("{error:#}"))?;
        let web = web::factors(layout, host).map(|_| web::PORTS);
        match [22].into_iter().chain(web.into_iter().flatten()).find(|port| !listens(pid, *port)) {
            Some(port) => Err(format!("sshd does not listen on port {port}")),
            None => Ok(()),
        }
    });
    match dead {
        Some(reason) => bail!(reason),
        None => ready,
    }
}

/// Whether a process's network has a TCP listener on this port, by the kernel's own table.
fn listens(pid: i32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let port = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, state) = (words.next(), words.next(), words.next());
        local.is_some_and(|local| local.ends_with(&port)) && state == Some(LISTEN)
    })
}
