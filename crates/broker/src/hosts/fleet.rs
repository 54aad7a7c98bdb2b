//! What placement knows of every agent of the configuration, side by side and by name, so that a login copies what it
//! needs in microseconds, however many agents there are. The links keep it up to date.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use vsm_config::Placement;
use vsm_core::{AgentName, Eligible, Level, Measured, UserName};

use crate::site::settings::{AgentSettings, Settings};

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

/// What tells one host from another, whatever it is called in an agents list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Which journal of promises it has, of which each host has one; 0 = none yet.
    pub journal: u64,
    /// Where users reach it; empty = it does not tell.
    pub public_name: Arc<str>,
}

impl Host {
    /// Whether both are one host, or one is a copy of the other's disk. One that had no journal when its report was
    /// opened may have one by now: then it goes by where users reach it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self.journal, other.journal) {
            (0, _) | (_, 0) => {
                !self.public_name.is_empty() && self.public_name == other.public_name
            }
            (one, two) => one == two,
        }
    }
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
    /// Which host it is; none = it is not up.
    pub host: Option<Host>,
    /// By which other name the same host is used already. It is used as the one, and is not counted and placed on again
    /// as the other.
    pub second_of: Option<AgentName>,
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
        open && !self.settings.draining && self.second_of.is_none()
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
    /// Those that take new sessions of everybody, by subcluster: made when asked for, thrown away when anything
    /// changes.
    eligible: HashMap<String, Arc<[Eligible]>>,
    /// Hosts have changed since second names were looked for, which is done when somebody asks: at a start thousands
    /// come at once.
    second_names_due: bool,
    /// Whether agents are compared by their figures.
    by_load: bool,
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
                host: of(agent).and_then(|member| member.host.clone()),
                second_of: None,
            })
            .collect();
        known.second_names_due = true;
        known.by_load = settings.placement == Placement::Load;
    }

    /// Notes which host an agent is, by whatever name; none = it is not up.
    pub fn set_host(&self, agent: &AgentName, host: Option<&Host>) {
        let mut known = self.known();
        let Some(index) = find(&known.members, agent) else { return };
        if known.members[index].host.as_ref() != host {
            known.members[index].host = host.cloned();
            known.second_names_due = true;
            known.eligible.clear();
        }
    }

    /// Notes how an agent is now. One that is in no subcluster is of no interest.
    pub fn set(&self, agent: &AgentName, open: Openness, measured: Option<Measured>) {
        let mut known = self.known();
        let Some(index) = find(&known.members, agent) else { return };
        let member = &mut known.members[index];
        if let Some(measured) = measured.filter(|now| member.measured.as_ref() != Some(now)) {
            tracing::debug!(%agent, ?measured, "load");
        }
        let (opened, told) = (member.open != open, member.measured != measured);
        (member.open, member.measured) = (open, measured);
        if opened || told && known.by_load {
            known.eligible.clear();
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.settled().members.clone()
    }

    /// Those of a subcluster, by name.
    #[must_use]
    pub fn members_of(&self, subcluster: &str) -> Vec<Member> {
        let known = self.settled();
        known.members.iter().filter(|member| member.settings.is_in(subcluster)).cloned().collect()
    }

    /// Those of a subcluster that take new sessions, by name.
    #[must_use]
    pub fn eligible(&self, subcluster: &str) -> Arc<[Eligible]> {
        let Known { members, eligible, .. } = &mut *self.settled();
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
        let known = self.settled();
        let fits =
            |member: &&Member| member.takes_sessions_of(true) && member.settings.is_in(subcluster);
        known.members.iter().filter(fits).map(Member::eligible).collect()
    }

    /// How near a subcluster is to having no room, as it was last found.
    #[must_use]
    pub fn level(&self, subcluster: &str) -> Level {
        let levels = self.levels.lock();
        levels.get(subcluster).copied().unwrap_or_default()
    }

    /// Notes how near each subcluster is to that.
    pub fn set_levels(&self, levels: BTreeMap<String, Level>) {
        *self.levels.lock() = levels;
    }

    /// What is known, second names too.
    fn settled(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known();
        if std::mem::take(&mut known.second_names_due) {
            find_second_names(&mut known.members);
        }
        known
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}

/// Whether a host in maintenance lets this user in.
pub(crate) fn is_root(user: &UserName) -> bool {
    user.as_str() == "root"
}

fn find(members: &[Member], agent: &AgentName) -> Option<usize> {
    members.binary_search_by(|member| member.agent.cmp(agent)).ok()
}

/// Notes of each that is up whether its host is used by another name. Names go before addresses, then it is by name, so
/// that both nodes say the same.
fn find_second_names(members: &mut [Member]) {
    // A host that has no journal says only where users reach it, which may be another's name: it goes after those that
    // have one.
    let has_none = |member: &Member| member.host.as_ref().is_none_or(|host| host.journal == 0);
    let is_address = |member: &Member| member.agent.as_str().parse::<IpAddr>().is_ok();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|index| (has_none(&members[*index]), is_address(&members[*index])));
    let mut by_journal: HashMap<u64, usize> = HashMap::new();
    let mut by_public_name: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
    for index in order {
        members[index].second_of = None;
        let Some(host) = members[index].host.clone() else { continue };
        let is = |other: &usize| members[*other].host.as_ref().is_some_and(|other| other.is(&host));
        let there = by_public_name.entry(Arc::clone(&host.public_name)).or_default();
        let first = by_journal.get(&host.journal).filter(|other| is(other));
        match first.or_else(|| there.iter().find(|other| is(other))).copied() {
            Some(first) => members[index].second_of = Some(members[first].agent.clone()),
            None => {
                by_journal.insert(host.journal, index);
                // Hosts that tell the same place and are not the same are few: a place is a host's own.
                there.push(index);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use vsm_config::Config;

    use super::*;

    pub(crate) fn settings(yaml: &str) -> Settings {
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

    #[test]
    fn a_host_by_two_names_is_used_by_one_of_them() {
        let fleet = Fleet::default();
        let yaml = "subclusters: {x: {agents: [10.0.0.1, a, b, c]}, y: {agents: [d], users: u}}\n";
        fleet.configure(&settings(yaml));
        let host = |journal, name: &str| Some(Host { journal, public_name: name.into() });
        let set = |agent: &str, host: Option<Host>| {
            fleet.set_host(&agent.parse().unwrap(), host.as_ref());
        };
        for agent in ["10.0.0.1", "a", "b", "c", "d"] {
            fleet.set(&agent.parse().unwrap(), Openness::All, None);
        }
        set("10.0.0.1", host(7, "10.0.0.1"));
        assert_eq!(names(&fleet, "x"), ["10.0.0.1", "a", "b", "c"]);
        // A name goes before an address, whoever comes first.
        set("b", host(7, "10.0.0.1"));
        assert_eq!(names(&fleet, "x"), ["a", "b", "c"]);
        assert!(fleet.eligible_for("x", &"root".parse().unwrap()).len() == 3);
        let second = |agent: &str| {
            let all = fleet.members().into_iter();
            let named = |member: &Member| member.agent.as_str() == agent;
            all.filter(named).find_map(|member| member.second_of.map(|name| name.to_string()))
        };
        assert_eq!(second("10.0.0.1").as_deref(), Some("b"));
        // In another subcluster too, and by the place where it has no journal yet.
        set("d", host(0, "10.0.0.1"));
        assert_eq!((names(&fleet, "y"), second("d").as_deref()), (Vec::new(), Some("b")));
        // One that claims another's name puts itself out of use, not the other.
        set("a", host(0, "c"));
        set("c", host(9, "c"));
        assert_eq!(
            (names(&fleet, "x"), second("a").as_deref()),
            (vec!["b".to_owned(), "c".to_owned()], Some("c"))
        );
        set("a", host(5, "a"));
        // Different hosts behind one place are told apart by their journals.
        set("c", host(9, "10.0.0.1"));
        assert_eq!(names(&fleet, "x"), ["a", "b", "c"]);
        // A reload keeps it, and the other name takes over where this one is gone.
        fleet.configure(&settings(yaml));
        assert_eq!(second("10.0.0.1").as_deref(), Some("b"));
        set("b", None);
        fleet.set(&"b".parse().unwrap(), Openness::Down, None);
        assert_eq!(names(&fleet, "x"), ["10.0.0.1", "a", "c"]);
    }
}
