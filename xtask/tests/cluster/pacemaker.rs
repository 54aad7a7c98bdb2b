//! A pair under real Pacemaker and corosync, with a power switch. Each takes most of a minute to come up, so few tests
//! with several cases each.

use std::path::Path;

use xtask::clock::wait_for;
use xtask::cluster::{Cluster, ClusterSpec, Fault, HaSoftware};
use xtask::pair::{self, NODES};

use crate::XTASK;
use crate::pair_of_brokers::{Pair, WAIT, host};
use crate::pcs;

/// A pair under Pacemaker with bare desktops, in step.
fn up(name: &str, agents: u8) -> Pair {
    xtask::setup::pacemaker().unwrap();
    let mut spec = ClusterSpec::pair(crate::named(name), Path::new(XTASK));
    (spec.fresh, spec.agents, spec.software) = (true, agents, HaSoftware::Pacemaker);
    let pair = Pair(Cluster::up(&spec).unwrap());
    // Whoever was shot while all came up, as on a machine that is too busy, is back first.
    for node in NODES {
        wait_for(&format!("{node} in Pacemaker"), WAIT, || {
            let shots = pair.power_log();
            let placed = pair.placed(node).map_err(|error| format!("{error:#}; {shots}"))?;
            let both = placed.online.len() == 2;
            if both { Ok(()) } else { Err(format!("{placed:?}; {shots}")) }
        })
        .unwrap();
    }
    let agents = if agents == 0 {
        NODES.map(str::to_owned).into()
    } else {
        (1..=agents).map(|number| format!("agent{number}")).collect::<Vec<_>>()
    };
    for agent in agents {
        pair.sh(&agent, pair::BARE_SCRIPT);
    }
    pair.in_step();
    pair
}

/// Waits until Pacemaker has the broker promoted, and the resource address, on this node.
fn is_on(pair: &Pair, node: &str) {
    wait_for(&format!("all to be on {node}"), WAIT, || {
        let placed = pair.placed(node).map_err(|error| format!("{error:#}"))?;
        let has = |what: &str| placed.resources.iter().any(|resource| resource == what);
        if has("vsmserver (Promoted)") && has("vsm-address") {
            Ok(())
        } else {
            Err(format!("{placed:?}"))
        }
    })
    .unwrap();
}

/// Waits until both nodes are in the cluster again and in step.
fn whole_again(pair: &Pair) {
    wait_for("both nodes in Pacemaker", WAIT, || {
        let placed = pair.placed(NODES[0]).map_err(|error| format!("{error:#}"))?;
        if placed.online.len() == 2 { Ok(()) } else { Err(format!("{placed:?}")) }
    })
    .unwrap();
    pair.all_agree();
}

#[test]
fn pacemaker_moves_the_service_and_nothing_is_lost() {
    xtask::setup::pcs().unwrap();
    let pair = up("pcmk", 3);
    pcs::makes_the_same(&pair);
    let alice = pair.login("alice");
    let (active, other) = pair.in_step();
    is_on(&pair, active);

    // A planned move.
    pair.inject(Fault::Standby { host: host(active) });
    pair.same("alice", &alice);
    is_on(&pair, other);
    pair.heal_all();
    whole_again(&pair);

    // The broker dies: the other one is there at once, and it is started again.
    let (active, _) = pair.in_step();
    pair.inject(Fault::Crash { host: host(active), daemon: "vsmserver".into() });
    pair.same("alice", &alice);
    whole_again(&pair);
    let (active, other) = pair.in_step();

    // The power goes: the other node has it confirmed by the switch before it takes over.
    pair.inject(Fault::Power { host: host(active) });
    pair.same("alice", &alice);
    is_on(&pair, other);
    let log = pair.power_log();
    assert!(log.contains(&format!("{other}: off {active}: ok")), "{log}");
    let bob = pair.login("bob");
    pair.heal_all();
    whole_again(&pair);
    pair.same("alice", &alice);
    pair.same("bob", &bob);
    pair.one_each();
}

/// The brokers' hosts are the only agents, so there are no witnesses: what counts is that the other node is off.
#[test]
fn without_witnesses_a_fenced_node_gives_its_vote() {
    let pair = up("pcmk-fence", 0);
    let alice = pair.login("alice");
    let (active, other) = pair.in_step();

    // A planned move needs the vote of the one that was stopped.
    pair.inject(Fault::Standby { host: host(active) });
    pair.same("alice", &alice);
    is_on(&pair, other);
    pair.login("bob");
    pair.heal_all();
    whole_again(&pair);

    // The power of the active one goes, with the desktops that it had.
    let (active, other) = pair.in_step();
    pair.inject(Fault::Power { host: host(active) });
    is_on(&pair, other);
    pair.serves(other);
    let carol = pair.login("carol");
    assert_eq!(carol.agent, other);
    assert!(pair.sh(other, "vsmctl ha status --output json").contains("\"peer_fenced\": true"));

    // What it decided alone is its own after a restart too.
    pair.inject(Fault::Crash { host: host(other), daemon: "vsmserver".into() });
    pair.same("carol", &carol);

    // One that was heard since is another life of it.
    pair.heal_all();
    whole_again(&pair);
    let long_ago = pair.exec(other, "root", &["vsmctl", "ha", "fenced", "--at", "1700000000"]);
    assert_eq!(long_ago.unwrap().status.code(), Some(1));
    pair.same("carol", &carol);
}
