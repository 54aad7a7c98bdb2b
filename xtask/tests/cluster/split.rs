//! The split-brain cases, by their numbers in the table of known faults: two nodes that could both think that they are
//! it, on real keepalived, and what users and agents see of it.

use xtask::clock::wait_for;
use xtask::cluster::{Fault, Traffic};
use xtask::pair;

use crate::pair_of_brokers::{Pair, WAIT, host};

/// Waits until no more than one node says that it is active and has a second vote. Not an instant: the one that was
/// replaced finds out at its next word to anybody, and can commit nothing until then; P7 and P6 are looked at below.
fn one_has_votes(pair: &Pair) {
    let has = |host: &&&str| {
        pair::node(pair, host).is_ok_and(|node| node.role == "active" && node.ready && node.votes)
    };
    wait_for("one node with votes", WAIT, || match pair::NODES.iter().filter(has).count() {
        0 | 1 => Ok(()),
        count => Err(format!("{count} say so")),
    })
    .unwrap();
}

fn holders_become(pair: &Pair, count: usize) {
    wait_for(&format!("the address on {count} nodes"), WAIT, || {
        match pair.holders_of(pair.resource_address()) {
            Ok(holders) if holders.len() == count => Ok(()),
            holders => Err(format!("{holders:?}")),
        }
    })
    .unwrap();
}

/// Case 1: the active node dies.
#[test]
fn case_1_the_active_node_loses_its_power() {
    let pair = Pair::up("split-1");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::Power { host: host(active) });
    pair.same("alice", &alice);
    let bob = pair.login("bob");
    pair.serves(standby);
    pair.heal_all();
    pair.same("bob", &bob);
    pair.all_agree();
    pair.one_each();
}

/// Case 2: the standby dies; the witnesses take its place, and it gets what it missed.
#[test]
fn case_2_the_standby_loses_its_power() {
    let pair = Pair::up("split-2");
    let (active, standby) = pair.in_step();
    pair.inject(Fault::Power { host: host(standby) });
    let alice = pair.login("alice");
    wait_for("the witnesses to be the second vote", WAIT, || match pair::node(&pair, active) {
        Ok(node) if node.second_vote == "witnesses" && node.votes => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    pair.heal_all();
    pair.all_agree();
    pair.same("alice", &alice);
}

/// Case 3: the nodes do not hear each other, but keepalived does: the active one goes on with the witnesses.
#[test]
fn case_3_the_link_between_the_nodes_is_cut_and_the_address_stays() {
    let pair = Pair::up("split-3");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for cut in Fault::partition(active, standby, Traffic::AllButVrrp) {
        pair.inject(cut);
    }
    let bob = pair.login("bob");
    pair.same("alice", &alice);
    assert_eq!(pair::active(&pair), [active]);
    pair.heal_all();
    pair.same("bob", &bob);
    pair.all_agree();
    pair.one_each();
}

/// Case 4: VRRP is cut too, so both hold the address. One of them has the votes.
#[test]
fn case_4_the_nodes_are_cut_from_each_other_and_both_hold_the_address() {
    let pair = Pair::up("split-4");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for cut in Fault::partition(active, standby, Traffic::All) {
        pair.inject(cut);
    }
    holders_become(&pair, 2);
    for user in ["alice", "bob", "carol"] {
        pair.login(user);
        one_has_votes(&pair);
    }
    pair.same("alice", &alice);
    pair.heal_all();
    holders_become(&pair, 1);
    pair.all_agree();
    pair.one_each();
}

/// Only the packets of VRRP are dropped: both hold the address, and the nodes see each other.
#[test]
fn vrrp_is_dropped_and_both_hold_the_address() {
    let pair = Pair::up("split-vrrp");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for cut in Fault::partition(active, standby, Traffic::Vrrp) {
        pair.inject(cut);
    }
    holders_become(&pair, 2);
    pair.same("alice", &alice);
    pair.login("bob");
    assert_eq!(pair::active(&pair).len(), 1, "one of them serves, and the other forwards");
    pair.heal_all();
    holders_become(&pair, 1);
    pair.all_agree();
    pair.one_each();
}

/// Cases 5 and 6: the active node and the users are cut from the agents and from the other node: no new desktop there,
/// at once and with the reason.
#[test]
fn case_5_a_node_without_votes_makes_no_desktop_and_says_why() {
    let pair = Pair::up("split-5");
    let (active, standby) = pair.in_step();
    let agents = ["agent1", "agent2", "agent3"];
    let alice = pair.login("alice");
    for agent in agents.iter().filter(|agent| **agent != alice.agent) {
        for cut in Fault::partition(active, agent, Traffic::All) {
            pair.inject(cut);
        }
    }
    // keepalived is left alone, so that the address stays where there are no votes, for a while.
    for cut in Fault::partition(active, standby, Traffic::AllButVrrp) {
        pair.inject(cut);
    }
    let direct = |user: &str| {
        let to = format!("{user}@{active}");
        let words =
            ["timeout", "30", "vsm", "connect", "--retry-for=0", "--no-viewer", "--json", &to];
        pair.exec("client", user, &words).unwrap()
    };
    wait_for("a refusal with the reason", WAIT, || {
        let refused = direct("bob");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        let says = ["neither the other one nor enough", "not active"];
        match refused.status.code() {
            Some(69) if says.iter().any(|words| text.contains(words)) => Ok(()),
            code => Err(format!("{code:?}: {text}")),
        }
    })
    .unwrap();
    // What runs can be reached: its agent answers this node.
    let again = direct("alice");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(String::from_utf8_lossy(&again.stdout).contains(&alice.session));
    pair.heal_all();
    pair.login("bob");
    pair.all_agree();
    pair.one_each();
}

/// Case 8: the witnesses are lost and the pair is whole: full service.
#[test]
fn case_8_without_witnesses_the_pair_serves() {
    let pair = Pair::with_agents("split-8", 4);
    pair.in_step();
    for agent in ["agent1", "agent2", "agent3"] {
        pair.inject(Fault::Power { host: host(agent) });
    }
    let alice = pair.login("alice");
    assert_eq!(alice.agent, "agent4");
    pair.heal_all();
    pair.all_agree();
}

/// Case 9: the witnesses and one node are lost: what runs can be reached, nothing new is made.
#[test]
fn case_9_without_witnesses_and_the_other_node_what_runs_can_be_reached() {
    let pair = Pair::with_agents("split-9", 4);
    let (active, standby) = pair.in_step();
    for agent in ["agent1", "agent2", "agent3"] {
        pair.inject(Fault::Power { host: host(agent) });
    }
    let alice = pair.login("alice");
    pair.inject(Fault::Power { host: host(standby) });
    wait_for("no votes", WAIT, || match pair::node(&pair, active) {
        Ok(node) if !node.votes && !node.healthy => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let to = |user: &str| format!("{user}@{active}");
    let connect = |user: &str| {
        let to = to(user);
        let words =
            ["timeout", "30", "vsm", "connect", "--retry-for=0", "--no-viewer", "--json", &to];
        pair.exec("client", user, &words).unwrap()
    };
    let again = connect("alice");
    assert!(String::from_utf8_lossy(&again.stdout).contains(&alice.session), "{again:?}");
    let refused = connect("bob");
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    pair.heal_all();
    pair.login("bob");
    pair.all_agree();
}

/// Case 9 with the other policy: what is made without votes is marked, found again, and in the table when there are
/// votes.
#[test]
fn case_9_where_the_administrator_allows_it_a_desktop_is_made_and_marked() {
    let pair = Pair::with_agents("split-9b", 4);
    for node in pair::NODES {
        pair.sh(node, "vsm-config /vsmserver/HA/solo_create=allow_and_mark");
        pair.restart_daemon(node, "vsmserver").unwrap();
    }
    let (active, standby) = pair.in_step();
    for agent in ["agent1", "agent2", "agent3"] {
        pair.inject(Fault::Power { host: host(agent) });
    }
    pair.inject(Fault::Power { host: host(standby) });
    // A start that was sent to a host that has just gone dark may have arrived: then no other one is tried.
    wait_for("three agents to be down", WAIT, || {
        let list = pair.sh(active, "vsmctl agent list --output json");
        let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
        let down = list.iter().filter(|agent| agent["state"] == "down").count();
        if down == 3 { Ok(()) } else { Err(format!("{down} are")) }
    })
    .unwrap();
    let to = format!("bob@{active}");
    let words = ["timeout", "60", "vsm", "connect", "--no-viewer", "--json", &to];
    let connect = || -> pair::Desktop {
        serde_json::from_str(&pair.output("client", "bob", &words).unwrap()).unwrap()
    };
    let made = connect();
    assert!(made.created && made.agent == "agent4", "{made:?}");
    let again = connect();
    assert_eq!((&again.session, again.created), (&made.session, false));
    pair.heal_all();
    let (active, _) = pair.in_step();
    wait_for("it to be in the table, with its mark", WAIT, || {
        let words = ["vsmctl", "session", "list", "--output", "json"];
        let list = pair.output(active, "root", &words).map_err(|error| format!("{error:#}"))?;
        let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
        let marked = |row: &serde_json::Value| {
            row["session"] == *made.session && row["possible_duplicate"] == true
        };
        if list.iter().any(marked) { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .unwrap();
    pair.same("bob", &made);
    pair.all_agree();
}

/// Case 10: the old active node is frozen for longer than every timer, and thawed with the address still on it.
#[test]
fn case_10_the_old_active_node_thaws_with_the_address_on_it() {
    let pair = Pair::up("split-10");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::Freeze { host: host(active) });
    // A frozen machine answers nothing; a frozen namespace's kernel does.
    pair.inject(Fault::Silent { host: host(active) });
    pair.same("alice", &alice);
    let bob = pair.login("bob");
    pair.serves(standby);
    let seq = pair::node(&pair, standby).unwrap().commit;
    pair.heal_fault(&Fault::Freeze { host: host(active) }).unwrap();
    // It still thinks that it is active, and learns better from whoever it asks.
    pair.heal_all();
    pair.same("bob", &bob);
    pair.same("alice", &alice);
    pair.all_agree();
    pair.one_each();
    let (now, _) = pair.in_step();
    assert!(pair::node(&pair, now).unwrap().commit >= seq, "nothing went back");
}

/// Case 11: keepalived dies on the active node and leaves the address there for good: two holders, one broker.
#[test]
fn case_11_keepalived_dies_and_leaves_the_address_on_both() {
    let pair = Pair::up("split-11");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::KeepalivedDead { host: host(active) });
    holders_become(&pair, 2);
    for user in ["alice", "bob", "carol"] {
        pair.login(user);
        one_has_votes(&pair);
    }
    pair.same("alice", &alice);
    assert_eq!(pair::active(&pair).len(), 1);
    // One after the other asks both nodes by name: either way it is the one service.
    for node in [active, standby] {
        let words = ["vsm", "connect", "--no-viewer", "--json", &format!("alice@{node}")];
        let text = pair.output("client", "alice", &words).unwrap();
        assert!(text.contains(&alice.session), "{node}: {text}");
    }
    pair.heal_all();
    pair.all_agree();
    pair.one_each();
}

/// Case 12: the active node can send and not receive.
#[test]
fn case_12_the_active_node_hears_nobody() {
    let pair = Pair::up("split-12");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for from in [standby, "agent1", "agent2", "agent3", "client"] {
        let cut = Fault::Cut { from: host(from), to: host(active), traffic: Traffic::All };
        pair.inject(cut);
    }
    // keepalived on the deaf node goes on sending, so the address stays there: users come by the other node's name.
    wait_for("the other node to be asked", WAIT, || {
        let to = format!("alice@{standby}");
        let words = ["timeout", "20", "vsm", "connect", "--no-viewer", "--json", &to];
        let output = pair.exec("client", "alice", &words).map_err(|error| format!("{error:#}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains(&alice.session) { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .unwrap();
    one_has_votes(&pair);
    pair.heal_all();
    pair.same("alice", &alice);
    pair.login("bob");
    pair.all_agree();
    pair.one_each();
}

/// Case 15: an agent reboots; its sessions are gone and nobody is handed one of them.
#[test]
fn case_15_an_agent_reboots_during_a_takeover() {
    let pair = Pair::up("split-15");
    let (active, _) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::Power { host: alice.agent.clone() });
    pair.inject(Fault::Cable { host: host(active) });
    pair.heal(&[alice.agent.as_str()]).unwrap();
    let now = wait_for("a new desktop", WAIT, || {
        pair::login(&pair, "alice", 30).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
    assert!(now.session != alice.session && now.created, "{now:?}");
    pair.heal_all();
    pair.all_agree();
    pair.one_each();
}

/// Case 16: an agent's disk goes back in time, and with it what it has promised.
#[test]
fn case_16_an_agent_whose_disk_went_back_in_time_is_set_apart_and_mended() {
    let pair = Pair::up("split-16");
    let (_, standby) = pair.in_step();
    pair.inject(Fault::DiskSnapshot { host: host("agent1") });
    // A new reign, to which all agents promise.
    pair.sh(standby, "vsmctl ha takeover");
    pair.serves(standby);
    let alice = pair.login("alice");
    pair.inject(Fault::DiskRollback { host: host("agent1") });
    wait_for("the agent to set itself apart", WAIT, || {
        let log = pair.daemon_log("agent1", "vsmagent");
        if log.contains("went back in time") { Ok(()) } else { Err(log) }
    })
    .unwrap();
    wait_for("the pair to mend it", WAIT, || {
        let log = pair.daemon_log("agent1", "vsmagent");
        if log.contains("acts and votes again") { Ok(()) } else { Err(log) }
    })
    .unwrap();
    pair.same("alice", &alice);
    pair.all_agree();
}

/// Case 17: both nodes are down, and the one that was the standby comes back alone.
#[test]
fn case_17_both_nodes_start_cold_and_alone() {
    let pair = Pair::up("split-17");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::Power { host: host(standby) });
    // The standby does not know of bob; the witnesses do.
    let bob = pair.login("bob");
    pair.inject(Fault::Power { host: host(active) });
    pair.heal(&[standby]).unwrap();
    pair.same("alice", &alice);
    pair.same("bob", &bob);
    pair.serves(standby);
    let carol = pair.login("carol");
    // Now the other way round.
    pair.inject(Fault::Power { host: host(standby) });
    pair.heal(&[active]).unwrap();
    pair.same("carol", &carol);
    pair.heal_all();
    pair.same("bob", &bob);
    pair.all_agree();
    pair.one_each();
}

/// Case 18: a node loses its disk and refills itself; then the disk of the other goes back in time.
#[test]
fn case_18_a_node_loses_its_disk() {
    let pair = Pair::up("split-18");
    let (_, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::DiskLost { host: host(standby) });
    pair.same("alice", &alice);
    pair.all_agree();
    let (active_now, _) = pair.in_step();
    pair.inject(Fault::DiskLost { host: host(active_now) });
    pair.same("alice", &alice);
    let bob = pair.login("bob");
    pair.all_agree();
    pair.same("bob", &bob);
    pair.one_each();
}

/// A broker whose disk is full steps aside: the other one serves.
#[test]
fn a_full_disk_moves_the_service() {
    let pair = Pair::up("split-full");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.inject(Fault::DiskFull { host: host(active) });
    let bob = pair.login("bob");
    pair.serves(standby);
    pair.same("alice", &alice);
    pair.heal_all();
    pair.same("bob", &bob);
    pair.all_agree();
    pair.one_each();
}

/// Case 20: the address flaps; the epoch does not run away, and users are served.
#[test]
fn case_20_the_address_flaps() {
    let pair = Pair::up("split-20");
    let alice = pair.login("alice");
    for _ in 0..4 {
        let (active, _) = pair.in_step();
        pair.inject(Fault::Cable { host: host(active) });
        pair.same("alice", &alice);
        pair.heal_all();
    }
    pair.all_agree();
    pair.one_each();
}
