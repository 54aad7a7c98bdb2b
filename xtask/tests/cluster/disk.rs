//! Full disks: who has a desktop keeps it and reaches it, new ones are refused with the reason, and
//! all is well again when there is room.

use crate::service::{AGENTS, BROKER, Service};

const SOFTWARE: i32 = 70;
const TRY_LATER: i32 = 75;

/// A small disk of its own below `dir`, which the daemon starts on.
fn small_disk(service: &Service, host: &str, daemon: &str, dir: &str) {
    service.stop_daemon(host, daemon).unwrap();
    let mount = format!("mkdir -p {dir} && mount -t tmpfs -o size=2m,mode=700 small {dir}");
    service.sh(host, &mount);
    service.start_daemon(host, daemon).unwrap();
}

/// Fills the disk to the last page but `left` pages of 4 KiB.
fn fill(service: &Service, host: &str, dir: &str, left: u32) {
    let line = format!(
        "cd {dir}; rm -f fill*; head -c {} /dev/zero > fill.rest; cat /dev/zero > fill 2>/dev/null; \
         rm fill.rest; df --output=avail . | tail -1",
        left * 4096
    );
    let available: u32 = service.sh(host, &line).trim().parse().unwrap();
    assert!(available <= left * 4, "{available} KiB are left");
}

fn make_room(service: &Service, host: &str, dir: &str) {
    service.sh(host, &format!("rm {dir}/fill*"));
}

#[test]
fn a_full_disk_on_the_agents_stops_new_desktops_only() {
    const DIR: &str = "/var/lib/vsm-agent";
    let service = Service::up("disk-agent");
    for agent in AGENTS {
        small_disk(&service, agent, "vsmagent", DIR);
    }
    service.agents_are("up", &AGENTS);
    let (alice, bob) = (service.connect("alice"), service.connect("bob"));
    for agent in AGENTS {
        fill(&service, agent, DIR, 0);
    }
    service.refused_cleanly("carol", SOFTWARE, &["No space left on device", "on agent"]);
    for (user, desktop) in [("alice", &alice), ("bob", &bob)] {
        let again = service.connect(user);
        assert_eq!((&again.session, again.created), (&desktop.session, false));
    }
    // A restart does not need to write either, and what is ended stays ended.
    for agent in AGENTS {
        service.crash(agent, "vsmagent");
    }
    service.agents_are("up", &AGENTS);
    assert_eq!(service.connect("alice").session, alice.session);
    service.end("alice");
    for agent in AGENTS {
        make_room(&service, agent, DIR);
    }
    let next = service.connect("alice");
    assert!(next.created && next.session != alice.session);
    assert!(service.connect("carol").created);
    assert_eq!(service.connect("bob").session, bob.session);
    // The one that could not be ended goes when its agent is asked again.
    service.rows_become("three sessions", |rows| rows.len() == 3);
}

#[test]
fn a_full_disk_on_the_broker_stops_new_desktops_only() {
    const DIR: &str = "/var/lib/vsm";
    let service = Service::up("disk-broker");
    small_disk(&service, BROKER, "vsmserver", DIR);
    service.agents_are("up", &AGENTS);
    let alice = service.connect("alice");
    fill(&service, BROKER, DIR, 0);
    service.refused_cleanly("bob", TRY_LATER, &["cannot record new desktops"]);
    let again = service.connect("alice");
    assert_eq!((&again.session, again.created), (&alice.session, false));
    make_room(&service, BROKER, DIR);
    assert!(service.connect("bob").created);
    service.end("bob");
    full_at_any_step(&service, DIR);
    assert_eq!(service.connect("alice").session, alice.session);
}

/// The disk gets full at each of the writes that a login consists of.
fn full_at_any_step(service: &Service, dir: &str) {
    let mut refused = 0;
    for left in 1..=8 {
        fill(service, BROKER, dir, left);
        refused += usize::from(!service.try_connect("bob").status.success());
        make_room(service, BROKER, dir);
        let bob = service.connect("bob");
        let mine = |rows: &[crate::service::Row]| {
            let mut mine = rows.iter().filter(|row| row.user == "bob");
            mine.next().is_some_and(|row| row.session == bob.session) && mine.next().is_none()
        };
        service.rows_become("bob's one session", mine);
        service.end("bob");
        for agent in AGENTS {
            let servers = "pgrep -c Xtigervnc; true";
            let table = service.rows().iter().filter(|row| row.agent == agent).count();
            let found = service.sh(agent, servers);
            assert_eq!(found, table.to_string(), "X servers on {agent}, {left} pages left");
        }
    }
    assert!(refused > 0, "the disk was never full");
}
