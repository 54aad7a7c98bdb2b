//! Sites whose users cannot reach session hosts: their ssh goes through the broker's host, where all forwarding stays
//! forbidden.

use std::process::Stdio;

use crate::one_login::{connect, has_picture, one_password, sshd, strict};
use crate::service::{AGENTS, BROKER, Row, SIGKILL, Service};
use crate::{on, pair};

/// Cuts the way from the client to the session hosts.
pub(crate) fn cut_off(service: &Service) {
    for host in ["10.0.0.11", "10.0.0.12"] {
        service.sh("client", &format!("ip route add unreachable {host}"));
    }
    let reached = service.exec("client", "alice", &["ssh", "-s", "agent1", "vsm"]).unwrap();
    assert_eq!(reached.status.code(), Some(255), "the client still reaches agent1");
}

fn is_connected(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.user == "alice" && row.state == "connected")
}

#[test]
fn users_reach_their_desktops_through_the_broker_and_log_in_once() {
    let service = strict("bastion");
    cut_off(&service);
    let output = connect(&service, "", &[]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    service.configure(BROKER, "vsmserver", &["/vsmserver/bastion=true"]);
    service.sh("client", "mv /home/alice/.ssh/id_ed25519 /home/alice/own-key");
    one_password(&service);

    // Without one-time keys it takes the user's own way in, at each of the hosts.
    service.sh("client", "mv /home/alice/own-key /home/alice/.ssh/id_ed25519");
    service.configure(BROKER, "vsmserver", &["/vsmserver/one_login=false"]);
    for host in [BROKER, AGENTS[0], AGENTS[1]] {
        sshd(&service, host, "");
    }
    let own = ["-o", "StrictHostKeyChecking=no", "-o", "User=alice"];
    let output = connect(&service, "", &own);
    has_picture(&service, &output);

    // A desktop that is viewed does not need the broker.
    let sleeper = "printf '#!/bin/sh\\nexec sleep 1000\\n' > /usr/local/bin/sleeper; chmod 755 /usr/local/bin/sleeper";
    service.sh("client", sleeper);
    let words = [
        &["vsm", "connect", "--viewer", "/usr/local/bin/sleeper"][..],
        &own[..],
        &["alice@tlha"][..],
    ];
    let mut command = service.command("client", "alice", &words.concat()).unwrap();
    let mut viewed = command.stdin(Stdio::null()).spawn().unwrap();
    service.rows_become("alice to be connected", is_connected);
    service.crash(BROKER, "vsmserver");
    service.agents_are("up", &AGENTS);
    service.rows_become("alice to be connected still", is_connected);
    assert!(viewed.try_wait().unwrap().is_none(), "the viewer has ended with the broker");
    let row = service.rows().into_iter().find(|row| row.user == "alice").unwrap();
    // From where the session host sees it come.
    assert_eq!(row.viewer.as_deref(), Some("10.0.0.2"));
    service.sh("client", "kill $(pgrep -f '^sleep 1000')");
    viewed.wait().unwrap();
    service.rows_become("alice to be disconnected", |rows| !is_connected(rows));
}

#[test]
fn one_who_may_shadow_is_led_to_that_desktop() {
    let service = Service::up("led-look");
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/shadowing/shadowing_mode=silent"]);
    }
    let settings = ["/shadowing/allowed_shadowers=carol", "/vsmserver/bastion=true"];
    service.configure(BROKER, "vsmserver", &settings);
    let alice = service.connect("alice");
    cut_off(&service);
    let words = ["vsm", "shadow", "--screenshot", "/tmp/look.png", "carol@tlha", "alice"];
    let looked = service.exec("client", "carol", &words).unwrap();
    assert!(looked.status.success(), "{looked:?}");
    // Bob, who may not, is not.
    let line = format!("printf 'vsm/1 relay {}\\n' | ssh -s tlha vsm | head -n 1", alice.session);
    let answer = service.output("client", "bob", &["sh", "-c", &line]).unwrap();
    assert!(answer.starts_with("error no-session"), "{answer}");
    // What bob tries is in the trail.
    let end = ["vsm", "end", "--session", &alice.session, "bob@tlha"];
    assert!(!service.exec("client", "bob", &end).unwrap().status.success());
    service.until(BROKER, "vsmctl events --user bob | grep end-refused");
}

#[test]
fn nobody_is_led_anywhere_but_to_their_own_desktop() {
    let service = strict("led");
    let bob = service.connect("bob");
    let alice = service.connect_with("alice", &[]);
    let asks = |id: &str| {
        let line =
            format!("printf 'vsm/1 relay {id}\\n' | ssh -s tlha vsm | head -c 200 | head -n 1");
        service.output("client", "alice", &["sh", "-c", &line]).unwrap()
    };
    let answer = asks(&alice.session);
    assert!(
        answer.starts_with("error refused") && answer.contains("/vsmserver/bastion"),
        "{answer}"
    );
    service.configure(BROKER, "vsmserver", &["/vsmserver/bastion=true"]);
    assert_eq!(asks(&alice.session), "ok");
    assert!(asks(&bob.session).starts_with("error no-session"), "{}", asks(&bob.session));
    assert!(asks("x").starts_with("error bad-request"));
    // A host that is not there is named, and nobody waits for long.
    service.sh(&alice.agent, "ip link set eth0 down");
    let answer = asks(&alice.session);
    assert!(answer.starts_with("error no-host") && answer.contains(&alice.agent), "{answer}");
}

#[test]
fn the_standby_leads_the_way_as_well() {
    let cluster = pair("bastion-pair");
    let host = ["tlha-primary", "tlha-secondary"];
    for host in host {
        on(&cluster, host, &["vsm-config", "/vsmserver/bastion=true"]);
        on(&cluster, host, &["vsmctl", "reload"]);
    }
    for agent in ["10.0.0.11", "10.0.0.12", "10.0.0.13"] {
        on_root(&cluster, &["ip", "route", "add", "unreachable", agent]);
    }
    let mut desktops = Vec::new();
    for host in host {
        let to = format!("alice@{host}");
        let words = ["vsm", "connect", "--json", "--screenshot", "/tmp/a.png", &to];
        let report = cluster.output("client", "alice", &words).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        desktops.push(report["session"].clone());
    }
    assert_eq!(desktops[0], desktops[1]);
    // And after the failure of the one that was active.
    cluster.kill_daemon("tlha-primary", "vsmserver", SIGKILL).unwrap();
    let words = ["vsm", "connect", "--screenshot", "/tmp/a.png", "alice@tlha"];
    cluster.output("client", "alice", &words).unwrap();
}

fn on_root(cluster: &xtask::cluster::Cluster, words: &[&str]) {
    cluster.output("client", "root", words).unwrap();
}
