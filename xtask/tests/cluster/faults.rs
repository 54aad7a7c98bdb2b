//! Each fault does what it says, and `heal` undoes it.

use std::process::Command;
use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::{Cluster, DaemonState, Fault, Traffic};

use crate::{XTASK, on, pair};

/// How long anything may take before a test gives up; nothing that works comes near it.
const WAIT: Duration = Duration::from_secs(120);
const BROKERS: [&str; 2] = ["tlha-primary", "tlha-secondary"];
const ONE: &str = BROKERS[0];
const TWO: &str = BROKERS[1];

fn holders(cluster: &Cluster) -> Vec<String> {
    cluster.holders_of(cluster.resource_address()).unwrap()
}

fn holders_become(cluster: &Cluster, wanted: &[&str]) {
    wait_for(&format!("the address on {wanted:?}"), WAIT, || match holders(cluster) {
        now if now == wanted => Ok(()),
        now => Err(format!("it is on {now:?}")),
    })
    .unwrap();
}

fn one_holder(cluster: &Cluster) -> String {
    wait_for("the address on one broker", WAIT, || match &holders(cluster)[..] {
        [holder] => Ok(holder.clone()),
        holders => Err(format!("it is on {holders:?}")),
    })
    .unwrap()
}

/// The broker with the address, and the other.
fn active(cluster: &Cluster) -> (&'static str, &'static str) {
    if one_holder(cluster) == ONE { (ONE, TWO) } else { (TWO, ONE) }
}

/// Waits until alice's ssh to the resource name lands on `broker`.
fn lands_on(cluster: &Cluster, broker: &str) {
    let words = ["ssh", "-o", "ConnectTimeout=1", "tlha", "uname", "-n"];
    wait_for(&format!("ssh to land on {broker}"), WAIT, || {
        match cluster.output("client", "alice", &words) {
            Ok(name) if name == broker => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
}

/// Whether a TCP connection comes about: needs both directions.
fn reaches(cluster: &Cluster, from: &str, to: &str) -> bool {
    let connect = format!("exec 3<>/dev/tcp/{to}/22");
    let words = ["timeout", "1", "bash", "-c", &connect];
    cluster.exec(from, "root", &words).unwrap().status.success()
}

fn reach_becomes(cluster: &Cluster, from: &str, to: &str) {
    let reached = || if reaches(cluster, from, to) { Ok(()) } else { Err("no".to_owned()) };
    wait_for(&format!("{from} to reach {to}"), WAIT, reached).unwrap();
}

/// Whether a datagram arrives: needs one direction.
fn is_heard(cluster: &Cluster, from: &str, to: &str) -> bool {
    let count = ["awk", "/^Udp:/ { n = $3 } END { print n }", "/proc/net/snmp"];
    let before = on(cluster, to, &count);
    on(cluster, from, &["bash", "-c", &format!("echo x > /dev/udp/{to}/9")]);
    on(cluster, to, &count) != before
}

fn cable(host: &str) -> Fault {
    Fault::Cable { host: host.to_owned() }
}

fn carrier(cluster: &Cluster, host: &str) -> String {
    on(cluster, host, &["cat", "/sys/class/net/eth0/carrier"])
}

#[test]
fn the_address_follows_the_cable_and_does_not_come_back() {
    let cluster = pair("cable");
    for broker in BROKERS {
        on(&cluster, broker, &["keepalived", "--config-test"]);
        let mode = on(&cluster, broker, &["stat", "-c", "%a", "/etc/keepalived/keepalived.conf"]);
        assert_eq!(mode, "600");
    }
    let (active, standby) = active(&cluster);
    lands_on(&cluster, active);
    cluster.fault(&cable(active)).unwrap();
    assert_eq!(carrier(&cluster, active), "0");
    holders_become(&cluster, &[standby]);
    lands_on(&cluster, standby);
    assert!(!reaches(&cluster, standby, active));
    cluster.fault(&cable(active)).unwrap();
    assert_eq!(cluster.faults(), [cable(active)], "made twice, in force once");
    assert_eq!(cluster.heal(&[]).unwrap(), [cable(active)]);
    assert_eq!(carrier(&cluster, active), "1");
    reach_becomes(&cluster, standby, active);
    assert_eq!(one_holder(&cluster), standby);
    assert_eq!(cluster.heal(&[]).unwrap(), []);
}

#[test]
fn a_silent_port_keeps_its_carrier() {
    let cluster = pair("silent");
    let (active, standby) = active(&cluster);
    let fault = Fault::Silent { host: active.to_owned() };
    cluster.fault(&fault).unwrap();
    assert_eq!(carrier(&cluster, active), "1");
    assert!(!reaches(&cluster, standby, active));
    // keepalived is not told by the carrier; its broker finds that it has no votes, and says so.
    holders_become(&cluster, &[standby]);
    lands_on(&cluster, standby);
    cluster.heal_fault(&fault).unwrap();
    reach_becomes(&cluster, standby, active);
    let holder = one_holder(&cluster);
    lands_on(&cluster, &holder);
}

#[test]
fn the_address_leaves_a_broker_whose_daemon_was_killed() {
    let cluster = pair("kill");
    let (active, standby) = active(&cluster);
    let kill = Fault::Kill { host: active.to_owned(), daemon: "vsmserver".to_owned() };
    cluster.fault(&kill).unwrap();
    assert_eq!(cluster.daemon(active, "vsmserver").unwrap().state, DaemonState::Stopped);
    assert_eq!(on(&cluster, active, &["cat", "/run/vsm/vsmserver.health"]), "-254");
    holders_become(&cluster, &[standby]);
    cluster.heal(&[active]).unwrap();
    assert_eq!(cluster.daemon(active, "vsmserver").unwrap().state, DaemonState::Running);
    let before = cluster.daemon(standby, "vsmserver").unwrap();
    let crash = Fault::Crash { host: standby.to_owned(), daemon: "vsmserver".to_owned() };
    cluster.fault(&crash).unwrap();
    assert_eq!(cluster.faults(), []);
    wait_for("a restart", WAIT, || match cluster.daemon(standby, "vsmserver") {
        Ok(now) if now.pid.is_some() && now.pid != before.pid => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    one_holder(&cluster);
}

#[test]
fn a_host_without_power_answers_nobody_and_boots_when_healed() {
    let cluster = pair("dark");
    let (active, standby) = active(&cluster);
    let power = Fault::Power { host: active.to_owned() };
    // It comes back neither frozen nor without a daemon.
    let kill = Fault::Kill { host: active.to_owned(), daemon: "sshd".to_owned() };
    cluster.fault(&kill).unwrap();
    cluster.fault(&Fault::Freeze { host: active.to_owned() }).unwrap();
    cluster.fault(&power).unwrap();
    assert_eq!(cluster.faults(), std::slice::from_ref(&power));
    holders_become(&cluster, &[standby]);
    lands_on(&cluster, standby);
    let status = cluster.status();
    let off = status.iter().find(|host| host.host == active).unwrap();
    assert_eq!((off.pid, &off.faults[..]), (None, &[format!("power {active}")][..]));
    cluster.heal(&[]).unwrap();
    reach_becomes(&cluster, standby, active);
    assert_eq!(one_holder(&cluster), standby);
    cluster.fault(&power).unwrap();
    cluster.power_on(active).unwrap();
    assert_eq!(cluster.faults(), [], "booted by hand");
}

#[test]
fn frozen_processes_stop_where_they_are() {
    let cluster = pair("freeze");
    let (active, standby) = active(&cluster);
    let pid = on(&cluster, active, &["pgrep", "-o", "keepalived"]);
    let freeze = Fault::Freeze { host: active.to_owned() };
    cluster.fault(&freeze).unwrap();
    // The old one cannot give it up; the new one has told the neighbours.
    holders_become(&cluster, &BROKERS);
    lands_on(&cluster, standby);
    let refused = cluster.daemons(active).unwrap_err();
    assert!(format!("{refused:#}").contains("is frozen"), "{refused:#}");
    cluster.heal(&[]).unwrap();
    one_holder(&cluster);
    assert_eq!(on(&cluster, active, &["pgrep", "-o", "keepalived"]), pid, "the same process");
    assert_eq!(cluster.daemon(active, "vsmserver").unwrap().restarts, 0);
    // A frozen host is no obstacle when the cluster goes.
    cluster.fault(&freeze).unwrap();
    cluster.down().unwrap();
}

#[test]
fn a_partition_loses_what_it_says() {
    let cluster = pair("cut");
    let cut = |from: &str, to: &str| Fault::Cut {
        from: from.to_owned(),
        to: to.to_owned(),
        traffic: Traffic::All,
    };
    assert!(reaches(&cluster, "agent1", "agent2") && reaches(&cluster, "agent2", "agent1"));
    cluster.fault(&cut("agent1", "agent2")).unwrap();
    assert!(!is_heard(&cluster, "agent1", "agent2"));
    assert!(is_heard(&cluster, "agent2", "agent1"));
    assert!(!reaches(&cluster, "agent2", "agent1"), "the answers are lost");
    cluster.fault(&cut("agent2", "agent1")).unwrap();
    assert!(!is_heard(&cluster, "agent2", "agent1"));
    assert!(reaches(&cluster, "agent1", "agent3") && reaches(&cluster, ONE, "agent2"));
    cluster.heal_fault(&cut("agent2", "agent1")).unwrap();
    assert!(is_heard(&cluster, "agent2", "agent1"));
    assert!(!is_heard(&cluster, "agent1", "agent2"), "the other cut stays");
    cluster.heal(&["agent2"]).unwrap();
    reach_becomes(&cluster, "agent1", "agent2");
    assert_eq!(cluster.faults(), []);
}

#[test]
fn without_vrrp_both_take_the_address() {
    let cluster = pair("vrrp");
    one_holder(&cluster);
    for fault in Fault::partition(ONE, TWO, Traffic::Vrrp) {
        cluster.fault(&fault).unwrap();
    }
    holders_become(&cluster, &BROKERS);
    assert!(reaches(&cluster, ONE, TWO));
    cluster.heal(&[]).unwrap();
    one_holder(&cluster);
    // And the other way round: keepalived alone gets through.
    for fault in Fault::partition(ONE, TWO, Traffic::AllButVrrp) {
        cluster.fault(&fault).unwrap();
    }
    assert!(!reaches(&cluster, ONE, TWO) && !reaches(&cluster, TWO, ONE));
    // That took as long as many adverts, and without those both would have the address.
    one_holder(&cluster);
    cluster.heal(&[]).unwrap();
    reach_becomes(&cluster, ONE, TWO);
}

#[test]
fn a_port_that_loses_everything_passes_nothing() {
    let cluster = pair("loss");
    assert!(reaches(&cluster, "client", "agent1"));
    let loss = |percent| Fault::Loss { host: "agent1".to_owned(), percent };
    cluster.fault(&loss(1)).unwrap();
    cluster.fault(&loss(100)).unwrap();
    assert_eq!(cluster.faults(), [loss(100)], "one loss at a time");
    assert!(!is_heard(&cluster, "client", "agent1") && !is_heard(&cluster, "agent1", "client"));
    cluster.heal(&["client"]).unwrap();
    assert!(!is_heard(&cluster, "client", "agent1"), "no fault of the client's");
    cluster.heal(&["agent1"]).unwrap();
    reach_becomes(&cluster, "client", "agent1");
    assert!(cluster.fault(&loss(0)).is_err());
}

#[test]
fn what_cannot_be_healed_keeps_nothing_else_broken() {
    let cluster = pair("stuck");
    let kill = Fault::Kill { host: "agent1".to_owned(), daemon: "vsmagent".to_owned() };
    cluster.fault(&cable("agent2")).unwrap();
    cluster.fault(&kill).unwrap();
    on(&cluster, "agent1", &["rm", "/run/vsm-bin/vsmagent"]);
    let error = format!("{:#}", cluster.heal(&[]).unwrap_err());
    assert!(error.contains(&kill.to_string()) && error.contains("is not built"), "{error}");
    assert_eq!(cluster.faults(), [kill]);
    reach_becomes(&cluster, "agent1", "agent2");
}

#[test]
fn the_address_can_be_on_both() {
    let cluster = pair("both");
    let (active, standby) = active(&cluster);
    let both = Fault::VipBoth { host: standby.to_owned() };
    cluster.fault(&both).unwrap();
    assert_eq!(holders(&cluster), BROKERS);
    cluster.heal(&[]).unwrap();
    assert_eq!(holders(&cluster), [active]);
    let dead = Fault::KeepalivedDead { host: active.to_owned() };
    cluster.fault(&dead).unwrap();
    holders_become(&cluster, &BROKERS);
    assert_eq!(cluster.daemon(active, "keepalived").unwrap().pid, None);
    let left = cluster.exec(active, "root", &["pgrep", "keepalived"]).unwrap();
    assert!(!left.status.success(), "{left:?}");
    cluster.heal(&[]).unwrap();
    one_holder(&cluster);
    for host in ["agent1", "client"] {
        assert!(cluster.fault(&Fault::VipBoth { host: host.to_owned() }).is_err());
        assert!(cluster.fault(&Fault::KeepalivedDead { host: host.to_owned() }).is_err());
    }
}

#[test]
fn disks_get_full_are_lost_and_go_back_in_time() {
    let cluster = pair("disks");
    let sh = |line: &str| cluster.output(ONE, "root", &["sh", "-c", line]);
    let host = || ONE.to_owned();
    sh("cd /var/lib/vsm; echo early > mark; head -c 10000 /dev/zero > there").unwrap();
    cluster.fault(&Fault::DiskFull { host: host() }).unwrap();
    let full = sh("cp /etc/passwd /var/lib/vsm/more").unwrap_err();
    assert!(format!("{full:#}").contains("No space left"), "{full:#}");
    sh("cd /var/lib/vsm; dd if=/dev/zero of=there bs=1000 count=1 conv=notrunc; cat mark").unwrap();
    cluster.heal(&[]).unwrap();
    sh("cp /etc/passwd /var/lib/vsm/more").unwrap();
    let back = Fault::DiskRollback { host: host() };
    let none = cluster.fault(&back).unwrap_err();
    assert!(format!("{none:#}").contains("no disk-snapshot"), "{none:#}");
    cluster.fault(&Fault::DiskSnapshot { host: host() }).unwrap();
    sh("cd /var/lib/vsm; echo late > mark; echo x > later").unwrap();
    let pid = || cluster.daemon(ONE, "vsmserver").unwrap().pid;
    let before = pid();
    cluster.fault(&back).unwrap();
    assert_eq!(sh("cat /var/lib/vsm/mark").unwrap(), "early");
    assert!(sh("cat /var/lib/vsm/later").is_err());
    assert!(pid().is_some() && pid() != before, "on the old disk with a new process");
    cluster.fault(&Fault::DiskLost { host: host() }).unwrap();
    assert!(sh("cat /var/lib/vsm/mark").is_err());
    assert!(pid().is_some());
    assert_eq!(cluster.faults(), []);
    cluster.fault(&Fault::Kill { host: host(), daemon: "vsmserver".to_owned() }).unwrap();
    cluster.fault(&back).unwrap();
    assert_eq!(pid(), None, "a daemon that is dead stays dead");
    cluster.power_off(ONE).unwrap();
    cluster.power_on(ONE).unwrap();
    assert_eq!(sh("cat /var/lib/vsm/mark").unwrap(), "early", "after a power cut");
}

#[test]
fn a_clock_steps_under_a_running_daemon() {
    let cluster = pair("clock");
    let pid = || cluster.daemon("agent1", "vsmagent").unwrap().pid;
    // The year of the next line that the agent logs.
    let year = || {
        let before = cluster.daemon_log("agent1", "vsmagent").lines().count();
        cluster.kill_daemon("agent1", "vsmagent", crate::service::SIGHUP).unwrap();
        wait_for("a line in the log", WAIT, || {
            let log = cluster.daemon_log("agent1", "vsmagent");
            let again = log.lines().skip(before).find(|line| line.contains("read again"));
            again.map(|line| line[..4].to_owned()).ok_or_else(|| "nothing".to_owned())
        })
        .unwrap()
    };
    let step = |step_s| Fault::Clock { host: "agent1".to_owned(), step_s };
    let ahead = |days: &str| on(&cluster, "agent1", &["date", "--utc", "--date", days, "+%Y"]);
    cluster.fault(&step(0)).unwrap();
    wait_for("the agent to be ready again", WAIT, || {
        let log = cluster.daemon_log("agent1", "vsmagent");
        if log.matches(" ready ").count() == 2 { Ok(()) } else { Err(log) }
    })
    .unwrap();
    let prepared = pid();
    assert_eq!(year(), ahead("today"));
    cluster.fault(&step(400 * 86_400)).unwrap();
    assert_eq!(year(), ahead("400 days"));
    assert_eq!(cluster.faults(), [step(400 * 86_400)], "one step at a time");
    cluster.fault(&step(-800 * 86_400)).unwrap();
    assert_eq!(year(), ahead("800 days ago"));
    cluster.heal(&[]).unwrap();
    assert_eq!(year(), ahead("today"));
    assert_eq!(pid(), prepared, "restarted for a later step");
    assert!(cluster.fault(&Fault::Clock { host: "client".to_owned(), step_s: 1 }).is_err());
}

#[test]
fn the_command_line_makes_faults_shows_them_and_undoes_them() {
    let cluster = pair("words");
    let xtask = |words: &[&str]| {
        let mut command = Command::new(XTASK);
        command.args(["cluster", words[0], "--name", cluster.name()]).args(&words[1..]);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    for words in [
        &["fault", "cable", "agent9"][..],
        &["fault", "fire", "agent1"],
        &["fault", "cable"],
        &["fault", "loss", "101", "agent1"],
        &["fault", "partition", "agent1"],
        &["heal", "agent9"],
    ] {
        let (code, out, err) = xtask(words);
        assert_eq!((code, &*out), (64, ""), "{words:?}: {err}");
        let named = words.iter().any(|word| err.contains(word)) || err.contains("required");
        assert!(named, "{words:?}: {err}");
    }
    assert_eq!(xtask(&["fault", "disk-full", "client"]).0, 1);
    assert_eq!(cluster.faults(), [], "refused and yet in force");
    assert_eq!(xtask(&["fault", "partition", "--one-way", "agent1", "agent2", "agent3"]).0, 0);
    assert_eq!(xtask(&["fault", "freeze", "agent2", "agent3"]).0, 0);
    assert_eq!(xtask(&["fault", "thaw", "agent3"]).0, 0);
    let (code, out, _) = xtask(&["status"]);
    let listed: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("in force: ")).collect();
    let wanted = ["cut agent1 -> agent2", "cut agent1 -> agent3", "freeze agent2"];
    assert_eq!((code, &listed[..]), (0, &wanted[..]));
    assert_eq!(xtask(&["fault", "vip-both"]).0, 0);
    assert_eq!(holders(&cluster), BROKERS);
    assert_eq!(xtask(&["heal"]).0, 0);
    assert_eq!(cluster.faults(), []);
    reach_becomes(&cluster, "agent1", "agent2");
}
