//! The lives of a pair: how it is formed, what it is when a node does not know itself, and what becomes of it when
//! disks are lost and old copies come back. Faults found from outside, A1 to A8.

use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::{Fault, Traffic};
use xtask::pair::{self, NODES};

use crate::pair_of_brokers::{Pair, WAIT, host};

const NAMES: &str = "'/vsmserver/HA/nodes=tlha-primary tlha-secondary'";

/// Waits until a node says that it stands apart; why.
fn stands_apart(pair: &Pair, node: &str) -> String {
    wait_for("the node to stand apart", WAIT, || match pair::node(pair, node) {
        Ok(told) if told.role == "apart" => Ok(told.ha_off.unwrap_or_default()),
        other => Err(format!("{other:?}")),
    })
    .unwrap()
}

/// The counter of a node's highest promise.
fn counter(pair: &Pair, node: &str) -> u64 {
    let words = ["timeout", "10", "vsmctl", "ha", "status", "--output", "json"];
    let text = pair.output(node, "root", &words).unwrap();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let promised = status["nodes"][0]["promised"].as_str().unwrap_or("0@");
    promised.split('@').next().unwrap().parse().unwrap()
}

/// A1: the wrong name is mended, and what the other node did meanwhile stays: a drain, a desktop that was abandoned and
/// the one that took its place, a login.
#[test]
fn a_wrong_name_is_mended_and_nothing_is_lost() {
    let pair = Pair::up("wrong-name");
    pair.sh("tlha-primary", "vsmctl ha takeover || true");
    pair.serves("tlha-primary");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let carol = pair.login("carol");
    pair.sh(standby, "vsm-config '/vsmserver/HA/nodes=tlha-primary tlha-secondry'");
    pair.restart_daemon(standby, "vsmserver").unwrap();
    let why = stands_apart(&pair, standby);
    assert!(why.contains("tlha-secondry"), "{why}");
    let health = pair.exec(standby, "root", &["vsmctl", "ha", "health"]).unwrap();
    assert!(!health.status.success(), "the address may not be here: {health:?}");
    let check = pair.exec(standby, "root", &["vsmctl", "ha", "check"]).unwrap();
    assert!(String::from_utf8_lossy(&check.stdout).contains("tlha-secondry"), "{check:?}");

    pair.inject(Fault::Freeze { host: carol.agent.clone() });
    let others: Vec<_> =
        ["agent1", "agent2", "agent3"].into_iter().filter(|name| *name != carol.agent).collect();
    let drained = others.into_iter().find(|name| *name != alice.agent).unwrap_or(&alice.agent);
    pair.sh(active, &format!("vsmctl agent drain {drained} --force"));
    wait_for("the silent desktop to be abandoned", WAIT, || {
        let end = ["vsmctl", "session", "terminate", "-y", "--user=carol", "--allow-abandon"];
        let done = pair.exec(active, "root", &end).unwrap();
        if done.status.success() { Ok(()) } else { Err(format!("{done:?}")) }
    })
    .unwrap();
    let second = pair.login("carol");
    assert_ne!(second.session, carol.session);
    let bob = pair.login("bob");

    pair.sh(standby, &format!("vsm-config {NAMES}"));
    pair.restart_daemon(standby, "vsmserver").unwrap();
    pair.heal_all();
    pair.all_agree();
    assert_eq!(pair::active(&pair), [active], "the mended one follows");
    let listed = pair.sh(active, "vsmctl agent list");
    let row = listed.lines().find(|line| line.starts_with(drained)).unwrap_or_default();
    assert!(row.contains("draining"), "{listed}");
    pair.same("alice", &alice);
    pair.same("bob", &bob);
    pair.same("carol", &second);
    pair.one_each();
}

/// A1: HA that is switched off on one node of a pair makes no second server of it.
#[test]
fn ha_that_is_switched_off_on_one_node_makes_no_second_server() {
    let pair = Pair::up("switched-off");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for node in [standby, active] {
        pair.sh(node, "vsm-config /vsmserver/HA/enabled=false");
        pair.restart_daemon(node, "vsmserver").unwrap();
        let why = stands_apart(&pair, node);
        assert!(why.contains("/vsmserver/HA/enabled") && why.contains("--leave-pair"), "{why}");
        pair.sh(node, "vsm-config /vsmserver/HA/enabled=true");
        pair.restart_daemon(node, "vsmserver").unwrap();
        pair.in_step();
    }
    pair.same("alice", &alice);
    pair.all_agree();

    // Where the other one is to serve no more, one command makes a single server of this one.
    let (active, standby) = pair.in_step();
    pair.stop_daemon(standby, "vsmserver").unwrap();
    pair.stop_daemon(active, "vsmserver").unwrap();
    let said = pair.sh(active, "vsm-config /vsmserver/HA/enabled=false; vsmserver --leave-pair");
    let life = said.split_once("(epoch ").unwrap().1;
    assert!(said.contains("the table in /var/lib/vsm, a pair's, with "), "{said}");
    assert!(life.split(')').next().unwrap().contains(&format!("@{active}")), "{said}");
    assert!(said.contains(&format!("vsmserver of {standby} must serve no more")), "{said}");
    pair.start_daemon(active, "vsmserver").unwrap();
    pair.sh(active, "! ls /var/lib/vsm/vsm.db.replaced-*");
    pair.same("alice", &alice);
    let bob = pair.login("bob");
    pair.sh(active, "vsmctl session terminate -y --user=alice");
    pair.sh(active, "vsmctl agent drain agent1 --force");

    // The pair is wanted again, and the node that was left starts first, with its copy of before.
    pair.stop_daemon(active, "vsmserver").unwrap();
    pair.sh(active, "vsm-config /vsmserver/HA/enabled=true");
    pair.start_daemon(standby, "vsmserver").unwrap();
    wait_for("the copy to be known for one", WAIT, || {
        let status = pair.sh(standby, "vsmctl ha status; true");
        if status.contains("a former life") { Ok(()) } else { Err(status) }
    })
    .unwrap();
    assert_eq!(pair::active(&pair), [""; 0], "what was done since would be lost");
    pair.start_daemon(active, "vsmserver").unwrap();
    pair.in_step();
    let kept = "ls /var/lib/vsm/vsm.db.replaced-*";
    let kept = pair.sh(standby, kept);
    wait_for("it to be told which table gave way", WAIT, || {
        let status = pair.sh(active, "vsmctl ha status");
        let told = |line: &str| line.contains(standby) && line.contains(&kept);
        if status.lines().any(told) { Ok(()) } else { Err(status) }
    })
    .unwrap();
    let list = pair.sh(standby, "vsmctl agent list");
    let row = list.lines().find(|line| line.starts_with("agent1")).unwrap_or_default();
    assert!(row.contains("draining"), "{list}");
    pair.same("bob", &bob);
    assert_ne!(pair.login("alice").session, alice.session);
    pair.all_agree();
    pair.one_each();
}

/// Lets time pass: when something happens, or that nothing does for so long, is what these tests are about.
#[expect(clippy::disallowed_methods, reason = "the moment itself is what is varied")]
fn pass(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A2: whenever the node that forms a pair is killed, the pair forms all the same.
#[test]
fn a_pair_forms_whenever_the_claimant_is_killed() {
    let pair = Pair::up("forming");
    for moment in 0..20_u64 {
        for node in NODES {
            pair.stop_daemon(node, "vsmserver").unwrap();
            pair.inject(Fault::DiskLost { host: host(node) });
        }
        let claimant = NODES[usize::from(moment % 2 == 1)];
        for node in NODES {
            pair.start_daemon(node, "vsmserver").unwrap();
        }
        pass(moment * 100);
        // One that is not up yet cannot be killed; then there is nothing to see at this moment.
        let _ = pair.kill_daemon(claimant, "vsmserver", 9);
        let served = pair::login(&pair, "alice", 20);
        assert!(served.is_ok(), "killed after {} ms: {served:?}", moment * 100);
    }
    pair.all_agree();
    pair.one_each();
}

/// A4: a host that lost its disk starts desktops within seconds, and the list says meanwhile what it does not do.
#[test]
fn a_session_host_that_lost_its_disk_is_greeted_and_starts_desktops() {
    let pair = Pair::up("new-disk");
    let (active, standby) = pair.in_step();
    for user in ["alice", "bob"] {
        pair.login(user);
    }
    pair.inject(Fault::Freeze { host: host(standby) });
    pair.stop_daemon("agent1", "vsmagent").unwrap();
    pair.inject(Fault::DiskLost { host: host("agent1") });
    pair.start_daemon("agent1", "vsmagent").unwrap();
    // While the other node is away it cannot be made up for.
    wait_for("the list to say so", WAIT, || {
        let list = pair.sh(active, "vsmctl agent list");
        let row = list.lines().find(|line| line.starts_with("agent1")).unwrap_or_default();
        if row.contains("lost what it had promised") { Ok(()) } else { Err(list) }
    })
    .unwrap();
    // The list has it from the agent's report, and this from its answer as a witness.
    wait_for("the broker to hear it as a witness", WAIT, || {
        let status = pair.exec(active, "root", &["vsmctl", "ha", "status"]).unwrap();
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        if status.contains("witness agent1 does not vote") { Ok(()) } else { Err(status) }
    })
    .unwrap();
    for other in ["agent2", "agent3"] {
        pair.sh(active, &format!("vsmctl agent drain {other}"));
    }
    let carol = pair.login("carol");
    assert_eq!(carol.agent, "agent1", "it starts desktops for the active node");
    pair.heal_all();
    pair.in_step();
    wait_for("it to vote again", WAIT, || {
        let list = pair.sh(active, "vsmctl agent list");
        if list.contains("lost what it had promised") { Err(list) } else { Ok(()) }
    })
    .unwrap();
    let log = pair.daemon_log("agent1", "vsmagent");
    let apart = log.lines().filter(|line| line.contains("went back in time")).count();
    assert_eq!(apart, 0, "it was never put aside for a journal that it lost");
    for other in ["agent2", "agent3"] {
        pair.sh(active, &format!("vsmctl agent undrain {other}"));
    }
    pair.all_agree();
}

/// A5: where only the link between the brokers is cut, one reign goes on, and who has no votes gives the address up.
#[test]
fn no_duel_where_only_the_link_between_the_brokers_is_cut() {
    let pair = Pair::up("only-the-link");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for cut in Fault::partition(active, standby, Traffic::All) {
        pair.inject(cut);
    }
    // Without VRRP both take it at first; who notices the cut first may reign from then on.
    for count in [2, 1] {
        wait_for(&format!("{count} holder(s) of the address"), WAIT, || {
            match pair.holders_of(pair.resource_address()) {
                Ok(holders) if holders.len() == count => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap();
    }
    let before = NODES.map(|node| counter(&pair, node)).into_iter().max().unwrap();
    for user in ["alice", "bob", "carol", "alice"] {
        pair.login(user);
        pass(2000);
    }
    let after = NODES.map(|node| counter(&pair, node)).into_iter().max().unwrap();
    assert_eq!(after, before, "nobody disturbs a reign that is alive");
    pair.same("alice", &alice);
    pair.heal_all();
    pair.all_agree();
    pair.one_each();
}

/// A8: both disks are lost, and an old copy of one comes back, with roles and numbers of reigns varied.
#[test]
fn an_old_copy_never_takes_the_place_of_what_was_done_since() {
    let pair = Pair::up("old-copy");
    for round in 0..10_usize {
        let copied = NODES[round % 2];
        // The numbers of reigns of both lives meet in other ways each time.
        for _ in 0..round % 3 {
            let (_, standby) = pair.in_step();
            pair.sh(standby, "vsmctl ha takeover");
            pair.serves(standby);
        }
        let alice = pair.login("alice");
        pair.in_step();
        pair.inject(Fault::DiskSnapshot { host: host(copied) });
        for node in NODES {
            pair.stop_daemon(node, "vsmserver").unwrap();
            pair.inject(Fault::DiskLost { host: host(node) });
        }
        for node in NODES {
            pair.start_daemon(node, "vsmserver").unwrap();
        }
        pair.same("alice", &alice);
        let (active, _) = pair.in_step();
        pair.sh(active, "vsmctl agent drain agent3 --force");
        let bob = pair.login("bob");
        pair.stop_daemon(copied, "vsmserver").unwrap();
        pair.inject(Fault::DiskRollback { host: host(copied) });
        pair.start_daemon(copied, "vsmserver").unwrap();
        pair.heal_all();
        pair.all_agree();
        let (active, _) = pair.in_step();
        let list = pair.sh(active, "vsmctl agent list");
        let row = list.lines().find(|line| line.starts_with("agent3")).unwrap_or_default();
        assert!(row.contains("draining"), "round {round}: {list}");
        pair.same("bob", &bob);
        pair.same("alice", &alice);
        pair.sh(active, "vsmctl agent undrain agent3");
        pair.one_each();
    }
}
