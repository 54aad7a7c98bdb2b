//! The merged configuration as daemons see it: immutable, cheap to clone, and typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    keys::{self, PARAMS},
    merge::{Merged, Setting},
    param::{self, Apply, Key, Param, canonical},
    problem::Problem,
    schema,
    value::{Typed, Value},
};

#[derive(Debug, Default)]
struct Inner {
    settings: BTreeMap<String, Setting>,
    notes: Vec<String>,
    unread: Vec<String>,
}

/// The whole configuration, merged and validated.
#[derive(Clone, Debug, Default)]
pub struct Config {
    inner: Arc<Inner>,
}

/// A group of agents with the users bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subcluster {
    /// Name of its folder.
    pub name: String,
    /// Agents for new sessions.
    pub agents: Vec<String>,
    /// Users bound to it; goes before groups.
    pub users: Vec<String>,
    /// Groups bound to it.
    pub groups: Vec<String>,
    /// Most users on one agent; 0 means no limit.
    pub max_users_per_agent: u32,
}

impl Subcluster {
    /// Whether it takes everyone who is bound to no other.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// A parameter that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path.
    pub path: String,
    /// The old value as written; the default where none was set.
    pub old: String,
    /// The new value as written; the default where none is set.
    pub new: String,
    /// Whether it takes effect only when the service is started again.
    pub restart: bool,
}

impl Config {
    /// The configuration of a system where nothing is set.
    #[must_use]
    pub fn defaults() -> Self {
        Self::default()
    }

    /// What files say together, once nothing is wrong with it.
    pub(crate) fn of(merged: Merged) -> Self {
        let Merged { settings, notes, unread, .. } = merged;
        Self { inner: Arc::new(Inner { settings, notes, unread }) }
    }

    /// The value of a parameter, the default where it is not set.
    #[must_use]
    pub fn get<T: Typed>(&self, key: &'static Key<T>) -> T {
        self.typed(&key.param, key.param.path)
    }

    /// The value of a parameter of a folder with a name of its own, such as a profile's: `name` takes the
    /// place of the part in angle brackets.
    #[must_use]
    pub fn get_in<T: Typed>(&self, key: &'static Key<T>, name: &str) -> T {
        let parts: Vec<&str> = param::segments(key.param.path)
            .map(|part| if part.starts_with('<') { name } else { part })
            .collect();
        self.typed(&key.param, &format!("/{}", parts.join("/")))
    }

    fn typed<T: Typed>(&self, param: &'static Param, path: &str) -> T {
        let set = self.inner.settings.get(path).and_then(|setting| T::from_value(&setting.normal));
        set.or_else(|| T::from_value(&param.normalise(&param.default_value()).ok()?)).expect(
            "settings are checked when they are loaded, and the schema's test checks every default",
        )
    }

    /// The subclusters in name order; one named Default with agent 127.0.0.1 where none is configured.
    #[must_use]
    pub fn subclusters(&self) -> Vec<Subcluster> {
        let named: Vec<Subcluster> = self
            .names("/vsmserver/subclusters")
            .into_iter()
            .map(|name| Subcluster {
                agents: self.get_in(&keys::subclusters::AGENTS, &name),
                users: self.get_in(&keys::subclusters::USERS, &name),
                groups: self.get_in(&keys::subclusters::GROUPS, &name),
                max_users_per_agent: self.get_in(&keys::subclusters::MAX_USERS_PER_AGENT, &name),
                name,
            })
            .collect();
        if !named.is_empty() {
            return named;
        }
        vec![Subcluster {
            name: "Default".to_owned(),
            agents: vec!["127.0.0.1".to_owned()],
            users: Vec::new(),
            groups: Vec::new(),
            max_users_per_agent: 0,
        }]
    }

    /// The share of users that an agent gets, relative to others; 100 where none is set.
    #[must_use]
    pub fn agent_weight(&self, host: &str) -> u32 {
        self.get_in(&keys::agents::WEIGHTS, host)
    }

    /// Agents that get no new sessions.
    #[must_use]
    pub fn draining(&self) -> Vec<String> {
        self.get(&keys::agents::DRAINING)
    }

    /// The parameters right beneath a folder, by the last part of their paths, as written; defaults included.
    #[must_use]
    pub fn folder(&self, path: &str) -> BTreeMap<String, String> {
        let prefix = format!("{}/", canonical(path).trim_end_matches('/'));
        self.entries()
            .into_iter()
            .filter_map(|(path, value)| {
                let key = path.strip_prefix(&prefix).filter(|rest| !rest.contains('/'))?;
                Some((key.to_owned(), value.to_string()))
            })
            .collect()
    }

    /// The names right beneath a folder under which something is set, such as the keys of the profiles.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let prefix = format!("{}/", canonical(path).trim_end_matches('/'));
        let names: BTreeSet<&str> = self
            .inner
            .settings
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix)?.split_once('/').map(|(name, _)| name))
            .collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// What `new` would change, in the order of paths.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Change> {
        let paths: BTreeSet<&String> =
            self.inner.settings.keys().chain(new.inner.settings.keys()).collect();
        paths
            .into_iter()
            .filter_map(|path| {
                let param = schema::find(path)?;
                let effective = |config: &Self| {
                    config.inner.settings.get(path).map_or_else(
                        || param.normalise(&param.default_value()).ok(),
                        |setting| Some(setting.normal.clone()),
                    )
                };
                (effective(self) != effective(new)).then(|| Change {
                    path: path.clone(),
                    old: self.value(path).unwrap_or_default(),
                    new: new.value(path).unwrap_or_default(),
                    restart: param.apply == Apply::Restart,
                })
            })
            .collect()
    }

    /// The value of each parameter that is not at its default, in one spelling for all that mean the same.
    #[must_use]
    pub fn effective(&self) -> BTreeMap<String, String> {
        let set = self.inner.settings.iter();
        set.filter(|(path, setting)| {
            let default =
                schema::find(path).and_then(|param| param.normalise(&param.default_value()).ok());
            default.as_ref() != Some(&setting.normal)
        })
        .map(|(path, setting)| (path.clone(), setting.normal.to_string()))
        .collect()
    }

    /// The same, as it is written in the files: what [`crate::adopt`] takes.
    #[must_use]
    pub fn effective_as_written(&self) -> BTreeMap<String, String> {
        let effective = self.effective().into_keys();
        effective
            .filter_map(|path| {
                let written = self.inner.settings.get(&path)?.raw.to_string();
                Some((path, written))
            })
            .collect()
    }

    /// What is worth a look though it is no error: keys that another file overrides, a pair without its nodes.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.inner.notes
    }

    /// Files that lie among those that were read and were not, a line for each: daemons say so where they log.
    #[must_use]
    pub fn unread(&self) -> &[String] {
        &self.inner.unread
    }

    /// The value at a path as written; `None` where there is no such parameter, or it is one of a named thing
    /// that does not exist.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<String> {
        let path = canonical(path);
        if let Some(setting) = self.inner.settings.get(&path) {
            return Some(setting.raw.to_string());
        }
        let param = schema::find(&path)?;
        let exists = !param.is_pattern() || self.entries().contains_key(&path);
        exists.then(|| param.default.to_owned())
    }

    /// Where a parameter is set, if it is.
    pub(crate) fn setting(&self, path: &str) -> Option<&Setting> {
        self.inner.settings.get(path)
    }

    /// What is wrong with a parameter, at the place where it is set.
    pub(crate) fn problem_at(&self, path: &str, text: String) -> Problem {
        let place = self.setting(path).map(|Setting { file, line, .. }| (file.clone(), *line));
        let (file, line) = place.unwrap_or_default();
        Problem { file, line, path: path.to_owned(), text }
    }

    /// The same of a text that names its parameters itself; the place is that of the first path that is set.
    pub(crate) fn problem_of(&self, paths: &[&str], text: String) -> Problem {
        let set = paths.iter().find(|path| self.setting(path).is_some());
        let place =
            self.problem_at(set.or_else(|| paths.first()).copied().unwrap_or_default(), text);
        Problem { path: String::new(), ..place }
    }

    /// Every parameter that has a value: the set ones, and the defaults of the rest.
    pub(crate) fn entries(&self) -> BTreeMap<String, Value> {
        let mut entries: BTreeMap<String, Value> = BTreeMap::new();
        for param in PARAMS {
            match param.path.split_once('<') {
                None => drop(entries.insert(param.path.to_owned(), param.default_value())),
                // A parameter of something that has a name: there is a default where that thing exists.
                Some((folder, rest)) if rest.contains('/') => {
                    let key = rest.split_once('/').map_or("", |(_, key)| key);
                    for name in self.names(folder) {
                        entries.insert(format!("{folder}{name}/{key}"), param.default_value());
                    }
                }
                Some(_) => {}
            }
        }
        let set =
            self.inner.settings.iter().map(|(path, setting)| (path.clone(), setting.raw.clone()));
        entries.extend(set);
        entries
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::{
        load::merged,
        value::{Geometry, Placement, RoleSource},
    };

    fn config(text: &str) -> Config {
        let merged = merged(text);
        assert_eq!(merged.problems, []);
        Config::of(merged)
    }

    #[test]
    fn defaults_are_typed() {
        let config = Config::defaults();
        assert_eq!(config.get(&keys::vsmserver::LISTEN_PORT), 9000);
        assert_eq!(config.get(&keys::vsmserver::PLACEMENT), Placement::Users);
        assert_eq!(config.get(&keys::vsmserver::UNREACHABLE_GRACE), Duration::from_secs(300));
        assert_eq!(config.get(&keys::ha::ACK_TIMEOUT), Duration::from_millis(500));
        assert_eq!(config.get(&keys::ha::ROLE_SOURCE), RoleSource::Automatic);
        assert_eq!(config.get(&keys::ha::NODES), Vec::<String>::new());
        assert_eq!(config.get(&keys::vsmagent::MAKE_HOMEDIR_MODE), 0o700);
        assert_eq!(
            config.get(&keys::vsmagent::DEFAULT_GEOMETRY),
            Geometry { width: 1280, height: 800 }
        );
        assert_eq!(config.get(&keys::tls::KEY_FILE), PathBuf::from("/etc/vsm/pki/host.key"));
        assert_eq!(config.subclusters()[0].agents, ["127.0.0.1"]);
        assert_eq!(config.agent_weight("anything"), 100);
        assert!(config.draining().is_empty() && config.notes().is_empty());
        assert!(config.folder("/vsmagent/default_environment").is_empty());
    }

    #[test]
    fn named_folders_are_read() {
        let config = config(
            "subclusters:\n  lab: {agents: [a1, a2], groups: [domain users], max_users_per_agent: 3}\n  rest: {agents: a3}\n\
             agents: {weights: {a1: 200}, draining: a2}\n\
             vsmagent:\n  default_environment:\n    PATH: /usr/bin:/bin\n    EMPTY: ''\n\
             profiles: {xfce: {name: Xfce}}\n",
        );
        let subclusters = config.subclusters();
        assert_eq!(
            subclusters.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["lab", "rest"]
        );
        assert_eq!(subclusters[0].groups, ["domain users"]);
        assert_eq!(subclusters[0].max_users_per_agent, 3);
        assert!(subclusters[1].is_default() && !subclusters[0].is_default());
        assert_eq!((config.agent_weight("a1"), config.agent_weight("a2")), (200, 100));
        assert_eq!(config.draining(), ["a2"]);
        let environment = config.folder("/vsmagent/default_environment/");
        assert_eq!(
            environment.into_iter().collect::<Vec<_>>(),
            [("EMPTY".to_owned(), String::new()), ("PATH".to_owned(), "/usr/bin:/bin".to_owned())]
        );
        assert_eq!(config.names("/profiles"), ["xfce"]);
        assert_eq!(config.get_in(&keys::profiles::NAME, "xfce"), "Xfce");
        assert_eq!(config.value("/profiles/xfce/icon").as_deref(), Some(""));
        assert_eq!(config.value("/profiles/kde/icon"), None);
        assert_eq!(config.value("/HA/enabled/").as_deref(), Some("false"));
    }

    #[test]
    fn a_difference_is_one_of_meaning_not_of_spelling() {
        let old =
            config("vsmserver:\n  start_timeout: 60\n  listen_port: 9000\nHA: {enabled: yes}\n");
        let same = config("vsmserver:\n  start_timeout: 1m\nHA: {enabled: 1}\n");
        assert_eq!(old.diff(&same), []);
        let new = config("vsmserver:\n  start_timeout: 61\n  listen_port: 9001\n");
        let changes = old.diff(&new);
        let shown: Vec<_> = changes
            .iter()
            .map(|c| (c.path.as_str(), c.old.as_str(), c.new.as_str(), c.restart))
            .collect();
        assert_eq!(
            shown,
            [
                ("/vsmserver/HA/enabled", "yes", "false", true),
                ("/vsmserver/listen_port", "9000", "9001", true),
                ("/vsmserver/start_timeout", "60", "61", false),
            ]
        );
    }
}
