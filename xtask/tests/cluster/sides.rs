//! The split-brain cases in which agents are on one side and not on the other, by their numbers in the table of known
//! faults. Case 19, an epoch beyond all reason, is in the tests of `vsm-sync` (`bad_input`).

use std::process::Output;

use xtask::clock::wait_for;
use xtask::cluster::{Fault, Traffic};
use xtask::pair::{self, Desktop};

use crate::pair_of_brokers::{Pair, WAIT, host};

/// A login at one node by its own name, without another try.
fn direct(pair: &Pair, user: &str, node: &str) -> Output {
    let to = format!("{user}@{node}");
    let words = ["timeout", "40", "vsm", "connect", "--retry-for=0", "--no-viewer", "--json", &to];
    pair.exec("client", user, &words).unwrap()
}

fn desktop(output: &Output) -> Result<Desktop, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Waits until a login at a node is refused as it has no votes or is not active.
fn refused(pair: &Pair, user: &str, node: &str) {
    wait_for(&format!("{node} to refuse {user}"), WAIT, || {
        let output = direct(pair, user, node);
        match output.status.code() {
            Some(69) => Ok(()),
            code => Err(format!("{code:?}: {:?}", desktop(&output))),
        }
    })
    .unwrap();
}

/// Waits until a login at a node works.
fn served(pair: &Pair, user: &str, node: &str) -> Desktop {
    wait_for(&format!("{node} to serve {user}"), WAIT, || desktop(&direct(pair, user, node)))
        .unwrap()
}

/// Has a node make a desktop for a user who has none; a second login there gets the same one.
///
/// The first may be told to try again while its desktop is being made: the other node, which has the address, can win a
/// single witness over for a moment, and what was under way then is answered as unknown. So which of the logins says
/// that it made the desktop is open.
fn made(pair: &Pair, user: &str, node: &str) -> Desktop {
    let has = pair::rows(pair, node).unwrap().iter().any(|row| row.user == user);
    assert!(!has, "{user} has a desktop already");
    let desktop = served(pair, user, node);
    assert_eq!(served(pair, user, node).session, desktop.session);
    desktop
}

fn cut(pair: &Pair, one: &str, others: &[&str]) {
    for other in others {
        for cut in Fault::partition(one, other, Traffic::All) {
            pair.inject(cut);
        }
    }
}

/// The other two agents.
fn others(agent: &str) -> Vec<&'static str> {
    ["agent1", "agent2", "agent3"].into_iter().filter(|other| *other != agent).collect()
}

/// Case 6: the old active node with one agent and the users, the other one with most agents.
#[test]
fn case_6_the_old_active_node_keeps_a_minority_of_the_agents() {
    let pair = Pair::up("split-6");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    cut(&pair, active, &others(&alice.agent));
    cut(&pair, active, &[standby]);
    refused(&pair, "bob", active);
    assert_eq!(served(&pair, "alice", active).session, alice.session, "what runs can be reached");
    let carol = made(&pair, "carol", standby);
    pair.heal_all();
    pair.same("carol", &carol);
    pair.same("alice", &alice);
    pair.all_agree();
    pair.one_each();
}

/// Case 7: the active node keeps most agents, the other one has the rest and, as VRRP is cut too, the address.
#[test]
fn case_7_the_active_node_keeps_the_witnesses() {
    let pair = Pair::up("split-7");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    cut(&pair, standby, &others(&alice.agent));
    cut(&pair, standby, &[active]);
    let bob = made(&pair, "bob", active);
    refused(&pair, "carol", standby);
    assert_eq!(served(&pair, "alice", standby).session, alice.session, "what runs can be reached");
    pair.heal_all();
    pair.same("bob", &bob);
    pair.all_agree();
    pair.one_each();
}

/// Case 13: an agent that nobody reaches: its sessions are not gone, and its users are told.
#[test]
fn case_13_an_agent_is_cut_from_both_brokers() {
    let pair = Pair::up("split-13");
    let (active, _) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::Cable { host: alice.agent.clone() });
    refused(&pair, "alice", active);
    let said = String::from_utf8_lossy(&direct(&pair, "alice", active).stderr).into_owned();
    assert!(said.contains(&alice.agent), "{said}");
    pair.heal_all();
    wait_for("the same desktop", WAIT, || match pair::login(&pair, "alice", 20) {
        Ok(now) if now.session == alice.session => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    pair.all_agree();
}

/// Case 14: an agent dies while the active broker does: its user is told and not given a second desktop.
#[test]
fn case_14_an_agent_dies_during_a_failover() {
    let pair = Pair::up("split-14");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::Power { host: host(active) });
    pair.inject(Fault::Power { host: alice.agent.clone() });
    pair.serves(standby);
    refused(&pair, "alice", standby);
    let rows = pair::rows(&pair, standby).unwrap();
    assert!(rows.iter().any(|row| row.session == alice.session), "it is not forgotten: {rows:?}");
    pair.login("bob");
    pair.heal_all();
    pair.all_agree();
    pair.one_each();
}
