//! PID 1 looks after its daemons as systemd would, and a power cut is one.

use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::{Cluster, DaemonState, DaemonStatus};

use crate::{cluster, on};

const SIGKILL: i32 = 9;
const WAIT: Duration = Duration::from_secs(120);

fn sshd_up_again(cluster: &Cluster, before: &DaemonStatus) -> DaemonStatus {
    wait_for("sshd to be started again", WAIT, || {
        let now = cluster.daemon("agent1", "sshd").map_err(|error| format!("{error:#}"))?;
        match now.pid {
            Some(pid) if Some(pid) != before.pid => Ok(now),
            other => Err(format!("{:?}, process {other:?}", now.state)),
        }
    })
    .unwrap()
}

/// Starts a program from within an ssh session and returns its process id on agent1.
fn job(cluster: &Cluster) -> String {
    let script = "nohup sleep 300 >/dev/null 2>&1 & echo $!";
    cluster.output("client", "alice", &["ssh", "agent1", script]).unwrap()
}

#[test]
fn a_daemon_that_died_is_started_again_and_its_children_live_on() {
    let cluster = cluster("crash");
    let job = job(&cluster);
    let before = cluster.daemon("agent1", "sshd").unwrap();
    cluster.kill_daemon("agent1", "sshd", SIGKILL).unwrap();
    let after = sshd_up_again(&cluster, &before);
    assert_eq!(after.restarts, 1);
    assert_eq!(after.state, DaemonState::Running);
    on(&cluster, "agent1", &["kill", "-0", &job]);
}

#[test]
fn a_stopped_daemon_stays_stopped_until_it_is_started() {
    let cluster = cluster("stop");
    let job = job(&cluster);
    cluster.stop_daemon("agent1", "sshd").unwrap();
    let status = cluster.daemon("agent1", "sshd").unwrap();
    assert_eq!((status.state, status.pid), (DaemonState::Stopped, None));
    assert!(cluster.kill_daemon("agent1", "sshd", SIGKILL).is_err());
    let refused = cluster.exec("client", "alice", &["ssh", "agent1", "true"]).unwrap();
    assert_eq!(refused.status.code(), Some(255));
    on(&cluster, "agent1", &["kill", "-0", &job]);
    cluster.start_daemon("agent1", "sshd").unwrap();
    let login = || {
        let output = cluster.exec("client", "alice", &["ssh", "agent1", "true"]);
        let output = output.map_err(|error| format!("{error:#}"))?;
        if output.status.success() { Ok(()) } else { Err(format!("{:?}", output.status)) }
    };
    wait_for("a login", WAIT, login).unwrap();
    assert!(cluster.daemon_log("agent1", "sshd").contains("Accepted publickey for alice"));
}

#[test]
fn an_unknown_daemon_or_host_is_named() {
    let cluster = cluster("unknown");
    let error = cluster.restart_daemon("agent1", "smtpd").unwrap_err();
    assert!(format!("{error:#}").contains("smtpd"), "{error:#}");
    let error = cluster.restart_daemon("agent9", "sshd").unwrap_err();
    assert!(format!("{error:#}").contains("agent9"), "{error:#}");
}

#[test]
fn orphans_are_reaped() {
    let cluster = cluster("reap");
    for _ in 0..20 {
        on(&cluster, "agent1", &["sh", "-c", "(sleep 0.01 &) ; true"]);
    }
    wait_for("no zombies", WAIT, || {
        let states = cluster.output("agent1", "root", &["ps", "ax", "-o", "stat=,args="]);
        let states = states.map_err(|error| format!("{error:#}"))?;
        let left = |line: &&str| line.starts_with('Z') || line.contains("sleep");
        match states.lines().filter(left).collect::<Vec<_>>() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .unwrap();
}

#[test]
fn after_a_power_cut_the_disk_is_as_it_was() {
    let cluster = cluster("power");
    let job = job(&cluster);
    on(&cluster, "agent1", &["touch", "/var/lib/kept", "/etc/kept", "/run/lost", "/tmp/lost"]);
    cluster.power_off("agent1").unwrap();
    assert!(cluster.daemons("agent1").is_err());
    let dead = ["ssh", "-o", "ConnectTimeout=1", "agent1", "true"];
    assert_eq!(cluster.exec("client", "alice", &dead).unwrap().status.code(), Some(255));
    cluster.output("client", "alice", &["ssh", "agent2", "true"]).unwrap();
    cluster.power_on("agent1").unwrap();
    on(&cluster, "agent1", &["ls", "/var/lib/kept", "/etc/kept"]);
    for path in ["/run/lost", "/tmp/lost"] {
        assert!(cluster.output("agent1", "root", &["ls", path]).is_err(), "{path} is still there");
    }
    let commands = on(&cluster, "agent1", &["ps", "ax", "-o", "args="]);
    assert!(!commands.contains("sleep 300"), "process {job} outlived the power cut: {commands}");
    cluster.output("client", "alice", &["ssh", "agent1", "true"]).unwrap();
}
