//! Clusters come, stand side by side, and go without a trace, however they go.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use xtask::clock::wait_for;
use xtask::cluster::{Cluster, down};

use crate::{XTASK, cluster, named, on, spec};

const WAIT: Duration = Duration::from_secs(60);

/// Everything on the machine that bears a cluster's name.
fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in [format!("/run/vsm-cluster/{name}"), format!("/run/vsm-cluster/{name}.lock")] {
        found.extend(Path::new(&path).exists().then_some(path));
    }
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let netns = entry.file_name().into_string().unwrap();
        found.extend(netns.starts_with(&format!("vsm-{name}-")).then_some(netns));
    }
    let part = format!("vsm-cluster/{name}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&part)).map(str::to_owned));
    for group in mounts.lines().filter(|line| line.contains(" cgroup2 ")) {
        let path = Path::new(group.split(' ').nth(1).unwrap()).join(&part);
        found.extend(path.exists().then(|| path.display().to_string()));
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let ours = line.contains("host-init") || line.contains("host-launch");
        found.extend((ours && line.contains(name)).then(|| line.replace('\0', " ")));
    }
    found
}

fn assert_gone(name: &str) {
    assert_eq!(traces(name), Vec::<String>::new());
}

/// `xtask cluster up` in a process group of its own.
fn start_up(name: &str, path: Option<&Path>) -> Child {
    let mut up = Command::new(XTASK);
    up.args(["cluster", "up", "--single", "--no-build", "--name", name])
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(dir) = path {
        up.env("PATH", format!("{}:{}", dir.display(), std::env::var("PATH").unwrap()));
    }
    up.spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

#[test]
fn clusters_stand_side_by_side_with_the_same_addresses() {
    let (one, two) = (cluster("side-a"), cluster("side-b"));
    on(&one, "agent1", &["touch", "/etc/one"]);
    for (cluster, there) in [(&one, true), (&two, false)] {
        let seen = ["ssh", "10.0.0.11", "test -e /etc/one && echo yes || echo no"];
        let seen = cluster.output("client", "alice", &seen).unwrap();
        assert_eq!(seen, if there { "yes" } else { "no" });
    }
    one.down().unwrap();
    assert_gone(&named("side-a"));
    on(&two, "client", &["ssh", "tlha", "true"]);
}

#[test]
fn down_leaves_nothing() {
    let name = named("gone");
    let cluster = cluster("gone");
    on(&cluster, "agent1", &["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 &"]);
    on(&cluster, "agent1", &["sh", "-c", "mkdir -p /sys/fs/cgroup/a/b; mount -t tmpfs x /mnt"]);
    assert!(traces(&name).len() > 6, "{:?}", traces(&name));
    cluster.down().unwrap();
    assert_gone(&name);
    down(&name).unwrap();
}

#[test]
fn a_dropped_cluster_is_gone() {
    drop(cluster("drop"));
    assert_gone(&named("drop"));
}

#[test]
fn up_again_finds_what_stands_and_starts_what_is_missing() {
    let first = cluster("again");
    let before = first.status();
    first.power_off("agent1").unwrap();
    let mut spec = spec("again");
    spec.fresh = false;
    let second = Cluster::up(&spec).unwrap();
    let after = second.status();
    for (before, after) in before.iter().zip(&after) {
        assert!(after.pid.is_some(), "{} is off", after.host);
        assert_eq!(before.pid == after.pid, before.host != "agent1", "{}", before.host);
    }
    spec.agents = 3;
    let error = Cluster::up(&spec).unwrap_err();
    assert!(format!("{error:#}").contains("stands with other hosts"), "{error:#}");
    on(&second, "client", &["ssh", "agent1", "true"]);
}

/// Takes a cluster away at the end of a test that runs `xtask` by hand, also when it fails.
struct TakenDown(String);

impl Drop for TakenDown {
    fn drop(&mut self) {
        // What it could not remove is found by the next test of this name.
        let _ = down(&self.0);
    }
}

/// Runs `up` and kills it, alone, as soon as `moment` exists in the state directory.
fn killed_up(name: &str, moment: &str) {
    let reached = Path::new("/run/vsm-cluster").join(name).join(moment);
    let mut up = start_up(name, None);
    let reached = || reached.exists().then_some(()).ok_or_else(|| "not reached".to_owned());
    wait_for(moment, WAIT, reached).unwrap();
    let _ = kill(pid(&up), Signal::SIGKILL);
    up.wait().unwrap();
}

const MOMENTS: [&str; 6] = [
    "cluster.json",
    "keys/host-tlha",
    "keys/alice.pub",
    "ip.batch",
    "net/agent1",
    "hosts/agent1/init.pid",
];

#[test]
fn down_cleans_up_after_an_up_that_was_killed_at_any_moment() {
    let name = named("killed");
    down(&name).unwrap();
    let _guard = TakenDown(name.clone());
    for moment in MOMENTS {
        killed_up(&name, moment);
        down(&name).unwrap();
        assert_gone(&name);
    }
}

#[test]
fn up_goes_on_where_an_up_was_killed() {
    let name = named("resumed");
    for moment in MOMENTS {
        down(&name).unwrap();
        let _guard = TakenDown(name.clone());
        killed_up(&name, moment);
        let mut spec = spec("resumed");
        spec.fresh = false;
        let cluster = Cluster::up(&spec).unwrap();
        for host in ["tlha", "agent1", "agent2"] {
            on(&cluster, "client", &["ssh", host, "true"]);
        }
    }
}

#[test]
fn an_interrupted_up_takes_down_what_it_began() {
    let name = named("interrupt");
    down(&name).unwrap();
    let _guard = TakenDown(name.clone());
    // An `ip` that hangs at the first agent holds `up` at a known point.
    let dir = std::env::temp_dir().join(format!("interrupt-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let ip = "#!/bin/sh\ncase \"$*\" in \"-n \"*agent1*) touch $0.hangs; exec sleep 60;; esac\n\
              exec /usr/sbin/ip \"$@\"\n";
    fs::write(dir.join("ip"), ip).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.join("ip"), mode).unwrap();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let hangs = dir.join("ip.hangs");
        let mut up = start_up(&name, Some(&dir));
        wait_for("the hang", WAIT, || {
            hangs.exists().then_some(()).ok_or_else(|| format!("{:?}", traces(&name)))
        })
        .unwrap();
        assert!(!traces(&name).is_empty());
        killpg(pid(&up), signal).unwrap();
        let status = up.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(code), None));
        assert_gone(&name);
        fs::remove_file(hangs).unwrap();
    }
    fs::remove_dir_all(dir).unwrap();
}
