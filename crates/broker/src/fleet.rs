//! What placement knows of every agent of the configuration, side by side and by name, so that a login copies what it
//! needs in microseconds, however many agents there are. The links keep it up to date.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use vsm_core::{AgentName, Eligible, Level, Measured, UserName};

use crate::{
    locks::locked,
    settings::{AgentSettings, Settings},
};

/// Whose new sessions an agent could take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Openness {
    /// Nobody's: its report is not open.
    #[default]
    Down,
    /// Root's: its host is in maintenance.
    Root,
    /// Everybody's.
    All,
}

/// An agent of the configuration.
#[derive(Debug, Clone)]
pub struct Member {
    /// Agent.
    pub agent: AgentName,
    /// What the configuration says of it.
    pub settings: AgentSettings,
    /// Whose new sessions it could take.
    pub open: Openness,
    /// What it last measured; none = it has not told.
    pub measured: Option<Measured>,
}

impl Member {
    /// Whether it may take new sessions, as far as the links and the configuration know.
    #[must_use]
    pub fn takes_sessions(&self) -> bool {
        self.takes_sessions_of(false)
    }

    /// Whether its report is open.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.open != Openness::Down
    }

    /// The same for a user who is root, or is not.
    #[must_use]
    fn takes_sessions_of(&self, root: bool) -> bool {
        let open = if root { self.is_up() } else { self.open == Openness::All };
        open && !self.settings.draining
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
    /// Those that take new sessions of everybody, by subcluster: made when asked for, thrown away when anything changes.
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
                open: of(agent).map(|member| member.open).unwrap_or_default(),
                measured: of(agent).and_then(|member| member.measured),
            })
            .collect();
    }

    /// Notes how an agent is now. One that is in no subcluster is of no interest.
    pub fn set(&self, agent: &AgentName, open: Openness, measured: Option<Measured>) {
        let mut known = self.known();
        let Some(index) = find(&known.members, agent) else { return };
        let member = &mut known.members[index];
        if (member.open, member.measured) != (open, measured) {
            (member.open, member.measured) = (open, measured);
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

    /// The same for this user: root may use hosts that are in maintenance.
    #[must_use]
    pub fn eligible_for(&self, subcluster: &str, user: &UserName) -> Arc<[Eligible]> {
        if !is_root(user) {
            return self.eligible(subcluster);
        }
        let known = self.known();
        let fits =
            |member: &&Member| member.takes_sessions_of(true) && member.settings.is_in(subcluster);
        known.members.iter().filter(fits).map(Member::eligible).collect()
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

/// Whether a host in maintenance lets this user in.
pub(crate) fn is_root(user: &UserName) -> bool {
    user.as_str() == "root"
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
            fleet.set(&agent.parse().unwrap(), Openness::All, None);
        }
        assert_eq!(names(&fleet, "x"), ["a", "b", "c", "d"]);
        assert_eq!(names(&fleet, "y"), ["b", "e"]);
        let draining = format!("{all}agents: {{draining: [b], weights: {{a: 7}}}}\n");
        fleet.configure(&settings(&draining));
        assert_eq!(names(&fleet, "x"), ["a", "c", "d"]);
        assert_eq!(fleet.eligible("x")[0].weight, 7);
        fleet.set(&"a".parse().unwrap(), Openness::Down, None);
        assert_eq!(names(&fleet, "x"), ["c", "d"]);
        fleet.set(&"c".parse().unwrap(), Openness::Root, None);
        assert_eq!(names(&fleet, "x"), ["d"]);
        let count = |user: &str| fleet.eligible_for("x", &user.parse().unwrap()).len();
        assert_eq!((count("root"), count("alice")), (2, 1));
    }
}
