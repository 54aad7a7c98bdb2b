//! Who does less than their share is told by lists and exit codes: what, since when, why, and the next step. Each state
//! is made, looked for, mended, and must be gone.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;
use vsm_core::UnixMillis;
use vsm_daemon::{
    clock,
    pki::{Signer, Wanted},
    tls::Role,
};
use xtask::clock::wait_for;
use xtask::cluster::Fault;

use crate::pair_of_brokers::Pair;
use crate::service::{AGENTS, BROKER, Connected, SIGHUP, Service, WAIT};
use crate::{limits, on};

/// Has a unix socket in the abstract namespace as bob, until it is ended.
const TAKE_NAME: &str = "import socket, time
s = socket.socket(socket.AF_UNIX)
s.bind('\\0/tmp/.X11-unix/X130')
open('/tmp/taken', 'w').close()
time.sleep(600)";

const SOFTWARE: i32 = 70;

/// The troubles of an agent, or of a broker in place of it.
pub(crate) fn troubles(service: &Service, host: &str) -> Vec<Value> {
    let words: &[&str] = if host == BROKER {
        &["vsmctl", "status", "--output", "json"]
    } else {
        &["vsmctl", "agent", "show", host, "--output", "json"]
    };
    let shown: Value = serde_json::from_str(&on(&service.0, BROKER, words)).unwrap();
    shown["troubles"].as_array().unwrap().clone()
}

/// Waits until a trouble of this kind is told with these words, and with a next step; it is also what people read, and
/// what the exit code says.
pub(crate) fn told(service: &Service, host: &str, kind: &str, words: &str) {
    wait_for(&format!("{host} to tell {kind}: {words}"), WAIT, || {
        let all = troubles(service, host);
        let fits = |trouble: &&Value| {
            trouble["kind"] == kind && trouble["what"].as_str().unwrap().contains(words)
        };
        let found = all.iter().find(fits).ok_or_else(|| format!("{all:?}"))?;
        let (what, next) = (found["what"].as_str().unwrap(), found["next_step"].as_str().unwrap());
        assert!(!next.is_empty(), "{found}");
        let list = if host == BROKER { "ha status" } else { "agent list" };
        let list = service.sh(BROKER, &format!("vsmctl {list} --exit-code; echo $?"));
        // Why a host is down may be another from one moment to the next.
        let told = list.lines().any(|line| line.contains(what) && line.contains(next));
        if told && list.ends_with('1') { Ok(()) } else { Err(format!("{found}: {list}")) }
    })
    .unwrap();
}

/// Waits until nothing is wrong there any more.
fn well(service: &Service, host: &str) {
    wait_for(&format!("nothing to be wrong with {host}"), WAIT, || {
        let all = troubles(service, host);
        if all.is_empty() { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .unwrap();
    let list = if host == BROKER { "ha status" } else { "agent list" };
    service.until(BROKER, &format!("vsmctl {list} --exit-code"));
}

/// A file that makes the configuration of a daemon bad.
const BAD: &str = "/etc/vsm/conf.d/zz-bad.yaml";

/// Has a daemon refuse a configuration.
fn refuse(service: &Service, host: &str, daemon: &str) {
    service.sh(host, &format!("echo '{daemon}: {{listen_port: x}}' > {BAD}"));
    service.reload(host, daemon, "the new configuration is bad");
}

/// Has it take one again.
fn mend(service: &Service, host: &str, daemon: &str) {
    service.sh(host, &format!("rm {BAD}"));
    service.kill_daemon(host, daemon, SIGHUP).unwrap();
}

#[test]
fn what_is_wrong_with_a_session_host_is_told_until_it_is_mended() {
    let service = Service::up("shares-hosts");
    let host = AGENTS[0];
    let sh = |line: &str| service.sh(host, line);
    well(&service, host);

    refuse(&service, host, "vsmagent");
    told(&service, host, "configuration", BAD);
    mend(&service, host, "vsmagent");
    well(&service, host);

    service.configure(host, "vsmagent", &["/vsmagent/xserver_args=-ac"]);
    told(&service, host, "configuration", "-ac");
    service.configure(host, "vsmagent", &["/vsmagent/xserver_args="]);
    well(&service, host);

    service.configure(host, "vsmagent", &["/vsmagent/xserver=/opt/no/Xvnc"]);
    let alone = |verb| on(&service.0, BROKER, &["vsmctl", "agent", verb, AGENTS[1]]);
    alone("drain");
    service.refused("alice", SOFTWARE, &["/opt/no/Xvnc is not installed"]);
    told(&service, host, "penalised", "/opt/no/Xvnc is not installed");
    service.configure(BROKER, "vsmserver", &["/vsmserver/agent_failure_penalty=1s"]);
    told(&service, host, "start", "/opt/no/Xvnc is not installed");
    service.configure(host, "vsmagent", &["/vsmagent/xserver="]);
    assert_eq!(service.connect("bob").agent, host);
    alone("undrain");
    well(&service, host);

    on(&service.0, BROKER, &["vsmctl", "agent", "drain", host, "--reason", "new disks"]);
    told(&service, host, "drained", "new disks");
    on(&service.0, BROKER, &["vsmctl", "agent", "undrain", host]);
    sh("echo 'back at noon' > /etc/nologin");
    told(&service, host, "maintenance", "back at noon");
    sh("rm /etc/nologin");
    well(&service, host);

    what_cannot_be_written(&service, host);
    what_is_taken_at_a_start(&service, host);
    what_lasts_is_an_event(&service, host);
}

fn what_cannot_be_written(service: &Service, host: &str) {
    let alone = |verb| on(&service.0, BROKER, &["vsmctl", "agent", verb, AGENTS[1]]);
    let sh = |line: &str| service.sh(host, line);
    // An end that the agent has to write down itself, as the monitor was killed.
    let desktop = || {
        alone("drain");
        let desktop = service.connect("bob");
        alone("undrain");
        desktop
    };
    let lose = |desktop: Connected| sh(&format!("kill -9 {}", service.processes(&desktop).monitor));
    let full = Fault::DiskFull { host: host.to_owned() };
    let before = desktop();
    service.fault(&full).unwrap();
    lose(before);
    told(service, host, "disk", "the end of a session could not be recorded");
    service.heal_fault(&full).unwrap();
    lose(desktop());
    well(service, host);
}

fn what_is_taken_at_a_start(service: &Service, host: &str) {
    let sh = |line: &str| service.sh(host, line);
    let restart = || service.restart_daemon(host, "vsmagent").unwrap();
    service.stop_daemon(host, "vsmagent").unwrap();
    told(service, host, "down", "down: ");
    sh("printf rubbish > /var/lib/vsm-agent/promise");
    service.start_daemon(host, "vsmagent").unwrap();
    told(service, host, "promise", "/var/lib/vsm-agent/promise.damaged");
    sh("rm /var/lib/vsm-agent/promise.damaged");
    restart();
    well(service, host);

    service.stop_daemon(host, "vsmagent").unwrap();
    sh(&format!("printf %s \"{TAKE_NAME}\" > /tmp/take; chmod 644 /tmp/take"));
    sh("setpriv --reuid bob --regid bob --clear-groups python3 /tmp/take > /dev/null 2>&1 & echo $! > /tmp/take.pid
        for n in $(seq 100); do test -e /tmp/taken && exit 0; sleep 0.1; done; exit 1");
    sh("rm -f /run/vsm/vsmagent-shadow.sock; mkdir -p /run/vsm/vsmagent-shadow.sock/x");
    service.start_daemon(host, "vsmagent").unwrap();
    told(service, host, "displays", "1 names of displays are taken by others");
    told(service, host, "socket", "nobody can shadow");
    sh("kill $(cat /tmp/take.pid); rm -r /run/vsm/vsmagent-shadow.sock");
    restart();
    well(service, host);
}

/// What lasts a minute is an event, and so is its end.
fn what_lasts_is_an_event(service: &Service, host: &str) {
    refuse(service, host, "vsmagent");
    let event = |action: &str| format!("vsmctl events --last 0 | grep {action} | grep -q {host}");
    wait_for("the event", 3 * WAIT, || {
        let asked = service.exec(BROKER, "root", &["sh", "-c", &event("agent-trouble")]).unwrap();
        if asked.status.success() { Ok(()) } else { Err("no agent-trouble yet".to_owned()) }
    })
    .unwrap();
    mend(service, host, "vsmagent");
    service.until(BROKER, &event("agent-mended"));
}

/// What the host itself lacks, and what a daemon keeps from its start.
#[test]
fn what_a_host_lacks_is_told_until_it_is_there() {
    let service = Service::up("shares-lacks");
    let host = AGENTS[0];
    let sh = |line: &str| service.sh(host, line);
    let reload = || service.kill_daemon(host, "vsmagent", SIGHUP).unwrap();

    let alice = service.connect("alice");
    let host_of_alice = alice.agent.clone();
    let run_dir = |value: &str| {
        let value = format!("/vsmagent/run_dir={value}");
        service.configure(&host_of_alice, "vsmagent", &[&value]);
    };
    run_dir("/run/elsewhere");
    told(&service, &host_of_alice, "restart", "/vsmagent/run_dir");
    // Until then it is as it was: it finds its desktops.
    service.sh(BROKER, "vsmctl session terminate --all --assume-yes");
    service.rows_become("no session", |rows| rows.is_empty());
    run_dir("/run/vsm");
    well(&service, &host_of_alice);

    sh("cp -r /etc/vsm/pki /etc/vsm/pki.good");
    ends_soon(&service, host);
    reload();
    // It is in use without a restart.
    told(&service, host, "certificate", "/etc/vsm/pki/host.pem");
    sh("cp /etc/vsm/pki.good/host.key /etc/vsm/pki/host.key");
    reload();
    told(&service, host, "certificate", "changed, and the former ones stay in use");
    sh("rm -r /etc/vsm/pki; mv /etc/vsm/pki.good /etc/vsm/pki");
    reload();
    well(&service, host);

    sh("mv /etc/pam.d/vsm /root/pam");
    reload();
    told(&service, host, "pam", "/etc/pam.d/vsm is missing");
    sh("mv /root/pam /etc/pam.d/vsm");
    reload();
    well(&service, host);

    let clock = Fault::Clock { host: host.to_owned(), step_s: 120 };
    service.fault(&clock).unwrap();
    told(&service, host, "clock", &format!("the clock of {host} is 1"));
    service.heal_fault(&clock).unwrap();
    well(&service, host);

    service.sh(BROKER, "echo 'new disks' > /etc/nologin");
    told(&service, BROKER, "nologin", "new disks");
    service.sh(BROKER, "rm /etc/nologin");
    well(&service, BROKER);
    what_sshd_lacks(&service, [(host, "vsmagent"), (BROKER, "vsmserver")]);
}

/// Gives a host a certificate in the last sixth of its life, which no command makes.
fn ends_soon(service: &Service, host: &str) {
    let state = PathBuf::from("/run/vsm-cluster").join(service.name());
    let authority = state.join("pki");
    let signer = Signer::load(&authority.join("ca.pem"), &authority.join("ca.key")).unwrap();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let since = clock::unix_millis().0 - u64::try_from(days(80).as_millis()).unwrap();
    let wanted = Wanted {
        name: host.to_owned(),
        roles: vec![Role::Agent],
        addresses: vec!["10.0.0.11".to_owned()],
        since: Some(UnixMillis(since)),
        life: days(10),
    };
    let (certificate, key) = signer.make(&wanted).unwrap();
    let there = state.join("hosts").join(host);
    fs::write(there.join("host.pem"), certificate).unwrap();
    fs::write(there.join("host.key"), key).unwrap();
    service.sh(
        host,
        "for file in pem key; do cat /run/host/host.$file > /etc/vsm/pki/host.$file; done",
    );
}

fn what_sshd_lacks(service: &Service, daemons: [(&str, &str); 2]) {
    let everywhere = |act: &dyn Fn(&str)| {
        for (host, daemon) in daemons {
            act(host);
            service.kill_daemon(host, daemon, SIGHUP).unwrap();
        }
    };
    let each = |look: &dyn Fn(&str)| daemons.iter().for_each(|(host, _)| look(host));
    let moved = |from: &str, to: &str| {
        everywhere(&|host| drop(service.sh(host, &format!("mv {from}/vsm.conf {to}/vsm.conf"))));
    };
    moved("/etc/ssh/sshd_config.d", "/root");
    each(&|host| told(service, host, "ssh", "does not know the subsystem vsm"));
    moved("/root", "/etc/ssh/sshd_config.d");
    each(&|host| well(service, host));
    // With systemd its folder goes with it.
    everywhere(&|host| {
        service.stop_daemon(host, "sshd").unwrap();
        service.sh(host, "mv /run/sshd /run/sshd.gone");
    });
    each(&|host| told(service, host, "ssh", "nobody listens on port 22"));
    everywhere(&|host| {
        service.sh(host, "mv /run/sshd.gone /run/sshd");
        service.start_daemon(host, "sshd").unwrap();
    });
    each(&|host| well(service, host));
}

#[test]
fn what_a_broker_finds_out_of_a_host_is_told_too() {
    let service = Service::up("shares-found");
    let [one, two] = AGENTS;
    let sh = |host: &str, line: &str| service.sh(host, line);
    let only = |agents: &str| {
        let agents = format!("/vsmserver/subclusters/Default/agents={agents}");
        service.configure(BROKER, "vsmserver", &[&agents]);
    };
    only(two);
    let alice = service.connect("alice");
    assert_eq!(alice.agent, two);
    only(one);
    told(&service, two, "no-subcluster", "takes no new sessions");
    let bob = service.connect("bob");
    assert_eq!(bob.agent, one);
    only("agent1 agent2");
    well(&service, two);

    // A file that nobody can remove, in the folder of a desktop whose monitor is killed.
    let stuck = format!("/run/vsm/sessions/{}/stuck", alice.session);
    sh(
        two,
        &format!("touch {stuck}; chattr +i {stuck}; kill -9 {}", service.processes(&alice).monitor),
    );
    told(&service, two, "remains", &alice.session);
    sh(two, &format!("chattr -i {stuck}; rm -rf /run/vsm/sessions/{}", alice.session));
    service.restart_daemon(two, "vsmagent").unwrap();
    well(&service, two);

    // The table is lost while one host is away, and a new one is in use when that comes back with a desktop.
    service.stop_daemon(one, "vsmagent").unwrap();
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    sh(BROKER, "rm /var/lib/vsm/vsm.db*");
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.agents_are("up", &[two]);
    assert_eq!(service.connect("carol").agent, two);
    service.start_daemon(one, "vsmagent").unwrap();
    told(&service, one, "refused", "it serves the brokers of another table");
    sh(one, &format!("kill -9 {}", service.processes(&bob).monitor));
    service.restart_daemon(one, "vsmagent").unwrap();
    well(&service, one);
}

#[test]
fn what_is_wrong_with_a_broker_is_told_until_it_is_mended() {
    let service = Service::up("shares-broker");
    let sh = |line: &str| service.sh(BROKER, line);
    well(&service, BROKER);

    refuse(&service, BROKER, "vsmserver");
    told(&service, BROKER, "configuration", BAD);
    mend(&service, BROKER, "vsmserver");
    well(&service, BROKER);

    sh(
        "d=/etc/vsm/sessionstartup.d; mkdir -p $d; echo '#!/bin/sh' > $d/10-open; chmod 777 $d/10-open",
    );
    service.connect("alice");
    told(&service, BROKER, "hooks", "10-open");
    sh("rm /etc/vsm/sessionstartup.d/10-open");
    service.connect("bob");
    well(&service, BROKER);

    // A configuration that is refused is worth a mail.
    let mail = ["/vsmserver/admin_email=root", "/vsmserver/mail_program=/bin/false"];
    service.configure(BROKER, "vsmserver", &mail);
    refuse(&service, BROKER, "vsmserver");
    mend(&service, BROKER, "vsmserver");
    told(&service, BROKER, "mail", "/bin/false");
    service.configure(BROKER, "vsmserver", &["/vsmserver/mail_program=/bin/true"]);
    refuse(&service, BROKER, "vsmserver");
    mend(&service, BROKER, "vsmserver");
    well(&service, BROKER);

    what_a_broker_finds_at_a_start(&service);
    while_the_user_database_hangs(&service);
}

fn while_the_user_database_hangs(service: &Service) {
    let sh = |line: &str| service.sh(BROKER, line);
    limits::no_ssh(service);
    sh("cd /etc; cp passwd passwd.good; mkfifo -m 644 passwd.fifo; mv passwd.fifo passwd");
    // So that it has to be asked again.
    service.configure(BROKER, "vsmserver", &["/vsmserver/allowed_groups=alice"]);
    drop(limits::by_uid(service, limits::ALICE, &["list"]));
    told(service, BROKER, "users", "the user database does not answer");
    sh(
        "cd /etc; mv passwd passwd.old; cp passwd.good passwd; timeout 1 sh -c 'exec 3<>passwd.old'; true",
    );
    service.configure(BROKER, "vsmserver", &["/vsmserver/allowed_groups="]);
    // One whom it was not asked about lately.
    service.connect("carol");
    well(service, BROKER);
}

fn what_a_broker_finds_at_a_start(service: &Service) {
    let sh = |line: &str| service.sh(BROKER, line);
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    sh(
        "rm -f /run/vsm/vsmserver-relay.sock; mkdir -p /run/vsm/vsmserver-relay.sock/x; printf rubbish > /var/lib/vsm/vsm.db; rm -f /var/lib/vsm/vsm.db-*",
    );
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.until(BROKER, "vsmctl status");
    told(service, BROKER, "socket", "cannot be led to session hosts");
    told(service, BROKER, "table", "vsm.db.damaged-");
    sh("rm -r /run/vsm/vsmserver-relay.sock; rm /var/lib/vsm/vsm.db.damaged-*");
    service.restart_daemon(BROKER, "vsmserver").unwrap();
    service.until(BROKER, "vsmctl status");
    well(service, BROKER);
}

/// A witness that is there, and cannot write what it is to keep.
fn a_witness_that_errs(
    pair: &Pair,
    active: &str,
    standby: &str,
    status: impl Fn(&str) -> (Option<i32>, String),
) {
    let full = Fault::DiskFull { host: "agent3".to_owned() };
    let mut faults = Fault::partition(active, standby, xtask::cluster::Traffic::All).to_vec();
    faults.push(full);
    for fault in &faults {
        pair.fault(fault).unwrap();
    }
    let bob = pair.login("bob");
    wait_for("agent3 to be told for a witness that errs", WAIT, || {
        // Cut off from it, the standby may take over from an active node that is starved meanwhile.
        let texts = [active, standby].map(|node| status(node).1);
        let tells = |text: &String| {
            let line = text.lines().find(|line| line.starts_with("agent3")).unwrap_or_default();
            line.contains("NO VOTE") && line.contains("cannot keep the promise")
        };
        if texts.iter().any(tells) { Ok(()) } else { Err(texts.join("\n")) }
    })
    .unwrap();
    for fault in &faults {
        pair.heal_fault(fault).unwrap();
    }
    pair.in_step();
    pair.same("bob", &bob);
}

/// The clock of the other node is wrong, which is one line in the list.
fn clocks_that_differ(
    pair: &Pair,
    active: &str,
    standby: &str,
    status: impl Fn(&str) -> (Option<i32>, String),
) {
    let clock = Fault::Clock { host: standby.to_owned(), step_s: 120 };
    pair.fault(&clock).unwrap();
    let clocks = |text: &str| {
        text.lines().filter(|line| line.contains("clock") && line.contains("NTP")).count()
    };
    wait_for("the clocks to be told", WAIT, || {
        let (code, text) = status(active);
        let told = text.contains("the clock of the other node is 1");
        // Either node says so of the other one.
        if code == Some(1) && told && clocks(&text) <= 2 { Ok(()) } else { Err(text) }
    })
    .unwrap();
    pair.heal_fault(&clock).unwrap();
    wait_for("the clocks to be one again", WAIT, || match status(active) {
        (Some(0), _) => Ok(()),
        (_, text) => Err(text),
    })
    .unwrap();
}

/// Both nodes say it, also the standby, which asks nobody for a vote.
#[test]
fn a_witness_that_has_no_vote_is_told_by_both_nodes() {
    let pair = Pair::up("shares-pair");
    let (active, standby) = pair.in_step();
    let status = |node: &str| {
        let list = pair.exec(node, "root", &["vsmctl", "ha", "status", "--exit-code"]).unwrap();
        (list.status.code(), String::from_utf8_lossy(&list.stdout).into_owned())
    };
    let well = |node: &str| {
        wait_for("nothing to be left to do", WAIT, || match status(node) {
            (Some(0), _) => Ok(()),
            (_, text) => Err(text),
        })
        .unwrap();
    };
    // The address takes a moment.
    well(active);
    // The standby is cut off, so that nothing is mended.
    let cut = Fault::partition(active, standby, xtask::cluster::Traffic::All);
    for fault in &cut {
        pair.fault(fault).unwrap();
    }
    pair.stop_daemon("agent2", "vsmagent").unwrap();
    pair.sh("agent2", "printf rubbish > /var/lib/vsm-agent/promise");
    pair.start_daemon("agent2", "vsmagent").unwrap();
    for node in [active, standby] {
        wait_for(&format!("{node} to say that agent2 has no vote"), WAIT, || {
            let (code, text) = status(node);
            let line = text.lines().find(|line| line.starts_with("agent2")).unwrap_or_default();
            let todo = text.contains("witness agent2 does not vote");
            if code == Some(1) && line.contains("NO VOTE") && todo { Ok(()) } else { Err(text) }
        })
        .unwrap();
    }
    for fault in &cut {
        pair.heal_fault(fault).unwrap();
    }
    let (active, standby) = pair.in_step();
    for node in [active, standby] {
        well(node);
    }
    a_witness_that_errs(&pair, active, standby, status);
    clocks_that_differ(&pair, active, standby, status);
    let dead = Fault::KeepalivedDead { host: standby.to_owned() };
    pair.fault(&dead).unwrap();
    wait_for("the standby to miss keepalived", WAIT, || {
        let (_, text) = status(active);
        if text.contains("keepalived does not run here any more") { Ok(()) } else { Err(text) }
    })
    .unwrap();
    pair.heal_fault(&dead).unwrap();
    // The address does not resolve any more: the node that has it keeps it, and says so.
    pair.sh(active, "sed -i '/tlha$/d; s/ tlha / /; s/ tlha$//' /etc/hosts");
    wait_for("the address to be told", WAIT, || {
        let (_, text) = status(active);
        if text.contains("/vsmserver/HA/resource_address tlha does not resolve") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .unwrap();
}
