//! The nine steps of the guide done twice, and with some left out: what the page says is typed, on hosts with the
//! packages alone. Nothing is lost, no desktop ends, and the check names the step.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use xtask::clock::wait_for;
use xtask::cluster::{Cluster, ClusterSpec};
use xtask::docs::Steps;
use xtask::pair::NODES;

use crate::XTASK;
use crate::packages::{packages, sh};
use crate::pair_of_brokers::WAIT;

const AGENTS: [&str; 3] = ["agent1", "agent2", "agent3"];
/// What the steps set on a host. Certificates are left out: they are new each time, of the same authority.
const STATE: &str = "cd /etc; dpkg-query --show; ls -lR --time-style=+ systemd/system
    find vsm ssh keepalived default pam.d -not -path 'vsm/pki/*' -type f -printf '%M %u %g ' -exec md5sum {} \\; 2>/dev/null
";
/// The X servers of a host's desktops.
const DESKTOPS: &str = "pgrep -u alice -x Xtigervnc || true";

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs")
}

/// Hosts with Debian alone, and the packages where the guide has them.
fn hosts(name: &str) -> Cluster {
    let mut spec = ClusterSpec::fresh(crate::named(name), Path::new(XTASK));
    (spec.fresh, spec.medium) = (true, Some(packages().join("now")));
    Cluster::up(&spec).unwrap()
}

/// What is set on each host, and where alice's desktops run.
fn state(cluster: &Cluster) -> Vec<String> {
    let hosts = [&NODES[..], &AGENTS, &["client"]].concat();
    hosts
        .iter()
        .map(|host| format!("{host}: {}", sh(cluster, host, &format!("{STATE}{DESKTOPS}"))))
        .collect()
}

/// What `vsmctl ha check` finds on a node.
fn findings(cluster: &Cluster, node: &str) -> Vec<Finding> {
    let output = cluster.exec(node, "root", &["vsmctl", "ha", "check", "--output", "json"]);
    let output = output.unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Finding {
    step: u32,
    ok: bool,
    text: String,
    remedy: String,
}

impl Finding {
    /// The command that mends it, and the host that it is for.
    fn command(&self) -> Option<(&str, &str)> {
        let (_, rest) = self.remedy.rsplit_once("on ")?;
        let (host, command) = rest.split_once(": ")?;
        (!host.contains(' ')).then_some((host, command))
    }
}

/// Has alice connect to this name; her session's id.
fn connect(cluster: &Cluster, server: &str) -> String {
    let mut id = String::new();
    wait_for("alice's desktop", WAIT, || {
        let to = format!("alice@{server}");
        let output = cluster.exec("client", "alice", &["vsm", "connect", "--no-viewer", &to]);
        let output = output.map_err(|error| format!("{error:#}"))?;
        let socket = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match Path::new(&socket).file_stem() {
            Some(stem) if output.status.success() => id = stem.display().to_string(),
            _ => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
        Ok(())
    })
    .unwrap();
    id
}

#[test]
fn a_step_that_is_done_twice_changes_nothing_and_ends_no_desktop() {
    let cluster = hosts("guide-twice");
    let mut steps = Steps::new(&book(), "ha.md", &cluster).unwrap();
    let mut again = |step: u8| {
        let before = state(&cluster);
        steps.step(step, |_, _| true).unwrap();
        for (before, after) in before.iter().zip(&state(&cluster)) {
            assert_eq!(before, after, "step {step}");
        }
    };
    let mut first = Steps::new(&book(), "ha.md", &cluster).unwrap();
    let mut session = None;
    for step in 1..=9 {
        first.step(step, |_, _| true).unwrap();
        if step == 7 {
            // Step 6 ends its own desktops; this one stays.
            session = Some(connect(&cluster, "tlha"));
        }
        again(step);
    }
    // Once more on a pair that serves, as step 8 leaves it, with a user at work.
    for step in [8, 1, 2, 3, 4, 5] {
        again(step);
    }
    assert_eq!(Some(connect(&cluster, "tlha")), session);
    sh(&cluster, "tlha-primary", "vsmctl ha verify");
}

#[test]
fn a_step_that_is_skipped_is_named_with_what_mends_it() {
    let cluster = hosts("guide-skipped");
    let mut steps = Steps::new(&book(), "ha.md", &cluster).unwrap();
    // Step 2 is left out, step 5 on agent3, and step 7 on the second node.
    for step in [1, 3, 4] {
        steps.step(step, |_, _| true).unwrap();
    }
    steps.step(5, |host, _| host != "agent3").unwrap();
    steps.step(6, |_, text| text != "vsmctl agent list").unwrap();
    let session = connect(&cluster, "tlha-primary");
    let desktop = || AGENTS.map(|host| sh(&cluster, host, DESKTOPS));
    let before = desktop();
    steps.step(7, |host, _| host == NODES[0]).unwrap();
    // Without step 2 the nodes have two keys, and ssh warns: step 2 says what users type then.
    let comes_back = || {
        cluster.output("client", "alice", &["ssh-keygen", "-R", "tlha"]).unwrap();
        connect(&cluster, "tlha")
    };
    assert_eq!(comes_back(), session);

    // Each command that the check gives is typed where it says, until nothing is wrong.
    let mut mended = Vec::new();
    // As long as for one, for each of several.
    wait_for("nothing to be wrong", 3 * WAIT, || {
        for node in NODES {
            let bad: Vec<_> = findings(&cluster, node).into_iter().filter(|it| !it.ok).collect();
            let new = bad.iter().find(|it| it.command().is_some() && !mended.contains(*it));
            if let Some((finding, (host, command))) = new.and_then(|it| Some((it, it.command()?))) {
                sh(&cluster, host, command);
                mended.push(finding.clone());
                return Err(format!("{finding:?}"));
            }
            if !bad.is_empty() {
                return Err(format!("{bad:#?} after {mended:#?}"));
            }
        }
        Ok(())
    })
    .unwrap();
    for (step, words) in [
        (2, "the SSH host keys differ"),
        // Of which node depends on which of them agent3 answers first.
        (5, "is not in /vsmagent/allowed_clients of 10.0.0.13"),
        (5, "/vsmagent/master_hostname of agent agent3"),
        (7, "tlha-secondary: HA is off there"),
        (7, "both nodes have a table of their own"),
    ] {
        let named = mended.iter().any(|it| it.step == step && it.text.contains(words));
        assert!(named, "step {step}: {words}: {mended:#?}");
    }
    assert_eq!(comes_back(), session);
    assert_eq!(desktop(), before, "another X server");
    sh(&cluster, "tlha-primary", "vsmctl ha verify");
    assert_eq!(sh(&cluster, "tlha-primary", "vsmctl session list | tail -1"), "1 session(s)");
}
