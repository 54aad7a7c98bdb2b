//! The life of a host's identity on real hosts: invited, enrolled by the printed command, renewed by the agent itself,
//! revoked with everything under way, and back.

use serde_json::Value;
use xtask::clock::wait_for;

use crate::pair_of_brokers::{Pair, WAIT};

fn json(pair: &Pair, node: &str, words: &[&str]) -> Value {
    let words = [words, &["--output", "json"]].concat();
    serde_json::from_str(&pair.output(node, "root", &words).unwrap()).unwrap()
}

/// Invites an agent and runs what is printed on its host.
fn enrol(pair: &Pair, node: &str, agent: &str) {
    let invited = json(pair, node, &["vsmctl", "agent", "enrol", agent]);
    let command = invited["command"].as_str().unwrap();
    let there = pair.exec(agent, "root", &["sh", "-c", command]).unwrap();
    assert!(!there.status.success(), "what is there is not replaced unasked");
    let said = pair.sh(agent, &format!("{command} --replace"));
    assert!(said.contains("renews by itself"), "{said}");
    let again = pair.exec(agent, "root", &["sh", "-c", &format!("{command} --replace")]).unwrap();
    let again = String::from_utf8(again.stderr).unwrap();
    assert!(again.contains("this token was used already"), "{again}");
    // By another name it is refused here, and there too.
    let stolen = command.replace("--agent ", "--agent x");
    let other = |more: &str| {
        let command = format!("{stolen} --replace {more}");
        pair.exec(agent, "root", &["sh", "-c", &command]).unwrap()
    };
    assert_eq!(other("").status.code(), Some(64));
    let other = other("--other-name");
    assert_eq!(other.status.code(), Some(77), "{other:?}");
}

/// What is known of an identity.
fn identity(pair: &Pair, node: &str, name: &str) -> Value {
    let all = json(pair, node, &["vsmctl", "pki", "list"]);
    let all = all.as_array().unwrap();
    all.iter()
        .find(|one| one["role"] == "agent" && one["name"] == name)
        .cloned()
        .unwrap_or_default()
}

fn state(pair: &Pair, node: &str, agent: &str) -> (String, String) {
    let all = json(pair, node, &["vsmctl", "agent", "list"]);
    let row = all.as_array().unwrap().iter().find(|row| row["agent"] == agent).cloned().unwrap();
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("detail"))
}

fn is(pair: &Pair, node: &str, agent: &str, wanted: &str, detail: &str) {
    wait_for(&format!("{agent} to be {wanted}"), WAIT, || {
        let (state, why) = state(pair, node, agent);
        if state == wanted && why.contains(detail) {
            Ok(())
        } else {
            Err(format!("{state}: {why}"))
        }
    })
    .unwrap();
}

/// An issuer that cannot sign is told until it can.
fn issuer_is_looked_at(pair: &Pair, node: &str) {
    let tells = |told: bool| {
        wait_for("its issuer to be looked at", WAIT, || {
            let status = pair.exec(node, "root", &["vsmctl", "ha", "status"]).unwrap();
            let status = String::from_utf8_lossy(&status.stdout).into_owned();
            let tells = status.contains("issuer.key") && status.contains("vsmctl pki issuer");
            if tells == told { Ok(()) } else { Err(status) }
        })
        .unwrap();
    };
    pair.sh(node, "chmod 644 /etc/vsm/pki/issuer.key && vsmctl reload");
    tells(true);
    // What else is looked at says nothing of it.
    pair.sh(node, "vsmctl reload");
    tells(true);
    pair.sh(node, "chmod 600 /etc/vsm/pki/issuer.key && vsmctl reload");
    tells(false);
}

#[test]
fn a_host_is_enrolled_renews_by_itself_and_is_out_once_it_is_revoked() {
    let pair = Pair::up("identities");
    let (active, standby) = pair.in_step();
    for node in [active, standby] {
        pair.sh(node, "vsm-config /vsmserver/agent_certificate_life=60 && vsmctl reload");
    }
    issuer_is_looked_at(&pair, standby);
    let alice = pair.login("alice");
    // By the standby, which passes it on; while a desktop runs there.
    enrol(&pair, standby, &alice.agent);
    pair.restart_daemon(&alice.agent, "vsmagent").unwrap();
    is(&pair, active, &alice.agent, "up", "");
    let first = identity(&pair, active, &alice.agent);
    assert_eq!(first["state"], "valid", "{first}");
    wait_for("the agent to renew its certificate by itself", 2 * WAIT, || {
        let now = identity(&pair, standby, &alice.agent);
        if now["issued"] == first["issued"] { Err(now.to_string()) } else { Ok(()) }
    })
    .unwrap();
    pair.same("alice", &alice);

    let said =
        pair.sh(active, &format!("vsmctl pki revoke agent/{} -y --reason stolen", alice.agent));
    assert!(said.contains("count no more"), "{said}");
    for node in [active, standby] {
        is(&pair, node, &alice.agent, "down", "revoked");
    }
    let list = pair.sh(active, "vsmctl agent list");
    assert!(list.contains(&format!("vsmctl agent enrol {}", alice.agent)), "{list}");
    let check = pair.exec(active, "root", &["vsmctl", "ha", "check"]).unwrap();
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains(&format!("vsmctl agent enrol {}", alice.agent)), "{check}");
    let bob = pair.login("bob");
    assert_ne!(bob.agent, alice.agent, "nobody is sent there");
    let known = identity(&pair, standby, &alice.agent);
    assert_eq!((&known["state"], &known["revoked_why"]), (&"revoked".into(), &"stolen".into()));
    // A take-over changes nothing of it.
    pair.stop_daemon(active, "vsmserver").unwrap();
    pair.serves(standby);
    is(&pair, standby, &alice.agent, "down", "revoked");
    pair.start_daemon(active, "vsmserver").unwrap();
    let (active, _) = pair.in_step();
    enrol(&pair, active, &alice.agent);
    pair.restart_daemon(&alice.agent, "vsmagent").unwrap();
    is(&pair, active, &alice.agent, "up", "");
    pair.same("alice", &alice);
    pair.same("bob", &bob);
}
