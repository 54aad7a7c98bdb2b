//! A session host in maintenance: `/etc/nologin` is there, so its sshd lets in nobody but root.

use serde_json::Value;
use xtask::clock::wait_for;

use crate::on;
use crate::service::{AGENTS, BROKER, Service, WAIT};

const UNAVAILABLE: i32 = 69;

/// Waits until the broker has this to say of a host.
fn told(service: &Service, agent: &str, text: Option<&str>) {
    wait_for(&format!("{agent} to tell {text:?}"), WAIT, || {
        let shown = on(&service.0, BROKER, &["vsmctl", "agent", "show", agent, "--output", "json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        if shown["maintenance"].as_str() == text { Ok(()) } else { Err(shown.to_string()) }
    })
    .unwrap();
}

#[test]
fn a_host_in_maintenance_is_passed_over_and_says_why() {
    passed_over(&Service::up("nologin"));
}

pub(crate) fn passed_over(service: &Service) {
    let alice = service.connect("alice");
    let other = AGENTS.into_iter().find(|agent| *agent != alice.agent).unwrap();
    service.sh(&alice.agent, "echo 'new disks until noon' > /etc/nologin");
    told(service, &alice.agent, Some("new disks until noon"));
    let list = on(&service.0, BROKER, &["vsmctl", "agent", "list"]);
    assert!(list.contains("in maintenance: new disks until noon"), "{list}");

    // Whose only desktop is there hears why; it goes on. The others get theirs elsewhere.
    service.refused("alice", UNAVAILABLE, &[&alice.agent, "new disks until noon"]);
    assert_eq!(service.connect("bob").agent, other);
    // One that comes up so says it at once.
    service.crash(&alice.agent, "vsmagent");
    service.agents_are("up", &[&alice.agent]);
    told(service, &alice.agent, Some("new disks until noon"));
    // No other is left.
    service.sh(other, "touch /run/nologin");
    told(service, other, Some(""));
    service.refused(
        "carol",
        UNAVAILABLE,
        &["in maintenance: new disks until noon", "in maintenance"],
    );

    service.sh(&alice.agent, "rm /etc/nologin");
    service.sh(other, "rm /run/nologin");
    for agent in AGENTS {
        told(service, agent, None);
    }
    assert_eq!(service.connect("alice").session, alice.session);
}
