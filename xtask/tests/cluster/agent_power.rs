//! What brokers speak to on a session host, and what keeps the desktops there: the first is no root and gets nothing of
//! it, and each dies and comes back while users go on.

use xtask::clock::wait_for;

use crate::least_power::no_power;
use crate::service::{AGENTS, BROKER, Service, WAIT};

const NET: &str = "vsm-agent-net";

#[test]
fn what_brokers_speak_to_on_a_session_host_is_no_root_and_reads_nothing_of_others() {
    let service = Service::up("agent-power");
    let alice = service.connect("alice");
    let sh = |line: &str| service.sh(&alice.agent, line);
    no_power(&service, &alice.agent, NET, "vsmagent");
    // What it may not do, each with a control: root may.
    let dir = format!("/run/vsm/sessions/{}", alice.session);
    for line in [
        "cat /etc/shadow".to_owned(),
        "cat /etc/ssh/ssh_host_ed25519_key".to_owned(),
        "ls /var/lib/vsm-agent".to_owned(),
        format!("ls {dir}/user"),
        "touch /etc/vsm/conf.d/x.yaml".to_owned(),
        "touch /etc/vsm/pki/x".to_owned(),
        "test -w /etc/vsm/pki/host.key".to_owned(),
        "touch /run/vsm/agent/x".to_owned(),
    ] {
        sh(&format!("! runuser -u vsmagent -- sh -c '{line}' 2>/dev/null"));
        sh(&line);
    }
    sh("rm -f /etc/vsm/conf.d/x.yaml; runuser -u vsmagent -- cat /etc/vsm/pki/host.key");
    sh("! runuser -u bob -- cat /etc/vsm/pki/host.key 2>/dev/null");
    sh("! runuser -u bob -- ls /run/vsm/agent/ 2>/dev/null");
    // Root has neither the port nor the key.
    let held = sh("ss -Hltnp 'sport = :904'");
    assert!(held.contains(NET) && !held.contains("\"vsmagent\""), "{held}");
    // A key that an administrator copies as root is in use by a reload.
    sh("cd /etc/vsm/pki; install -m 600 -o root -g root host.key new; mv new host.key");
    service.reload(&alice.agent, "vsmagent", "configuration read again");
    service.until(&alice.agent, "runuser -u vsmagent -- cat /etc/vsm/pki/host.key");
    service.agents_are("up", &AGENTS);
    // One that begins before the key is readable tries again.
    sh("cd /etc/vsm/pki; install -m 600 -o root -g root host.key new; mv new host.key");
    service.crash(&alice.agent, NET);
    service.agents_are("up", &AGENTS);
    assert_eq!(service.connect("alice").session, alice.session);
}

#[test]
fn each_part_of_an_agent_dies_and_comes_back_and_logins_go_on() {
    let service = Service::up("agent-parts");
    let alice = service.connect("alice");
    let monitor = service.processes(&alice).monitor;
    let pid = |daemon: &str| service.daemon(&alice.agent, daemon).unwrap().pid;
    for (dies, stays) in [("vsmagent", NET), (NET, "vsmagent")] {
        let other = pid(stays);
        service.crash(&alice.agent, dies);
        service.agents_are("up", &AGENTS);
        let again = service.connect("alice");
        assert_eq!((&again.session, again.created), (&alice.session, false), "{dies}");
        service.undisturbed(&alice.agent, stays, other);
        assert_eq!(service.processes(&alice).monitor, monitor);
    }
    // Away for longer, it is told why, and others get desktops elsewhere.
    let agent = alice.agent.as_str();
    service.sh(agent, "pkill -STOP -x vsmagent");
    wait_for("the broker to know why", WAIT, || {
        let list = service.sh(BROKER, "vsmctl agent list");
        if list.contains("systemctl status vsmagent") { Ok(()) } else { Err(list) }
    })
    .unwrap();
    assert_ne!(service.connect("bob").agent, alice.agent);
    service.sh(agent, "pkill -CONT -x vsmagent");
    service.agents_are("up", &AGENTS);
    // A stop takes both along, and a start brings both.
    let before = pid(NET);
    service.restart_daemon(agent, "vsmagent").unwrap();
    service.agents_are("up", &AGENTS);
    assert_ne!(pid(NET), before);
    assert_eq!(service.connect("alice").session, alice.session);
    // What comes back soon is not worth a word; what does not is told, once.
    let told =
        || service.daemon_log(agent, "vsmagent").matches("vsm-agent-net is not there").count();
    assert_eq!(told(), 0);
    service.stop_daemon(agent, NET).unwrap();
    wait_for("vsmagent to say it", WAIT, || {
        if told() == 1 { Ok(()) } else { Err(format!("{} times", told())) }
    })
    .unwrap();
    service.start_daemon(agent, NET).unwrap();
    service.agents_are("up", &AGENTS);
    assert_eq!(service.connect("alice").session, alice.session);
    assert_eq!(told(), 1);
}
