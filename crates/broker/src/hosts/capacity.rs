//! How many more users fit into each subcluster.

use vsm_core::{AgentName, AgentUse, Room, UnixMillis};
use vsm_daemon::clock;

use crate::{
    hosts::{agents::Agents, fleet::Member},
    site::settings::Settings,
};

/// What a subcluster holds and can hold.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    /// Name.
    pub name: String,
    /// Its agents.
    pub agents: Vec<AgentName>,
    /// How many of them take new sessions.
    pub taking: u32,
    /// Users on its agents, counted on each.
    pub users: u32,
    /// Users on those that take new sessions.
    pub users_taking: u32,
    /// What fits on those that take new sessions, by either bound; none = one of them has no such bound.
    pub room: Room,
    /// How many more users fit on them; none = one of them has no bound that is known.
    pub more: Option<u32>,
}

/// Of all subclusters of the configuration, by name.
pub(crate) fn all(agents: &Agents, settings: &Settings) -> Vec<Capacity> {
    let now = clock::unix_millis();
    let subclusters = settings.subclusters.all().iter();
    subclusters.map(|subcluster| of(agents, settings, &subcluster.name, now)).collect()
}

fn of(agents: &Agents, settings: &Settings, name: &str, now: UnixMillis) -> Capacity {
    let members = agents.fleet.members_of(name);
    let seconds = agents.fleet.members().into_iter();
    let seconds: Vec<Member> = seconds.filter(|member| member.second_of.is_some()).collect();
    let none = Room { by_memory: Some(0), by_cap: Some(0) };
    let mut capacity = Capacity {
        name: name.to_owned(),
        agents: members.iter().map(|member| member.agent.clone()).collect(),
        taking: 0,
        users: 0,
        users_taking: 0,
        room: none,
        more: Some(0),
    };
    agents.authority.table.read(|view| {
        for member in &members {
            let use_ = view.table.agent_use(&member.agent);
            let mut users = use_.map_or(0, AgentUse::users);
            capacity.users += users;
            if !member.takes_sessions() || view.table.is_drained(&member.agent, now) {
                continue;
            }
            let mut sessions = use_.map_or(0, AgentUse::sessions);
            // What it has by another name takes its room too.
            for second in seconds.iter().filter(|it| it.second_of.as_ref() == Some(&member.agent)) {
                let there = view.table.agent_use(&second.agent);
                users += there.map_or(0, AgentUse::users);
                sessions += there.map_or(0, AgentUse::sessions);
            }
            let measured = member.measured.as_ref();
            let room =
                Room::of(measured, settings.need, sessions, users, member.settings.max_users);
            capacity.taking += 1;
            capacity.users_taking += users;
            capacity.room.by_memory = sum(capacity.room.by_memory, room.by_memory);
            capacity.room.by_cap = sum(capacity.room.by_cap, room.by_cap);
            capacity.more = sum(capacity.more, room.users());
        }
    });
    capacity
}

/// Of two numbers that may be without bound.
fn sum(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    Some(one?.saturating_add(other?))
}
