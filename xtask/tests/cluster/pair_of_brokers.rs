//! The pair in its daily life: users and administrators meet one service, whichever node they reach.

use std::io::{Read, Write};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::{Brokers, Cluster, ClusterSpec, Fault};
use xtask::pair::{self, Desktop, NODES};

use crate::XTASK;
use crate::packages::working_of;
use crate::service::know_hosts;

/// How long anything may take before a test gives up; nothing that works comes near it.
pub(crate) const WAIT: Duration = Duration::from_secs(120);

/// A pair with bare desktops, in step.
#[derive(Debug)]
pub(crate) struct Pair(pub Cluster);

impl Deref for Pair {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Pair {
    pub(crate) fn up(name: &str) -> Self {
        Self::with_agents(name, 3)
    }

    pub(crate) fn with_agents(name: &str, agents: u8) -> Self {
        let mut spec = ClusterSpec::pair(crate::named(name), Path::new(XTASK));
        spec.fresh = true;
        spec.agents = agents;
        let pair = Self(Cluster::up(&spec).unwrap());
        for number in 1..=agents {
            pair.sh(&format!("agent{number}"), pair::BARE_SCRIPT);
        }
        pair.in_step();
        pair
    }

    /// The same on hosts as Debian makes them, with the packages.
    pub(crate) fn debian(name: &str) -> Self {
        let pair = Self(working_of(name, Brokers::Pair, 3, 0));
        for number in 1..=3 {
            pair.sh(&format!("agent{number}"), pair::BARE_SCRIPT);
        }
        pair.in_step();
        know_hosts(&pair);
        pair
    }

    /// Runs a line of shell as root.
    pub(crate) fn sh(&self, host: &str, line: &str) -> String {
        self.output(host, "root", &["sh", "-c", line]).unwrap()
    }

    /// Waits until both are in step; the active node and the other.
    pub(crate) fn in_step(&self) -> (&'static str, &'static str) {
        let active = pair::in_step(&self.0, WAIT).unwrap();
        (active, pair::other(active))
    }

    /// Waits until this node serves.
    pub(crate) fn serves(&self, host: &str) {
        wait_for(&format!("{host} to serve"), WAIT, || match pair::node(&self.0, host) {
            Ok(node) if node.role == "active" && node.ready => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    }

    /// Logs in; machines may be busy with other tests.
    pub(crate) fn login(&self, user: &str) -> Desktop {
        pair::login(&self.0, user, 120).unwrap()
    }

    /// Logs in; it has to be the desktop from before.
    pub(crate) fn same(&self, user: &str, before: &Desktop) {
        let now = self.login(user);
        assert_eq!((&now.session, now.created), (&before.session, false), "{user}");
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads as a sentence")]
    pub(crate) fn inject(&self, fault: Fault) {
        self.fault(&fault).unwrap();
    }

    pub(crate) fn heal_all(&self) {
        self.heal(&[]).unwrap();
    }

    /// P4 to P6, as far as they can be seen: both tables are equal, and have what the agents run.
    pub(crate) fn all_agree(&self) {
        let (active, _) = self.in_step();
        wait_for("no differences", WAIT, || match pair::verify(&self.0, active) {
            Ok(found) if found.differences.is_empty() && found.skipped.is_empty() => Ok(()),
            other => Err(format!("{other:#?}")),
        })
        .unwrap();
    }

    /// P7: nobody has more than one session, on any agent.
    pub(crate) fn one_each(&self) {
        let (active, _) = self.in_step();
        let mut users: Vec<_> =
            pair::rows(&self.0, active).unwrap().into_iter().map(|row| row.user).collect();
        users.sort();
        let before = users.len();
        users.dedup();
        assert_eq!(users.len(), before, "somebody has two desktops");
    }
}

pub(crate) fn host(name: &str) -> String {
    name.to_owned()
}

/// P1, P4, P6: the seed's ninth step, without the pictures.
#[test]
fn a_user_comes_back_to_the_same_desktop_after_the_active_node_lost_its_cable() {
    comes_back(&Pair::up("cable"));
}

pub(crate) fn comes_back(pair: &Pair) {
    let (active, standby) = pair.in_step();
    let before = pair.login("alice");
    pair.inject(Fault::Cable { host: host(active) });
    pair.same("alice", &before);
    pair.serves(standby);
    let bob = pair.login("bob");
    pair.heal_all();
    pair.same("alice", &before);
    pair.same("bob", &bob);
    pair.all_agree();
    pair.one_each();
}

/// Users and tools are served on either node.
#[test]
fn a_standby_forwards_users_and_tools_to_the_active_node() {
    let pair = Pair::up("forward");
    let (active, standby) = pair.in_step();
    let words = ["vsm", "connect", "--no-viewer", "--json", &format!("alice@{standby}")];
    let text = pair.output("client", "alice", &words).unwrap();
    let there: Desktop = serde_json::from_str(&text).unwrap();
    assert!(there.created);
    let rows = |node| pair::rows(&pair, node).unwrap();
    assert_eq!(rows(active), rows(standby));
    assert_eq!(rows(standby).len(), 1);
    pair.same("alice", &there);
    let words = ["vsm", "list", "--output", "json", &format!("alice@{standby}")];
    assert!(pair.output("client", "alice", &words).unwrap().contains(&there.session));
    pair.output("client", "alice", &["vsm", "end", &format!("alice@{standby}")]).unwrap();
    assert_eq!(rows(active).len(), 0);
    // An administrator too.
    let bob = pair.login("bob");
    pair.output(standby, "root", &["vsmctl", "session", "terminate", "-y", "--user", "bob"])
        .unwrap();
    assert_eq!(rows(active).len(), 0, "{bob:?} was to end");
    pair.all_agree();
}

/// The planned way: nothing is retried, nothing is lost, and the address follows.
#[test]
fn a_planned_hand_over_moves_the_service_and_the_address() {
    let pair = Pair::up("planned");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let dry = pair.sh(standby, "vsmctl ha takeover --dry-run");
    assert!(dry.contains(active) && dry.contains(standby), "{dry}");
    assert_eq!(pair.in_step().0, active, "a dry run changes nothing");
    pair.sh(standby, "vsmctl ha takeover");
    let asked = crate::operator::event(&pair, standby, "take-over-asked", None);
    assert_eq!((asked.actor.as_str(), asked.detail), ("root", format!("to {standby}")));
    pair.serves(standby);
    pair.same("alice", &alice);
    pair.login("bob");
    assert_eq!(pair.in_step().0, standby);
    pair.all_agree();
}

/// `vsmctl ha status` names what differs; so does the check, with the step.
#[test]
fn a_difference_between_the_nodes_is_named() {
    let pair = Pair::up("differ");
    let (active, standby) = pair.in_step();
    let told = |what: &str, fits: &dyn Fn(&pair::Node) -> bool| {
        for node in [active, standby] {
            wait_for(what, WAIT, || match pair::node(&pair, node) {
                Ok(told) if fits(&told) => Ok(()),
                other => Err(format!("{other:#?}")),
            })
            .unwrap();
        }
    };
    told("nothing", &|node| node.parameters_differ.is_empty() && !node.host_keys_differ);
    pair.sh(standby, "vsm-config /vsmserver/max_sessions_per_user=3");
    pair.kill_daemon(standby, "vsmserver", 1).unwrap();
    let path = "/vsmserver/max_sessions_per_user";
    told("the parameter", &|node| node.parameters_differ == [path]);
    let new_key = "cd /etc/ssh && rm -f ssh_host_ed25519_key* && \
                   ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key";
    pair.sh(standby, new_key);
    pair.kill_daemon(standby, "vsmserver", 1).unwrap();
    told("the host key", &|node| node.host_keys_differ);
    let check = pair.exec(active, "root", &["vsmctl", "ha", "check"]).unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{text}");
    assert!(text.contains(path) && text.contains("SSH host keys differ"), "{text}");
}

/// HA that is not safe is off, loudly.
#[test]
fn a_node_that_does_not_know_which_one_it_is_does_not_act_in_the_pair() {
    let pair = Pair::up("unsafe");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    pair.sh(standby, "vsm-config '/vsmserver/HA/nodes=x.invalid y.invalid'");
    pair.restart_daemon(standby, "vsmserver").unwrap();
    let node = wait_for("the status", WAIT, || {
        pair::node(&pair, standby).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
    let why = node.ha_off.unwrap();
    assert!(why.contains("x.invalid") && why.contains("uname -n"), "{why}");
    assert!(!node.healthy);
    pair.same("alice", &alice);
    pair.login("bob");
    assert!(pair::node(&pair, active).unwrap().ready);
    // Step 6: an agent that each node would take for itself.
    let bad = pair.exec(
        standby,
        "root",
        &[
            "sh",
            "-c",
            "vsm-config /vsmserver/subclusters/Default/agents=localhost; vsmserver --check",
        ],
    );
    let bad = bad.unwrap();
    assert_eq!(bad.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("loopback"), "{bad:?}");
}

/// Gives both nodes this role source.
pub(crate) fn with_source(pair: &Pair, source: &str, more: &str) {
    for node in NODES {
        pair.sh(node, &format!("vsm-config /vsmserver/HA/role_source={source} {more}"));
    }
    for node in NODES {
        pair.restart_daemon(node, "vsmserver").unwrap();
    }
}

/// `role_source = cluster`: Pacemaker says who is to be active, and nobody else.
#[test]
fn with_role_source_cluster_the_software_promotes_and_demotes() {
    let pair = Pair::up("source-cluster");
    let alice = pair.login("alice");
    with_source(&pair, "cluster", "");
    let standby = |node: &str| {
        wait_for("a standby", WAIT, || match pair::node(&pair, node) {
            Ok(told) if told.role == "standby" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    };
    standby(NODES[0]);
    standby(NODES[1]);
    pair.sh(NODES[1], "vsmctl ha promote");
    pair.serves(NODES[1]);
    pair.same("alice", &alice);
    pair.sh(NODES[1], "vsmctl ha demote");
    pair.sh(NODES[0], "vsmctl ha promote");
    pair.serves(NODES[0]);
    standby(NODES[1]);
    pair.same("alice", &alice);
    pair.login("bob");
    pair.all_agree();
}

/// `role_source = request`: the node that users reach is active, where there is no resource address.
#[test]
fn with_role_source_request_the_node_that_users_reach_becomes_active() {
    let pair = Pair::up("source-request");
    with_source(&pair, "request", "");
    let connect = |node: &str| -> Desktop {
        let to = format!("alice@{node}");
        let text =
            pair.output("client", "alice", &["vsm", "connect", "--no-viewer", "--json", &to]);
        serde_json::from_str(&text.unwrap()).unwrap()
    };
    let first = connect(NODES[0]);
    assert_eq!(pair::active(&pair), [NODES[0]]);
    let there = connect(NODES[1]);
    assert_eq!(there.session, first.session, "the other node forwards");
    assert_eq!(pair::active(&pair), [NODES[0]]);
    pair.inject(Fault::Power { host: host(NODES[0]) });
    let after = connect(NODES[1]);
    assert_eq!(after.session, first.session);
    assert_eq!(pair::active(&pair), [NODES[1]]);
    pair.heal_all();
    pair.all_agree();
}

/// A viewer goes by ssh to the agent: it does not notice that a broker dies.
#[test]
fn a_viewer_is_not_touched_by_a_failover() {
    let pair = Pair::up("viewer");
    let (active, _) = pair.in_step();
    let alice = pair.login("alice");
    // As a viewer does: the greeting of the desktop, and later the answer to ours.
    let socket = format!(
        "/proc/{}/root/run/user/2001/vsm/{}.sock",
        pair.init_pid("client").unwrap(),
        alice.session
    );
    let mut viewer = UnixStream::connect(socket).unwrap();
    viewer.set_read_timeout(Some(WAIT)).unwrap();
    let mut greeting = [0; 12];
    viewer.read_exact(&mut greeting).unwrap();
    assert!(greeting.starts_with(b"RFB "), "{greeting:?}");
    pair.inject(Fault::Power { host: host(active) });
    pair.same("alice", &alice);
    viewer.write_all(&greeting).unwrap();
    let mut answer = [0; 2];
    viewer.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [1, 1], "one security type, none: the desktop goes on talking");
    let viewers = "vsmctl session list --output json";
    let other = pair::other(active);
    wait_for("the viewer to be known to the other broker", WAIT, || {
        let list = pair.sh(other, viewers);
        let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
        match list.iter().find(|row| row["session"] == *alice.session) {
            Some(row) if row["state"] == "connected" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    pair.heal_all();
}

/// Agents that run nothing remember the lineage of a table that is gone. Who asks them last must not bring it back on
/// one node alone.
#[test]
fn two_empty_tables_are_of_one_lineage_whatever_idle_agents_remember() {
    let pair = Pair::up("lineage");
    let lineages = || -> Vec<String> {
        let status = pair.sh(NODES[0], "vsmctl ha status --output json");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let of = |node: &serde_json::Value| node["lineage"].as_str().unwrap().to_owned();
        status["nodes"].as_array().unwrap().iter().map(of).collect()
    };
    let before = lineages();
    let agents = ["agent1", "agent2", "agent3"];
    agents.iter().for_each(|agent| pair.stop_daemon(agent, "vsmagent").unwrap());
    for node in NODES {
        pair.stop_daemon(node, "vsmserver").unwrap();
        pair.sh(node, "rm -rf /var/lib/vsm/*");
    }
    for node in NODES {
        pair.start_daemon(node, "vsmserver").unwrap();
    }
    pair.in_step();
    agents.iter().for_each(|agent| pair.start_daemon(agent, "vsmagent").unwrap());
    pair.login("alice");
    pair.all_agree();
    let after = lineages();
    assert_eq!(after[0], after[1]);
    assert_ne!(after[0], before[0], "agents without desktops were asked for it");
}
