//! Emptying an agent at run time, and forgetting one that is gone: on both nodes, through failovers, by whom and why.

use std::process::Output;

use serde_json::{Value, json};
use xtask::clock::wait_for;
use xtask::cluster::Fault;
use xtask::pair::NODES;

use crate::operator::{event_of_agent, events};
use crate::pair_of_brokers::{Pair, WAIT, host};

impl Pair {
    fn vsmctl(&self, node: &str, words: &[&str]) -> Output {
        self.exec(node, "root", &[&["vsmctl"], words].concat()).unwrap()
    }

    /// Words that must do what they say.
    fn does(&self, node: &str, words: &[&str]) -> String {
        let output = self.vsmctl(node, words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Words that must be refused with this code, and say this.
    fn no(&self, node: &str, code: i32, says: &str, words: &[&str]) {
        let output = self.vsmctl(node, words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(says), "{words:?}: {text}");
    }

    fn agent(&self, node: &str, name: &str) -> Value {
        let text = self.does(node, &["agent", "show", name, "--output", "json"]);
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn a_drained_agent_is_drained_on_both_nodes_and_through_failovers() {
    let pair = Pair::up("drain");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let agent = alice.agent.as_str();
    // By a member of the admin group, on the standby.
    pair.sh(standby, "groupadd -f vsmadmin; usermod -aG vsmadmin carol");
    pair.restart_daemon(standby, "vsmserver").unwrap();
    pair.in_step();
    let words = ["vsmctl", "agent", "drain", agent, "--reason", "new kernel", "--until", "7d"];
    let told = pair.output(standby, "carol", &words).unwrap();
    assert!(told.contains("takes no new sessions, by carol until"), "{told}");
    let marked = |node: &str| {
        let shown = pair.agent(node, agent);
        assert_eq!(shown["draining"], true, "{shown:#}");
        assert_eq!(shown["drained_by_configuration"], false, "{shown:#}");
        assert_eq!(
            (&shown["drain"]["by"], &shown["drain"]["why"]),
            (&json!("carol"), &json!("new kernel"))
        );
        assert!(shown["drain"]["since"].is_string() && shown["drain"]["until"].is_string());
    };
    NODES.into_iter().for_each(marked);
    let list = pair.does(active, &["agent", "list"]);
    assert!(list.contains("draining by carol until") && list.contains(": new kernel"), "{list}");
    let note = event_of_agent(&pair, active, "agent-drained", agent);
    assert_eq!((note.actor.as_str(), note.detail.as_str()), ("carol", "new kernel"));
    for user in ["bob", "carol"] {
        assert_ne!(pair.login(user).agent, agent);
    }
    pair.same("alice", &alice);

    // The other node knows it, and so do both after everything was killed.
    pair.inject(Fault::Power { host: host(active) });
    pair.serves(standby);
    marked(standby);
    pair.does(standby, &["session", "terminate", "-y", "--user=bob"]);
    assert_ne!(pair.login("bob").agent, agent);
    pair.heal_all();
    pair.in_step();
    for node in NODES {
        pair.kill_daemon(node, "vsmserver", 9).unwrap();
    }
    pair.in_step();
    NODES.into_iter().for_each(marked);
    pair.same("alice", &alice);

    let (active, standby) = pair.in_step();
    pair.does(standby, &["agent", "undrain", agent]);
    assert_eq!(pair.agent(active, agent)["draining"], false);
    assert_eq!(pair.agent(active, agent)["drain"], json!(null));
    event_of_agent(&pair, active, "agent-undrained", agent);
    pair.no(active, 1, "is not drained", &["agent", "undrain", agent]);
    pair.all_agree();
}

#[test]
fn what_would_leave_nothing_or_means_nothing_is_refused() {
    let pair = Pair::up("drain-refused");
    let (active, standby) = pair.in_step();
    let drain = |agent| ["agent", "drain", agent];
    pair.no(active, 66, "there is no agent agent9", &drain("agent9"));
    pair.no(standby, 66, "there is no agent agent9", &drain("agent9"));
    pair.no(active, 64, "agent", &drain("a/b"));
    pair.no(active, 64, "--until \"soon\"", &["agent", "drain", "agent1", "--until", "soon"]);
    let past = ["agent", "drain", "agent1", "--until", "2020-01-01T00:00:00Z"];
    pair.no(active, 64, "over already", &past);
    pair.no(active, 64, "reason", &["agent", "drain", "agent1", "--reason", "two\nlines"]);
    let long = "x".repeat(257);
    pair.no(active, 64, "at most 256", &["agent", "drain", "agent1", "--reason", &long]);
    pair.no(active, 66, "there is no agent agent9", &["agent", "show", "agent9"]);
    assert_eq!(pair.agent(active, "agent1")["draining"], false);

    // The last one that takes anybody is drained only if that was said.
    pair.does(active, &drain("agent1"));
    pair.stop_daemon("agent2", "vsmagent").unwrap();
    wait_for("agent2 to be down", WAIT, || match pair.agent(active, "agent2") {
        agent if agent["state"] == "down" => Ok(()),
        other => Err(other.to_string()),
    })
    .unwrap();
    pair.no(active, 1, "the last agent of subcluster Default", &drain("agent3"));
    pair.start_daemon("agent2", "vsmagent").unwrap();
    wait_for("agent2 to be up", WAIT, || match pair.agent(active, "agent2") {
        agent if agent["state"] == "up" => Ok(()),
        other => Err(other.to_string()),
    })
    .unwrap();
    pair.does(standby, &drain("agent2"));
    pair.no(active, 1, "the last agent of subcluster Default", &drain("agent3"));
    pair.no(standby, 1, "the last agent of subcluster Default", &drain("agent3"));
    assert!(pair.login("alice").created);
    pair.does(standby, &["agent", "drain", "agent3", "--force"]);
    let refused = xtask::pair::try_login(&pair, "bob", 5).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(69), "{text}");
    assert!(text.contains("agent3 is draining"), "{text}");

    // By the configuration it is another matter.
    for node in NODES {
        pair.sh(node, "vsm-config /vsmserver/agents/draining=agent1; vsmctl reload");
    }
    let told = pair.does(active, &["agent", "undrain", "agent1"]);
    assert!(told.contains("still drained by the configuration"), "{told}");
    pair.no(active, 1, "/vsmserver/agents/draining", &["agent", "undrain", "agent1"]);
    assert_eq!(pair.agent(standby, "agent1")["drained_by_configuration"], true);
}

#[test]
fn a_time_that_is_over_ends_it() {
    let pair = Pair::up("drain-until");
    let (active, standby) = pair.in_step();
    pair.does(standby, &["agent", "drain", "agent1", "--until", "3s"]);
    let note = event_of_agent(&pair, active, "agent-undrained", "agent1");
    assert_eq!(note.actor, "vsmserver");
    for node in NODES {
        assert_eq!(pair.agent(node, "agent1")["draining"], false);
    }
}

/// P9: what is forgotten is not killed.
#[test]
fn an_agent_that_is_gone_is_forgotten_and_known_again_when_it_returns() {
    let pair = Pair::up("forget");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let agent = alice.agent.as_str();
    pair.no(active, 1, "is up", &["agent", "forget", agent, "-y"]);
    pair.no(
        active,
        66,
        "nothing is known of an agent agent9",
        &["agent", "forget", "agent9", "-y"],
    );
    pair.does(active, &["agent", "drain", agent]);
    pair.inject(Fault::Cable { host: host(agent) });
    wait_for("the agent to be down", WAIT, || match pair.agent(active, agent) {
        found if found["state"] == "down" => Ok(()),
        other => Err(other.to_string()),
    })
    .unwrap();
    pair.no(standby, 64, "no terminal", &["agent", "forget", agent]);
    let told = pair.does(standby, &["agent", "forget", agent, "-y", "--output", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["sessions"], &told["was_drained"]), (&json!(1), &json!(true)), "{told}");
    let note = event_of_agent(&pair, active, "agent-forgotten", agent);
    assert_eq!(note.actor, "root");
    let forgotten = events(&pair, standby);
    let of_alice = |event: &&crate::operator::Event| {
        event.action == "session-forgotten" && event.session.as_ref() == Some(&alice.session)
    };
    assert!(forgotten.iter().any(|event| of_alice(&event)), "{forgotten:#?}");
    assert_eq!(pair.agent(active, agent)["drain"], json!(null));
    let second = pair.login("alice");
    assert!(second.created && second.agent != agent, "{second:?}");

    pair.heal_all();
    wait_for("the first desktop to be known again", WAIT, || {
        let rows = xtask::pair::rows(&pair, standby).map_err(|error| format!("{error:#}"))?;
        if rows.iter().any(|row| row.session == alice.session) {
            Ok(())
        } else {
            Err(format!("{rows:#?}"))
        }
    })
    .unwrap();
    pair.all_agree();
}
