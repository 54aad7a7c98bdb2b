//! What placement knows of every agent of the configuration, side by side and by name, so that a login copies what it
//! needs in microseconds, however many agents there are. The links keep it up to date.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use vsm_core::{AgentName, Eligible, Level, Measured};

use crate::{
    locks::locked,
    settings::{AgentSettings, Settings},
};

/// An agent of the configuration.
#[derive(Debug, Clone)]
pub struct Member {
    /// Agent.
    pub agent: AgentName,
    /// What the configuration says of it.
    pub settings: AgentSettings,
    /// Whether its report is open.
    pub up: bool,
    /// What it last measured; none = it has not told.
    pub measured: Option<Measured>,
}

impl Member {
    /// Whether it may take new sessions, as far as the links and the configuration know.
    #[must_use]
    pub const fn takes_sessions(&self) -> bool {
        self.up && !self.settings.draining
    }

    /// The same as placement takes it.
    #[must_use]
    pub fn eligible(&self) -> Eligible {
        Eligible {
            agent: self.agent.clone(),
            weight: self.settings.weight,
            max_users: self.settings.max_users,
            measured: self.measured,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Fleet {
    known: Mutex<Known>,
    levels: Mutex<BTreeMap<String, Level>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By name.
    members: Vec<Member>,
    /// Those that take new sessions, by subcluster: made when asked for, thrown away when anything changes.
    eligible: HashMap<String, Arc<[Eligible]>>,
}

impl Fleet {
    /// Takes the agents of a configuration; what is known of those that stay is kept.
    pub fn configure(&self, settings: &Settings) {
        let mut known = self.known();
        let before = std::mem::take(&mut *known).members;
        let of = |agent: &AgentName| find(&before, agent).map(|index| &before[index]);
        known.members = settings
            .agents()
            .iter()
            .map(|(agent, settings)| Member {
                agent: agent.clone(),
                settings: settings.clone(),
                up: of(agent).is_some_and(|member| member.up),
                measured: of(agent).and_then(|member| member.measured),
            })
            .collect();
    }

    /// Notes how an agent is now. One that is in no subcluster is of no interest.
    pub fn set(&self, agent: &AgentName, up: bool, measured: Option<Measured>) {
        let mut known = self.known();
        let Some(index) = find(&known.members, agent) else { return };
        let member = &mut known.members[index];
        if (member.up, member.measured) != (up, measured) {
            (member.up, member.measured) = (up, measured);
            known.eligible.clear();
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.known().members.clone()
    }

    /// Those of a subcluster, by name.
    #[must_use]
    pub fn members_of(&self, subcluster: &str) -> Vec<Member> {
        let known = self.known();
        known.members.iter().filter(|member| member.settings.is_in(subcluster)).cloned().collect()
    }

    /// Those of a subcluster that take new sessions, by name.
    #[must_use]
    pub fn eligible(&self, subcluster: &str) -> Arc<[Eligible]> {
        let Known { members, eligible } = &mut *self.known();
        if let Some(list) = eligible.get(subcluster) {
            return Arc::clone(list);
        }
        let fits = |member: &&Member| member.takes_sessions() && member.settings.is_in(subcluster);
        let list: Arc<[Eligible]> = members.iter().filter(fits).map(Member::eligible).collect();
        eligible.insert(subcluster.to_owned(), Arc::clone(&list));
        list
    }

    /// How near a subcluster is to having no room, as it was last found.
    #[must_use]
    pub fn level(&self, subcluster: &str) -> Level {
        let levels = locked(&self.levels);
        levels.get(subcluster).copied().unwrap_or_default()
    }

    /// Notes how near each subcluster is to that.
    pub fn set_levels(&self, levels: BTreeMap<String, Level>) {
        *locked(&self.levels) = levels;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }
}

fn find(members: &[Member], agent: &AgentName) -> Option<usize> {
    members.binary_search_by(|member| member.agent.cmp(agent)).ok()
}

#[cfg(test)]
mod tests {
    use vsm_config::Config;

    use super::*;

    fn settings(yaml: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), yaml).unwrap();
        Settings::new(&Config::load(dir.path()).unwrap()).unwrap()
    }

    fn names(fleet: &Fleet, subcluster: &str) -> Vec<String> {
        let eligible = fleet.eligible(subcluster);
        eligible.iter().map(|eligible| eligible.agent.to_string()).collect()
    }

    #[test]
    fn only_those_that_are_up_and_not_drained_take_sessions_and_a_reload_forgets_nothing() {
        let fleet = Fleet::default();
        let all = "subclusters: {x: {agents: [a, b, c, d]}, y: {agents: [b, e], users: [u]}}\n";
        fleet.configure(&settings(all));
        assert_eq!(names(&fleet, "x"), [""; 0]);
        for agent in ["a", "b", "c", "d", "e", "stranger"] {
            fleet.set(&agent.parse().unwrap(), true, None);
        }
        assert_eq!(names(&fleet, "x"), ["a", "b", "c", "d"]);
        assert_eq!(names(&fleet, "y"), ["b", "e"]);
        let draining = format!("{all}agents: {{draining: [b], weights: {{a: 7}}}}\n");
        fleet.configure(&settings(&draining));
        assert_eq!(names(&fleet, "x"), ["a", "c", "d"]);
        assert_eq!(fleet.eligible("x")[0].weight, 7);
        fleet.set(&"a".parse().unwrap(), false, None);
        assert_eq!(names(&fleet, "x"), ["c", "d"]);
    }
}
