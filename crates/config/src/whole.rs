//! Is a configuration good, for a broker that is to run by it? The one place that says so: `vsm-config check`,
//! `vsmserver --check`, a start, a reload and what the other node pushes all ask here, and all say the same.
//!
//! What [`Config::load`] refuses, nothing can use. What is refused here says of single values nothing that is wrong,
//! and a broker cannot do it: such files can be written step by step, and are not taken into use. What only the host
//! knows (does a name resolve, is this node one of the two, can the files of the certificate be read) the daemons look
//! at themselves.

use std::collections::BTreeMap;

use vsm_core::{AgentName, Limit, NodeName, Words};

use crate::{
    config::Config,
    host::one_spelling,
    keys,
    limits::LimitsFolder,
    problem::{LoadError, Problem},
};

/// Where the limits are.
const LIMITS: &str = "/vsmserver/limits";

impl Config {
    /// Whether it is good: all that can be known without the host.
    ///
    /// # Errors
    /// Everything that is wrong, each with file and line.
    pub fn check(&self) -> Result<(), LoadError> {
        let mut problems = self.broker_problems();
        problems.extend(self.pair_problem());
        refuse(problems)
    }

    /// Whether a broker can run by it; with HA off, should it not be able to be one of a pair.
    ///
    /// # Errors
    /// Everything that is wrong, each with file and line.
    pub fn check_broker(&self) -> Result<(), LoadError> {
        refuse(self.broker_problems())
    }

    fn broker_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        agents(self, &mut problems);
        problems.extend(self.moving_agent().map(|moving| {
            let text = moving.to_string();
            self.problem_of(&[&moving.path, keys::ha::ENABLED.path()], text)
        }));
        limits(self, &mut problems);
        problems
    }

    /// Why a pair that is switched on cannot work, if it cannot: the broker then starts with HA off.
    pub(crate) fn pair_problem(&self) -> Option<Problem> {
        let wanted = self.get(&keys::ha::ENABLED);
        let (nodes, resource) = (self.get(&keys::ha::NODES), self.get(&keys::ha::RESOURCE_ADDRESS));
        let text = wanted.then(|| pair_fault(&nodes, &resource).err())??;
        Some(self.problem_of(&[keys::ha::NODES.path(), keys::ha::ENABLED.path()], text))
    }
}

fn refuse(problems: Vec<Problem>) -> Result<(), LoadError> {
    if problems.is_empty() { Ok(()) } else { Err(LoadError { problems }) }
}

/// The names of the two nodes of a pair, as far as they can be judged without looking them up.
///
/// # Errors
/// One line that says why they cannot be those of a pair.
pub fn pair_fault(nodes: &[String], resource: &str) -> Result<[NodeName; 2], String> {
    let path = keys::ha::NODES.path();
    let [first, second] = nodes else {
        let found = if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") };
        return Err(format!(
            "{path} has {} entries and needs exactly 2: with {} on, exactly two different nodes; found: {found}",
            nodes.len(),
            keys::ha::ENABLED.path(),
        ));
    };
    if one_spelling(first) == one_spelling(second) {
        return Err(format!(
            "both entries of {path} are {first}: exactly two different nodes are needed"
        ));
    }
    let is_resource = |entry: &&String| one_spelling(entry) == one_spelling(resource);
    if let Some(entry) = nodes.iter().find(is_resource) {
        return Err(format!("{path} has {entry}, which is the resource address and not a node"));
    }
    let name = |entry: &String| entry.parse().map_err(|error| format!("{path}: {error}"));
    Ok([name(first)?, name(second)?])
}

/// Entries of agents lists that cannot be the name of one.
fn agents(config: &Config, problems: &mut Vec<Problem>) {
    for subcluster in config.subclusters() {
        let path = format!("/vsmserver/subclusters/{}/agents", subcluster.name);
        let bad = |host: &String| host.parse::<AgentName>().err();
        problems.extend(subcluster.agents.iter().filter_map(bad).map(|error| {
            let text = format!("{path}: {error}");
            config.problem_of(&[&path], text)
        }));
    }
}

fn limits(config: &Config, problems: &mut Vec<Problem>) {
    let folders = config.limits();
    let known: Vec<String> =
        config.subclusters().into_iter().map(|subcluster| subcluster.name).collect();
    for folder in &folders {
        let path = format!("{LIMITS}/{}/subclusters", folder.name);
        for name in folder.subclusters.iter().filter(|name| !known.contains(name)) {
            let text = format!("{path}: there is no subcluster {name}");
            problems.push(config.problem_of(&[&path], text));
        }
        problems.extend(late_warning(config, folder));
    }
    type List = fn(&LimitsFolder) -> &Vec<String>;
    let lists: [(&str, List); 3] = [
        ("users", |folder| &folder.users),
        ("groups", |folder| &folder.groups),
        ("subclusters", |folder| &folder.subclusters),
    ];
    for (key, list) in lists {
        let mut seen = BTreeMap::new();
        for folder in &folders {
            for member in list(folder) {
                let earlier = seen.insert(member.as_str(), folder.name.as_str());
                if let Some(earlier) = earlier.filter(|earlier| *earlier != folder.name) {
                    let what = format!("both have {member} among their {key}");
                    problems.push(two_folders(config, earlier, &folder.name, key, &what));
                }
            }
        }
    }
    let nobodys: Vec<&LimitsFolder> = folders
        .iter()
        .filter(|folder| lists.iter().all(|(_, list)| list(folder).is_empty()))
        .collect();
    for pair in nobodys.windows(2) {
        let what = "both have neither users, groups nor subclusters: only one may be the default";
        problems.push(two_folders(config, &pair[0].name, &pair[1].name, "idle_max", what));
    }
}

fn two_folders(config: &Config, one: &str, other: &str, key: &str, what: &str) -> Problem {
    let text = format!("{LIMITS}/{one} and {LIMITS}/{other} {what}");
    let folder = format!("{LIMITS}/{other}");
    let mut paths = vec![format!("{folder}/{key}")];
    paths.extend(Limit::ALL.map(|limit| format!("{folder}/{}", limit.key())));
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    config.problem_of(&paths, text)
}

/// A limit that would be over before its warning.
fn late_warning(config: &Config, folder: &LimitsFolder) -> Option<Problem> {
    let limits = folder.limits();
    let short = |limit: &Limit| (1..=limits.warn_ms).contains(&limits.of(*limit));
    let limit = Limit::ALL.into_iter().find(short)?;
    let (name, key) = (&folder.name, limit.key());
    let (warn, value) = (Words(limits.warn_ms), Words(limits.of(limit)));
    let text = format!(
        "{LIMITS}/{name}/warn_before ({warn}) must be less than {key} ({value}), so that the warning comes before the end"
    );
    Some(config.problem_of(&[&format!("{LIMITS}/{name}/{key}")], text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::merged;

    fn refused(text: &str) -> Vec<String> {
        let merged = merged(text);
        assert_eq!(merged.problems, [], "{text}");
        let refused = Config::of(merged).check().expect_err(text);
        refused.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_no_broker_can_do_is_refused_with_file_and_line() {
        let pair = "HA: {enabled: 1, nodes: [a, b], resource_address: r}\n";
        for (text, line, wanted) in [
            (
                "vsmserver:\n limits:\n  x:\n   idle_max: 5m\n",
                4,
                "/vsmserver/limits/x/warn_before (5 min) must be less than idle_max (5 min)",
            ),
            (
                "vsmserver:\n limits:\n  x: {subclusters: lap}\n",
                3,
                "/vsmserver/limits/x/subclusters: there is no subcluster lap",
            ),
            (
                "vsmserver:\n limits:\n  x: {users: u}\n  y: {users: u}\n",
                4,
                "/vsmserver/limits/x and /vsmserver/limits/y both have u among their users",
            ),
            (
                "vsmserver:\n limits:\n  x: {idle_max: 1h}\n  y: {idle_max: 2h}\n",
                4,
                "both have neither users, groups nor subclusters: only one may be the default",
            ),
            ("subclusters:\n d: {agents: 'fe80::1%eth0'}\n", 2, "is not a valid agent name"),
            (&format!("{pair}subclusters:\n d: {{agents: localhost}}\n"), 3, "own loopback"),
            (&format!("{pair}subclusters:\n d: {{agents: R}}\n"), 3, "the resource address"),
        ] {
            let all = refused(text);
            assert_eq!(all.len(), 1, "{all:?}");
            assert!(all[0].starts_with(&format!("f.yaml:{line}: ")), "{all:?}");
            assert!(all[0].contains(wanted), "{all:?}");
        }
    }

    #[test]
    fn a_pair_that_cannot_be_is_refused_and_a_broker_can_start_without_it() {
        let agents = "subclusters: {d: {agents: x}}\n";
        for (nodes, wanted) in [
            ("", "has 0 entries and needs exactly 2"),
            ("nodes: a", "has 1 entries and needs exactly 2"),
            ("nodes: a b c", "found: a, b, c"),
            ("nodes: a A.", "both entries of /vsmserver/HA/nodes are a"),
            ("nodes: a r, resource_address: R", "which is the resource address and not a node"),
            ("nodes: a 'fe80::1%eth0'", "is not a valid node name"),
        ] {
            let text = format!("HA: {{enabled: 1, {nodes}}}\n{agents}");
            let all = refused(&text);
            assert!(all[0].starts_with("f.yaml:1: ") && all[0].contains(wanted), "{all:?}");
            assert_eq!(Config::of(merged(&text)).check_broker(), Ok(()));
        }
        assert_eq!(Config::defaults().check(), Ok(()));
    }
}
