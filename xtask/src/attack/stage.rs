//! Where the attacks are made: a pair of brokers with keepalived, three session hosts, people with desktops on the
//! first of them, and what an attacker may know of all that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{calls, identities, logins};
use crate::clock::wait_for;
use crate::cluster::spec::state_dir;
use crate::cluster::{Cluster, ClusterSpec};
use crate::command::{command, run};
use crate::pair::{self, NODES};
use crate::progress::Progress;

/// How long anything may take that prepares the stage, on a machine that others use as well.
const WAIT: Duration = Duration::from_secs(120);
/// Session hosts: the first has the desktops that are attacked, the second those of who logs in, the third is the
/// attackers' own, and serves nobody.
pub(super) const AGENTS: [&str; 3] = ["agent1", "agent2", "agent3"];
/// The session host in the wrong hands.
pub(super) const LOST: &str = "agent3";
/// Users beside alice, bob and carol: those who log in, then some whose desktops are there to be lost.
const USERS: u16 = logins::USERS + 4;
/// A member of `vsmadmin`.
pub(super) const ADMINISTRATOR: &str = "user010";
/// Of whom nobody expects that their desktop stays.
pub(super) const SPARE: [&str; 3] = ["user007", "user008", "user009"];
/// The cluster's name; with holes it is another one.
const NAME: &str = "attack";

/// The object that tells of its loading, for `LD_PRELOAD`.
const OBJECT: &str = include_str!("tools/object.c");

/// The stage, with all that is known of it.
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a Cluster,
    facts: BTreeMap<String, String>,
    /// Where the hosts see `vsm-bench`.
    pub(super) bench: String,
}

/// Brings the hosts up, with a hole in the daemons or without.
pub(super) fn up(helper: &Path, binaries: PathBuf, hole: Option<&str>) -> Result<Cluster> {
    let name = if hole.is_some() { format!("{NAME}-hole") } else { NAME.to_owned() };
    let mut spec = ClusterSpec::pair(name, helper);
    spec.fresh = true;
    spec.users = USERS;
    spec.binaries = binaries;
    Cluster::up(&spec)
}

/// Sets all up; what the attacks are made on.
pub(super) fn set<'a>(
    cluster: &'a Cluster,
    binaries: &Path,
    hole: Option<&str>,
    progress: &Progress,
) -> Result<Stage<'a>> {
    let bench = cluster.install(&binaries.join("vsm-bench"))?.display().to_string();
    let mut stage = Stage { cluster, facts: BTreeMap::new(), bench };
    settings(&stage, hole)?;
    logins::prepare(cluster)?;
    progress.step("the hosts are configured");
    let active = pair::in_step(cluster, WAIT)?;
    stage.know("active", active);
    stage.know("standby", pair::other(active));
    agents_up(cluster, active, &AGENTS)?;
    people(&mut stage)?;
    progress.step("alice, bob and carol have a desktop on agent1");
    object(&stage)?;
    identities::make(&stage, binaries)?;
    reign(&mut stage)?;
    progress.step("the attackers have what they may have");
    Ok(stage)
}

fn settings(stage: &Stage<'_>, hole: Option<&str>) -> Result<()> {
    let hole = hole.map(|hole| format!("echo {hole} > /etc/vsm/hole; ")).unwrap_or_default();
    for agent in AGENTS {
        stage.sh(agent, pair::BARE_SCRIPT)?;
        stage.sh(agent, &format!("{hole}vsm-config /shadowing/shadowing_mode=silent"))?;
        // The distribution's own stack lets users set variables, and so does this one.
        stage.sh(
            agent,
            "echo 'session required pam_env.so user_readenv=1' >> /etc/pam.d/vsm; mkdir -p -m 1777 /tmp/loaded",
        )?;
        stage.cluster.restart_daemon(agent, "vsmagent")?;
    }
    for node in NODES {
        let words = format!(
            "{hole}groupadd -f vsmadmin; usermod -aG vsmadmin {ADMINISTRATOR}; mkdir -p /etc/vsm/sessionstartup.d; \
             vsm-config /shadowing/allowed_shadowers=carol '/vsmserver/allowed_clients=ops gone' \
             /vsmserver/HA/observers=watcher /vsmserver/max_sessions_per_user=1"
        );
        stage.sh(node, &words)?;
    }
    for node in NODES {
        stage.cluster.restart_daemon(node, "vsmserver")?;
        pair::in_step(stage.cluster, WAIT)?;
    }
    Ok(())
}

/// Waits until a broker has these session hosts.
pub(super) fn agents_up(cluster: &Cluster, node: &str, agents: &[&str]) -> Result<()> {
    wait_for(&format!("{agents:?} to be up"), WAIT, || {
        let down = agents_down(cluster, node, agents).map_err(|error| format!("{error:#}"))?;
        if down.is_empty() { Ok(()) } else { Err(down.join(", ")) }
    })
}

/// Which of these session hosts a broker does not have, and why.
pub(super) fn agents_down(cluster: &Cluster, node: &str, agents: &[&str]) -> Result<Vec<String>> {
    let words = ["timeout", "20", "vsmctl", "agent", "list", "--output", "json"];
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&cluster.output(node, "root", &words)?)?;
    let of = |name: &&str| {
        let found = list.iter().find(|agent| agent["agent"] == **name);
        match found {
            Some(agent) if agent["state"] == "up" => None,
            Some(agent) => Some(format!("{name} is {}: {}", agent["state"], agent["detail"])),
            None => Some(format!("{name} is not known")),
        }
    };
    Ok(agents.iter().filter_map(of).collect())
}

/// Gives everybody the desktop that they begin with.
fn people(stage: &mut Stage<'_>) -> Result<()> {
    let active = stage.fact("active")?.to_owned();
    let drain = |agent: &str, word: &str, more: &str| {
        stage.sh(&active, &format!("vsmctl agent {word} {agent} {more}")).map(drop)
    };
    drain("agent2", "drain", "--reason others")?;
    drain(LOST, "drain", "--reason lost")?;
    let mut facts = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let desktop = pair::login(stage.cluster, user, 60)?;
        if desktop.agent != "agent1" {
            bail!("{user} is on {}", desktop.agent);
        }
        let record = format!("cat /var/lib/vsm-agent/sessions/{}.json", desktop.session);
        let record: serde_json::Value = serde_json::from_str(&stage.sh("agent1", &record)?)?;
        let dir = format!("/run/vsm/sessions/{}", desktop.session);
        let pid = |part: &str| record[part]["pid"].to_string();
        facts.extend([
            (format!("{user}.session"), desktop.session.clone()),
            (format!("{user}.display"), desktop.display.to_string()),
            (format!("{user}.dir"), dir),
            (format!("{user}.x"), pid("x_server")),
            (format!("{user}.monitor"), pid("monitor")),
        ]);
        let script = format!("pgrep -u {user} -f '^sleep 86400' | head -n 1");
        facts.push((format!("{user}.desktop"), stage.sh("agent1", &script)?));
    }
    drain("agent2", "undrain", "")?;
    drain("agent1", "drain", "--reason full")?;
    for (name, value) in facts {
        stage.know(&name, value);
    }
    Ok(())
}

/// What a preloaded object is made of, where all hosts see it.
fn object(stage: &Stage<'_>) -> Result<()> {
    let dir = state_dir(stage.cluster.name());
    let (source, object) = (dir.join("object.c"), dir.join("object.so"));
    fs::write(&source, OBJECT)?;
    let mut cc = command(&["cc", "-shared", "-fPIC", "-O0", "-o"]);
    run(cc.arg(&object).arg(&source))?;
    stage.cluster.install(&object)?;
    Ok(())
}

/// What whoever has a broker's certificate can ask: the table's lineage, and the reign.
fn reign(stage: &mut Stage<'_>) -> Result<()> {
    let told = calls::report(stage, "agent1")?;
    for (name, value) in told {
        stage.know(name, value);
    }
    Ok(())
}

impl Stage<'_> {
    /// Notes a fact.
    pub(super) fn know(&mut self, name: &str, value: impl Into<String>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// A fact.
    pub(super) fn fact(&self, name: &str) -> Result<&str> {
        self.facts.get(name).map(String::as_str).with_context(|| format!("no fact {name:?}"))
    }

    /// A word with facts in the place of their names in braces.
    pub(super) fn fill(&self, word: &str) -> Result<String> {
        let mut text = word.to_owned();
        if ["active", "standby"].contains(&word) {
            self.fact(word)?.clone_into(&mut text);
        }
        for (name, value) in &self.facts {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        Ok(text)
    }

    /// Runs a line of shell as root.
    pub(super) fn sh(&self, host: &str, line: &str) -> Result<String> {
        self.cluster.output(&self.fill(host)?, "root", &["sh", "-c", &self.fill(line)?])
    }

    /// The same as somebody else.
    pub(super) fn sh_as(&self, host: &str, user: &str, line: &str) -> Result<String> {
        self.cluster.output(&self.fill(host)?, user, &["sh", "-c", &self.fill(line)?])
    }

    /// The folder of the cluster on this machine.
    pub(super) fn dir(&self) -> PathBuf {
        state_dir(self.cluster.name())
    }
}
