//! Who gets which session hosts: by user, by group, by default; and what is not clear is refused, naming both.

use xtask::cluster::ClusterSpec;

use crate::service::{AGENTS, BROKER, SIGHUP, Service};
use crate::spec;

const DEFAULT: &str = "/vsmserver/subclusters/Default";
const LAB: &str = "/vsmserver/subclusters/lab";
const STAFF: &str = "/vsmserver/subclusters/staff";

/// `alice` is nobody special, `bob` is named by `lab`, and `staff` has the group of `carol`.
fn service(name: &str) -> Service {
    let service = Service::with(&ClusterSpec { users: 4, ..spec(name) });
    service
        .sh(BROKER, "printf 'staff2:x:7001:carol,user001\nphysics:x:7002:user001\n' >> /etc/group");
    service.configure(
        BROKER,
        "vsmserver",
        &[
            &format!("{DEFAULT}/agents=agent1"),
            &format!("{LAB}/agents=agent2 agent1"),
            &format!("{LAB}/users=bob user004"),
            &format!("{LAB}/groups=physics"),
            &format!("{STAFF}/agents=agent2"),
            &format!("{STAFF}/groups=staff2"),
            "/vsmserver/agents/weights/agent2=1000",
        ],
    );
    service
}

#[test]
fn users_go_where_their_subcluster_is_and_come_back_where_they_were() {
    let service = service("subclusters");
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| service.connect(user));
    assert_eq!(alice.agent, AGENTS[0], "the default");
    assert_eq!(bob.agent, AGENTS[1], "by name, and agent2 has the greater weight");
    assert_eq!(carol.agent, AGENTS[1], "by group");

    // An agent is in two, and each list of agents shows it.
    let list = service.sh(BROKER, "vsmctl agent show agent1 --output json");
    let agent: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(agent["subclusters"], serde_json::json!(["Default", "lab"]));

    // Two groups that lead to two subclusters: neither is right.
    let line = service.refused("user001", 77, &["user001", "staff2", "physics"]);
    for folder in [LAB, STAFF] {
        assert!(line.contains(folder), "{line}");
    }

    // The rule is for new sessions: bob is in no subcluster now, and comes back all the same.
    let rules = [format!("{LAB}/users=user004"), format!("{DEFAULT}/users=alice")];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    service.configure(BROKER, "vsmserver", &rules);
    let again = service.connect("bob");
    assert_eq!((&again.session, again.created), (&bob.session, false));
    service.refused("user002", 77, &["no subcluster takes user002"]);
    // Nor does it matter that his host is in no subcluster at all.
    service.configure(
        BROKER,
        "vsmserver",
        &[&format!("{LAB}/agents=agent1"), &format!("{STAFF}/agents=agent1")],
    );
    assert_eq!(service.connect("bob").session, bob.session);
    assert_eq!(service.connect("user004").agent, AGENTS[0]);
}

/// An agent in two subclusters has the lower of their caps.
#[test]
fn a_cap_stops_new_users_and_the_lower_one_holds() {
    let service = service("caps");
    service.configure(
        BROKER,
        "vsmserver",
        &[
            &format!("{LAB}/agents=agent1"),
            &format!("{DEFAULT}/max_users_per_agent=2"),
            &format!("{LAB}/max_users_per_agent=5"),
        ],
    );
    let alice = service.connect("alice");
    assert_eq!(service.connect("user002").agent, AGENTS[0]);
    service.refused_cleanly("bob", 69, &["agent1 is full"]);
    service.refused_cleanly("user003", 69, &["agent1 is full"]);
    assert_eq!(service.connect("alice").session, alice.session, "who is there may come back");
    service.end("alice");
    assert!(service.connect("bob").created);
}

/// A configuration that does not say which of two is meant is refused as a whole, whoever reads it.
#[test]
fn an_ambiguous_configuration_is_refused_and_the_old_one_stays() {
    let service = service("ambiguous");
    let bad = |name: &str, body: &str| {
        let path = format!("/etc/vsm/conf.d/zz-{name}.yaml");
        service.sh(BROKER, &format!("cat > {path} <<'END'\n{body}\nEND"));
        let check = service.exec(BROKER, "root", &["vsmserver", "--check"]).unwrap();
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        assert_eq!(check.status.code(), Some(78), "{text}");
        assert!(text.contains("/etc/vsm/conf.d/"), "no file is named: {text}");
        let told = service.exec(BROKER, "root", &["vsmctl", "reload"]).unwrap();
        assert!(!told.status.success(), "{told:?}");
        let why = text.trim().strip_prefix("vsmserver: ").unwrap();
        assert!(String::from_utf8_lossy(&told.stderr).contains(why), "{told:?}: not {why}");
        service.reload(BROKER, "vsmserver", "the new configuration is bad; the old one stays");
        service.sh(BROKER, &format!("rm {path}"));
        text
    };
    let text = bad("default", "vsmserver:\n  subclusters:\n    other: {agents: agent2}");
    assert!(text.contains(DEFAULT) && text.contains("/vsmserver/subclusters/other"), "{text}");
    let user = "vsmserver:\n  subclusters:\n    other: {agents: agent2, users: [carol, bob]}";
    let text = bad("user", user);
    assert!(text.contains("bob") && text.contains(LAB), "{text}");
    assert!(text.contains("/vsmserver/subclusters/other"), "{text}");
    let group = "vsmserver:\n  subclusters:\n    other: {agents: agent2, groups: staff2}";
    let text = bad("group", group);
    assert!(text.contains("staff2") && text.contains(STAFF), "{text}");
    // What was in force is so still.
    assert_eq!(service.connect("carol").agent, AGENTS[1]);
    assert_eq!(service.connect("alice").agent, AGENTS[0]);
    service.kill_daemon(BROKER, "vsmserver", SIGHUP).unwrap();
}
