//! `vsmctl ha check`: what an administrator got wrong is found from either node, with the step's number and the command
//! that mends it.

use serde::Deserialize;
use xtask::clock::wait_for;
use xtask::cluster::Fault;
use xtask::pair::NODES;

use crate::pair_of_brokers::{Pair, WAIT, host};

#[derive(Debug, Deserialize)]
struct Finding {
    step: u32,
    ok: bool,
    text: String,
    remedy: String,
}

fn findings(pair: &Pair, node: &str) -> Vec<Finding> {
    let words = ["vsmctl", "ha", "check", "--output", "json"];
    let output = pair.exec(node, "root", &words).unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Waits until each of these nodes finds it: the step, and words of what was found and of the remedy.
fn found(pair: &Pair, nodes: &[&str], step: u32, text: &str, remedy: &str) {
    for node in nodes {
        wait_for(&format!("{node} to find {text:?}"), WAIT, || {
            let all = findings(pair, node);
            let is = |finding: &&Finding| {
                !finding.ok
                    && finding.step == step
                    && finding.text.contains(text)
                    && finding.remedy.contains(remedy)
            };
            if all.iter().any(|finding| is(&finding)) { Ok(()) } else { Err(format!("{all:#?}")) }
        })
        .unwrap();
    }
}

/// Waits until both nodes find nothing wrong in any step but those that are accepted.
fn nothing_but(pair: &Pair, accepted: &[u32]) {
    for node in NODES {
        wait_for(&format!("{node} to find nothing wrong"), WAIT, || {
            let all = findings(pair, node);
            let steps: Vec<u32> = all.iter().map(|finding| finding.step).collect();
            assert!((1..=9).all(|step| steps.contains(&step)), "each step is looked at: {all:#?}");
            let mut bad = all.iter().filter(|it| !it.ok && !accepted.contains(&it.step));
            bad.next().map_or(Ok(()), |finding| Err(format!("{finding:?}")))
        })
        .unwrap();
    }
}

#[test]
fn each_mistake_is_found_from_either_node_with_the_command_that_mends_it() {
    let pair = Pair::up("preflight");
    nothing_but(&pair, &[]);

    let both = "/vsmagent/allowed_clients=tlha-primary tlha-secondary";
    pair.sh("agent2", "vsm-config /vsmagent/allowed_clients=tlha-primary");
    pair.kill_daemon("agent2", "vsmagent", 1).unwrap();
    found(&pair, &NODES, 5, "allowed_clients of agent agent2 lacks tlha-secondary", both);
    pair.sh("agent2", &format!("vsm-config '{both}'"));
    pair.kill_daemon("agent2", "vsmagent", 1).unwrap();

    pair.sh("agent3", "vsm-config /vsmagent/master_hostname=tlha-primary");
    pair.kill_daemon("agent3", "vsmagent", 1).unwrap();
    let text = "master_hostname of agent agent3 is tlha-primary, which is not the resource address";
    found(&pair, &NODES, 5, text, "on agent3: vsm-config /vsmagent/master_hostname=tlha;");
    pair.sh("agent3", "vsm-config /vsmagent/master_hostname=tlha");
    pair.kill_daemon("agent3", "vsmagent", 1).unwrap();
    nothing_but(&pair, &[]);
}

#[test]
fn a_bad_list_of_agents_is_found_whether_the_broker_runs_or_not() {
    let pair = Pair::up("preflight-list");
    let (active, standby) = pair.in_step();
    let good = pair.sh(standby, "vsm-config /vsmserver/subclusters/Default/agents");
    for (entry, why) in [("tlha", "which is the resource address"), ("127.0.0.1", "own loopback")] {
        let set = format!("vsm-config '/vsmserver/subclusters/Default/agents=agent1 {entry}'");
        pair.sh(standby, &set);
        // What runs goes on with the list from before.
        pair.kill_daemon(standby, "vsmserver", 1).unwrap();
        found(&pair, &NODES, 6, why, &format!("mend it on {standby}"));
    }
    pair.stop_daemon(standby, "vsmserver").unwrap();
    found(&pair, &[standby], 6, "vsmserver cannot start", "vsm-config");
    found(&pair, &[active], 1, &format!("{standby} cannot be asked"), "vsmctl ha check there");

    pair.sh(standby, "vsm-config '/vsmserver/subclusters/Default/agents=agent1 agent2'");
    found(&pair, &[standby], 1, "vsmserver does not run", "systemctl start vsmserver");
    pair.start_daemon(standby, "vsmserver").unwrap();
    let path = "/vsmserver/subclusters/Default/agents";
    found(&pair, &NODES, 6, &format!("differ between the nodes: {path}"), "set the same on both");
    pair.sh(standby, &format!("vsm-config '{path}={}'", good.trim()));
    pair.kill_daemon(standby, "vsmserver", 1).unwrap();
    nothing_but(&pair, &[]);
}

#[test]
fn an_address_on_both_nodes_or_on_neither_and_differing_host_keys_are_found() {
    let pair = Pair::up("preflight-address");
    let (active, standby) = pair.in_step();
    pair.inject(Fault::VipBoth { host: host(standby) });
    found(&pair, &NODES, 4, "tlha is on both nodes", "keepalived");
    pair.heal_all();
    for node in NODES {
        pair.stop_daemon(node, "keepalived").unwrap();
    }
    found(&pair, &NODES, 4, "tlha is on neither node", "keepalived");
    for node in NODES {
        pair.start_daemon(node, "keepalived").unwrap();
    }
    pair.in_step();
    nothing_but(&pair, &[]);

    pair.sh(
        active,
        "cd /etc/ssh && rm -f ssh_host_ed25519_key* && ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key",
    );
    found(&pair, &NODES, 2, "the SSH host keys differ", "on tlha-primary: scp -p ");
}
