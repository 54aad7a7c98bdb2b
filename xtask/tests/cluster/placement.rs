//! Placement by measured load, on hosts of which one is busy for real.

use serde_json::Value;
use xtask::clock::wait_for;
use xtask::cluster::ClusterSpec;

use crate::service::{AGENTS, BROKER, Service, WAIT};
use crate::spec;

/// More than the machine has CPUs, so that they wait for each other. What a test runs
/// inside a host is not in its control group by itself.
const BURN: &str = "echo $$ > /sys/fs/cgroup/cgroup.procs; for n in 1 2 3; do nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!; done > /tmp/burners";
const COOL: &str = "kill $(cat /tmp/burners)";

fn load(service: &Service, agent: &str) -> Value {
    let text = service.sh(BROKER, &format!("vsmctl load show {agent} --output json"));
    serde_json::from_str(&text).unwrap()
}

/// Waits until an agent's CPUs are as busy as `fits` wants, in percent, waiting counted.
fn busy_becomes(service: &Service, agent: &str, what: &str, fits: impl Fn(f64) -> bool) {
    wait_for(&format!("{agent} to be {what}"), WAIT, || {
        let load = load(service, agent);
        let share = |name: &str| load[name].as_f64();
        match (share("cpu_busy_percent"), share("cpu_pressure_percent")) {
            (Some(busy), Some(wait)) if fits(busy + wait) => Ok(()),
            _ => Err(load.to_string()),
        }
    })
    .unwrap();
}

fn explained(service: &Service, user: &str) -> Value {
    let text = service.sh(BROKER, &format!("vsmctl explain {user} --output json"));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn by_load_a_busy_host_gets_nobody_until_it_is_idle_again() {
    let service = Service::with(&ClusterSpec { users: 30, ..spec("placement") });
    let [busy, idle] = AGENTS;
    service.configure(BROKER, "vsmserver", &["/vsmserver/placement=load"]);
    service.sh(busy, BURN);
    busy_becomes(&service, busy, "busy", |share| share > 90.0);
    for user in ["user001", "user002", "user003"] {
        assert_eq!(service.connect(user).agent, idle, "{}", explained(&service, user));
    }

    // Whoever has a desktop there gets the next one there too, be it never so busy.
    service.configure(BROKER, "vsmserver", &["/vsmserver/agents/draining=agent2"]);
    assert_eq!(service.connect("user004").agent, busy);
    let several = ["/vsmserver/agents/draining=", "/vsmserver/max_sessions_per_user=0"];
    service.configure(BROKER, "vsmserver", &several);
    let told = explained(&service, "user004");
    assert_eq!(told["chosen"], serde_json::json!([busy]), "{told:#}");
    let told = explained(&service, "user005");
    assert_eq!(told["chosen"], serde_json::json!([idle]), "{told:#}");

    // The cap holds: full is full.
    let cap = "/vsmserver/subclusters/Default/max_users_per_agent";
    service.configure(BROKER, "vsmserver", &[&format!("{cap}=3")]);
    assert_eq!(service.connect("user005").agent, busy);
    service.configure(BROKER, "vsmserver", &[&format!("{cap}=0")]);

    // A host that fails to start desktops is last, however idle.
    service.configure(idle, "vsmagent", &["/vsmagent/xserver=/bin/false"]);
    assert_eq!(service.connect("user006").agent, busy);
    let told = explained(&service, "user007");
    assert_eq!(told["agents"][1]["failed"], true, "{told:#}");
    assert_eq!(told["chosen"], serde_json::json!([busy]), "{told:#}");
    service.configure(BROKER, "vsmserver", &["/vsmserver/agent_failure_penalty=0"]);
    service.configure(idle, "vsmagent", &["/vsmagent/xserver="]);
    assert_eq!(service.connect("user007").agent, idle);

    // Figures are never old: once it is idle it gets the users whom it has fewer of.
    service.sh(busy, COOL);
    for agent in AGENTS {
        busy_becomes(&service, agent, "idle", |share| share < 30.0);
    }
    // A user more on the other host each time: what else runs on the machine slows one
    // host now and the other then, and a login counts what is measured at its moment.
    let mut users = (8..=30).map(|n| format!("user{n:03}"));
    wait_for("the cooled host to get a user", WAIT, || {
        let user = users.next().ok_or("no user is left")?;
        let told = explained(&service, &user);
        if service.connect(&user).agent == busy { Ok(()) } else { Err(told.to_string()) }
    })
    .unwrap();
}
