//! Where the attacks are made: a pair of brokers with keepalived, three session hosts, people with desktops on the
//! first of them, and what an attacker may know of all that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::logins;
use crate::clock::wait_for;
use crate::cluster::Cluster;
use crate::cluster::spec::state_dir;

/// How long anything may take that prepares the stage, on a machine that others use as well.
pub(super) const WAIT: Duration = Duration::from_secs(120);
/// Session hosts: the first has the desktops that are attacked, the second those of who logs in, the others are the
/// attackers' own, and serve nobody.
pub(super) const AGENTS: [&str; 4] = ["agent1", "agent2", LOST, OTHER];
/// The session host in the wrong hands.
pub(super) const LOST: &str = "agent3";
/// Another one, for what a host is put aside for.
pub(super) const OTHER: &str = "agent4";
/// Users beside alice, bob and carol: those who log in, then some whose desktops are there to be lost.
pub(super) const USERS: u16 = logins::USERS + 4;
/// A member of `vsmadmin`.
pub(super) const ADMINISTRATOR: &str = "user010";
/// Of whom nobody expects that their desktop stays.
pub(super) const SPARE: [&str; 3] = ["user007", "user008", "user009"];

/// The stage, with all that is known of it.
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a Cluster,
    facts: BTreeMap<String, String>,
    /// Where the hosts see `vsm-bench`.
    pub(super) bench: String,
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

impl<'a> Stage<'a> {
    /// The stage that these hosts are, of which nothing is known yet.
    pub(super) fn new(cluster: &'a Cluster, bench: String) -> Self {
        Self { cluster, facts: BTreeMap::new(), bench }
    }

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
