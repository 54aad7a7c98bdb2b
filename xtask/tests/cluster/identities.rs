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
    let whole = invited["command"].as_str().unwrap();
    let command = whole.strip_suffix(" --replace").expect("it has one, which is known");
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

/// What an administrator asks for is done at once, and of each host it is said why not.
#[test]
fn agents_renew_when_an_administrator_wants_it() {
    let pair = Pair::with_agents("renew", 3);
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    for agent in ["agent1", "agent2"] {
        enrol(&pair, active, agent);
        pair.restart_daemon(agent, "vsmagent").unwrap();
        is(&pair, active, agent, "up", "");
    }
    let renew = |node: &str, words: &[&str]| {
        let words = [&["vsmctl", "pki", "renew", "--output", "json"], words].concat();
        let there = pair.exec(node, "root", &words).unwrap();
        let rows: Value = serde_json::from_slice(&there.stdout).unwrap();
        (there.status.code(), rows)
    };
    // What others need to trust this cluster is asked of either broker.
    let own = pair.sh(standby, "cat /etc/vsm/pki/ca.pem");
    assert_eq!(pair.sh(standby, "vsmctl pki export").trim(), own.trim());
    let exported = json(&pair, standby, &["vsmctl", "pki", "export"]);
    assert_eq!(exported[0]["issuers"][0]["broker"], active, "{exported}");
    assert!(!exported.to_string().contains("PRIVATE"));
    let before = identity(&pair, active, "agent1");
    assert_eq!(before["issued_by"], active);
    // Certificates begin with whole seconds.
    wait_for("another certificate", WAIT, || {
        let (code, rows) = renew(standby, &["agent/agent1"]);
        assert!(code == Some(0) && rows[0]["renewed"] == true, "{rows}");
        let now = identity(&pair, active, "agent1");
        if now["issued"] == before["issued"] { Err(now.to_string()) } else { Ok(()) }
    })
    .unwrap();
    pair.stop_daemon("agent2", "vsmagent").unwrap();
    is(&pair, active, "agent2", "down", "");
    let (code, rows) = renew(active, &["--all"]);
    let why = |n: usize| rows[n]["why"].as_str().unwrap_or_default().to_owned();
    assert!(code == Some(1) && rows[0]["renewed"] == true, "{rows}");
    assert!(why(1).starts_with("down: ") && why(2).contains("by hand"), "{rows}");
    assert!(rows[2]["next_step"].as_str().unwrap().contains("vsmctl agent enrol"), "{rows}");
    let events = pair.sh(active, "vsmctl events --output json");
    assert!(events.contains("certificates-renewed"), "{events}");
    pair.start_daemon("agent2", "vsmagent").unwrap();
    is(&pair, active, "agent2", "up", "");
    // What the other broker has signed stays when this one's issuer is revoked; what it has signed itself goes.
    pair.sh(standby, "vsmctl ha takeover");
    pair.serves(standby);
    let (active, standby) = pair.in_step();
    let (code, rows) = renew(active, &["agent/agent1"]);
    assert!(code == Some(0), "{rows}");
    pair.sh(active, &format!("vsmctl pki revoke issuer/{standby} -y --reason lost"));
    is(&pair, active, "agent2", "down", &format!("revoked with issuer/{standby}"));
    is(&pair, active, "agent1", "up", "");
    let list = pair.sh(active, "vsmctl pki list");
    assert!(list.contains(&format!("with issuer/{standby}")), "{list}");
    // Hers may be on the one that is out.
    enrol(&pair, active, "agent2");
    pair.restart_daemon("agent2", "vsmagent").unwrap();
    is(&pair, active, "agent2", "up", "");
    pair.same("alice", &alice);
}
