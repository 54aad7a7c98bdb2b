//! `vsmctl explain`: why a user would get which host, rule by rule, and nothing is done.

use serde_json::{Value, json};

use crate::pair_of_brokers::Pair;
use crate::service::{AGENTS, BROKER, Service};

fn explained(service: &Service, user: &str) -> Value {
    let output = service.vsmctl(&["explain", user, "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What an agent is said to be out for.
fn out<'a>(told: &'a Value, agent: &str) -> &'a str {
    let agents = told["agents"].as_array().unwrap();
    agents.iter().find(|a| a["agent"] == agent).unwrap()["out"].as_str().unwrap_or_default()
}

#[test]
fn each_rule_is_told_and_the_outcome_is_what_a_login_gets() {
    let service = Service::up("explain");
    let told = explained(&service, "alice");
    let expected = [
        ("user", json!("alice")),
        ("node", json!(BROKER)),
        ("groups", json!(["alice"])),
        ("allowed", json!(true)),
        ("subcluster", json!("Default")),
        ("subcluster_rule", json!("default")),
        ("placement", json!("users")),
        ("max_sessions", json!(1)),
        ("chosen", json!(AGENTS)),
        ("refused", json!(null)),
    ];
    for (field, value) in expected {
        assert_eq!(told[field], value, "{field} of {told:#}");
    }
    assert_eq!(service.rows(), [], "nothing was done");

    let alice = service.connect("alice");
    let other = AGENTS.into_iter().find(|agent| *agent != alice.agent).unwrap();
    let told = explained(&service, "bob");
    assert_eq!(told["chosen"], json!([other]), "{told:#}");
    assert_eq!(told["agents"][0]["users"], 1);
    assert_eq!(told["agents"][1]["users"], 2);
    assert_eq!(service.connect("bob").agent, other);
    // A table for people, no wider than a terminal.
    let table = service.vsmctl(&["explain", "alice"]);
    let table = String::from_utf8(table.stdout).unwrap();
    for words in ["1. May use", "2. Has 1 session", "3. New", "4. Placement users", "AT_LIMIT"] {
        assert!(table.contains(words), "no {words:?} in\n{table}");
    }
    // The last line has a refusal in the words that its user would read.
    let wide = table.lines().rev().skip(1).find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "{table}");
    assert_eq!(explained(&service, "alice")["refused_reason"], "AT_LIMIT");
    refusals(&service);
}

fn refusals(service: &Service) {
    // Each agent for a reason of its own.
    assert!(service.vsmctl(&["agent", "drain", "agent1", "--reason=new disk"]).status.success());
    service.configure(
        BROKER,
        "vsmserver",
        &["/vsmserver/subclusters/Default/max_users_per_agent=1"],
    );
    let told = explained(service, "carol");
    assert_eq!(out(&told, "agent1"), "drained by root: new disk");
    assert_eq!(out(&told, "agent2"), "full: 1 of 1 users");
    assert_eq!((&told["refused_reason"], &told["chosen"]), (&json!("NO_AGENT"), &json!([])));
    service.refused_cleanly("carol", 69, &["agent1 is draining", "agent2 is full"]);
    service.stop_daemon("agent2", "vsmagent").unwrap();
    service.agents_are("down", &["agent2"]);
    assert!(out(&explained(service, "carol"), "agent2").starts_with("down, "));

    let groups = ["/vsmserver/allowed_groups=alice"];
    service.configure(BROKER, "vsmserver", &groups);
    let told = explained(service, "carol");
    assert_eq!((&told["allowed"], &told["refused_reason"]), (&json!(false), &json!("NOT_ALLOWED")));
    let told = explained(service, "alice");
    assert_eq!((&told["allowed_by"], &told["groups"]), (&json!("alice"), &json!(["alice"])));
    service.no(66, "there is no user mallory", &["explain", "mallory"]);
    service.no(66, "there is no user mallory", &["session", "list", "--user=mallory"]);
    service.no(66, "there is no agent agent9", &["session", "list", "--agent=agent9"]);
    let root = service.sh(BROKER, "vsmctl session list --user=root");
    assert!(root.contains("0 session(s)"), "somebody without a desktop is somebody: {root}");
    service.no(64, "user", &["explain", "a/b"]);
}

/// It works on either node, and says which one it is that decides.
#[test]
fn a_standby_has_the_active_node_explain() {
    let pair = Pair::up("explain-pair");
    let (active, standby) = pair.in_step();
    let told: Value =
        serde_json::from_str(&pair.sh(standby, "vsmctl explain alice --output json")).unwrap();
    assert_eq!(told["node"], active);
    assert_eq!(told["agents"].as_array().unwrap().len(), 3);
    let yaml = pair.sh(standby, "vsmctl explain alice --output yaml");
    assert!(yaml.contains("subcluster: Default"), "{yaml}");
}
