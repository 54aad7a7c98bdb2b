//! How many more users fit, what bounds it, and that somebody is told in time.

use serde_json::{Value, json};
use xtask::clock::wait_for;
use xtask::cluster::ClusterSpec;

use crate::operator::{Event, events};
use crate::service::{BROKER, Service, WAIT};
use crate::spec;

fn json_of(service: &Service, words: &[&str]) -> Value {
    let output = service.vsmctl(&[words, &["--output", "json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The events about capacity, oldest first: waits until there are so many.
fn capacity(service: &Service, count: usize) -> Vec<Event> {
    wait_for(&format!("{count} events about capacity"), WAIT, || {
        let mut all = events(service, BROKER);
        all.retain(|event| event.action.starts_with("capacity-"));
        if all.len() == count { Ok(all) } else { Err(format!("{all:#?}")) }
    })
    .unwrap()
}

#[test]
fn the_room_is_told_and_so_is_that_it_runs_out() {
    let service = Service::with(&ClusterSpec { users: 4, ..spec("forecast") });
    let cap = "/vsmserver/subclusters/Default/max_users_per_agent=2";
    service.configure(BROKER, "vsmserver", &[cap, "/vsmserver/capacity_warn=50"]);
    let rows = json_of(&service, &["load", "list"]);
    for row in rows.as_array().unwrap() {
        assert_eq!(
            (&row["room"], &row["bound"], &row["room_by_cap"]),
            (&json!(2), &json!("cap"), &json!(2))
        );
        assert!(row["room_by_memory"].as_u64().unwrap() > 2, "{row}");
    }
    for user in ["user001", "user002", "user003"] {
        service.connect(user);
    }
    let all = capacity(&service, 1);
    assert_eq!((all[0].action.as_str(), all[0].actor.as_str()), ("capacity-low", "vsmserver"));
    assert!(all[0].detail.starts_with("subcluster Default: 1 more user(s) fit"), "{all:?}");
    service.connect("user004");
    assert_eq!(capacity(&service, 2)[1].action, "capacity-full");
    let subclusters = json_of(&service, &["load", "subclusters"]);
    let expected = [
        ("subcluster", json!("Default")),
        ("room", json!(0)),
        ("users", json!(4)),
        ("level", json!("full")),
    ];
    for (field, value) in expected {
        assert_eq!(subclusters[0][field], value, "{subclusters:#}");
    }
    service.refused("alice", 69, &["full"]);

    // A broker that is started again tells nothing twice.
    service.crash(BROKER, "vsmserver");
    service.agents_are("up", &crate::service::AGENTS);
    assert_eq!(capacity(&service, 2).len(), 2);
    assert!(service.vsmctl(&["session", "terminate", "-y", "--all"]).status.success());
    assert_eq!(capacity(&service, 3)[2].action, "capacity-ok");

    // By memory: nobody has as much as this.
    service.configure(BROKER, "vsmserver", &["/vsmserver/ram_per_user=1048576"]);
    let all = capacity(&service, 4);
    assert_eq!(all[3].action, "capacity-full", "{all:#?}");
    let rows = json_of(&service, &["load", "list", "--sort", "room"]);
    assert_eq!((&rows[0]["room"], &rows[0]["bound"]), (&json!(0), &json!("memory")));
    // It is a forecast, and no limit.
    assert!(service.connect("alice").created);
    let table = String::from_utf8(service.vsmctl(&["load", "list"]).stdout).unwrap();
    assert!(table.contains("Default: 0 more user(s) fit; 2 of 2 agent(s)"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    assert!(service.vsmctl(&["agent", "drain", "agent1"]).status.success());
    let row = json_of(&service, &["load", "show", "agent1"]);
    assert_eq!((&row["room"], &row["bound"]), (&json!(0), &json!("draining")));
    service.no(66, "there is no agent agent9", &["load", "show", "agent9"]);
    service.no(64, "--sort", &["load", "list", "--sort", "colour"]);
}
