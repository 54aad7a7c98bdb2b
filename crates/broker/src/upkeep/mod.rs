//! What the active node looks after by itself: marks of drained agents whose time is over, and subclusters that run out
//! of room. `alarm` tells of what has been away or wrong for long. Nobody asks for any of it, and it starts and ends no
//! session.

pub(crate) mod alarm;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use vsm_core::{AgentName, Level, Proposal, printable};
use vsm_daemon::{clock, nologin, trouble::Kind};
use vsm_sync::peer::Stream;

use crate::{
    authority::Authority,
    hosts::{
        agents::Agents,
        capacity::{self, Capacity},
        clocks::Clock,
    },
    journal::{
        Journal,
        trail::{Note, SELF},
    },
    pair::{Ha, Side},
    process::Process,
    sessions::{hooks::Hooks, placing::Said},
    site::Site,
};

/// How often it looks. A mark that has run out does not keep placement waiting for this.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Folders of hooks are looked at every so many times.
const HOOKS_EVERY: u32 = 10;
/// A level is told once it was found so many times in a row: an agent that is restarted is away for a moment.
const LOOKS: u32 = 3;

/// The rooms that upkeep looks at, and those that it tells.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) process: Arc<Process>,
    pub(crate) site: Arc<Site>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) side: Arc<Side>,
}

/// A subcluster whose room is watched.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    /// As it was told last.
    level: Level,
    /// How often another one was found since.
    other: u32,
}

/// Looks after it until the broker stops.
pub(crate) async fn follow(upkeep: Arc<Upkeep>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // None while this node does not act: the other one has told what was to be told.
    let mut watched: Option<BTreeMap<String, Watched>> = None;
    let mut looks = 0_u32;
    let mut peer_clock = Clock::default();
    loop {
        tokio::select! {
            biased;
            () = upkeep.process.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        upkeep.agents.all().iter().for_each(|link| link.troubles.expire());
        upkeep.process.troubles.expire();
        look_at_logins(&upkeep);
        look_at_peer_clock(&upkeep, &mut peer_clock);
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(HOOKS_EVERY) {
            // Also where nobody logs in, as on a standby: it runs them when it takes over.
            Hooks::look(&upkeep.site.settings().hooks, &upkeep.process.troubles);
        }
        if !upkeep.authority.acts() {
            watched = None;
            continue;
        }
        end_drains(&upkeep).await;
        // An agent that has not answered yet is not one that is away.
        if upkeep.agents.is_settled() {
            let before = watched.take().unwrap_or_else(|| told(&upkeep));
            watched = Some(watch_capacity(&upkeep, &before));
        }
    }
}

/// Users come to a broker by its sshd too, which lets in nobody but root while that file is there.
fn look_at_logins(upkeep: &Upkeep) {
    let what = |text: String| {
        let text = printable(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        format!("/etc/nologin or /run/nologin lets in nobody but root{}", Said(&text))
    };
    upkeep.process.troubles.set(Kind::NoLogin, "", nologin::text().map(what));
}

/// Looks at the clock of the other node.
fn look_at_peer_clock(upkeep: &Upkeep, clock: &mut Clock) {
    let Ha::On(pair) = &upkeep.side.ha else { return };
    if let Stream::Open(met) = pair.stream.state() {
        clock.look(&upkeep.process.troubles, "the other node", met.skew_ms);
    }
}

async fn end_drains(upkeep: &Upkeep) {
    let now = clock::unix_millis();
    let over = |upkeep: &Upkeep| -> Vec<AgentName> {
        upkeep.authority.table.read(|view| {
            let over = view.table.drains().filter(|(_, drain)| !drain.holds(now));
            over.map(|(agent, _)| agent.clone()).collect()
        })
    };
    if over(upkeep).is_empty() {
        return;
    }
    let _alone = upkeep.agents.marks.lock().await;
    for agent in over(upkeep) {
        match upkeep
            .authority
            .table
            .propose(Proposal::Drain { agent: agent.clone(), mark: None })
            .await
        {
            Ok(_) => {
                tracing::info!(%agent, "the time for which it was drained is over");
                let note = Note::new(SELF, "agent-undrained").agent(&agent);
                upkeep.journal.note(note.detail("its time is over"));
            }
            Err(error) => tracing::info!(%agent, %error, "cannot take back a mark yet"),
        }
    }
}

/// The levels that the trail tells of last, so that a node that takes over tells nothing twice.
fn told(upkeep: &Upkeep) -> BTreeMap<String, Watched> {
    let settings = upkeep.site.settings();
    let names = settings.subclusters.all().iter().map(|subcluster| &subcluster.name);
    upkeep.authority.table.read(|view| {
        let of = |name: &String| {
            let about = begins(name);
            let told = view.table.events_after(0).filter(|event| event.detail.starts_with(&about));
            let levels = [Level::Ok, Level::Low, Level::Full];
            told.filter_map(|event| levels.into_iter().find(|level| action(*level) == event.action))
                .last()
                .unwrap_or_default()
        };
        names.map(|name| (name.clone(), Watched { level: of(name), other: 0 })).collect()
    })
}

/// Tells of each subcluster that came to another level; how they are now.
fn watch_capacity(
    upkeep: &Upkeep,
    before: &BTreeMap<String, Watched>,
) -> BTreeMap<String, Watched> {
    let settings = upkeep.site.settings();
    let mut now = BTreeMap::new();
    for capacity in capacity::all(&upkeep.agents, &settings) {
        let was = before.get(&capacity.name).copied().unwrap_or_default();
        let level = was.level.next(capacity.more, capacity.users_taking, settings.capacity_warn);
        let watched = match (level == was.level, was.other + 1 >= LOOKS) {
            (true, _) => Watched { other: 0, ..was },
            (false, false) => Watched { other: was.other + 1, ..was },
            (false, true) => {
                tell(upkeep, level, &capacity);
                Watched { level, other: 0 }
            }
        };
        now.insert(capacity.name, watched);
    }
    let levels = now.iter().map(|(name, watched)| (name.clone(), watched.level)).collect();
    upkeep.agents.fleet.set_levels(levels);
    now
}

fn tell(upkeep: &Upkeep, level: Level, capacity: &Capacity) {
    let detail = words(capacity);
    match level {
        Level::Ok => tracing::info!(detail, "capacity is ok again"),
        Level::Low => tracing::warn!(detail, "capacity is low"),
        Level::Full => tracing::warn!(detail, "capacity is used up"),
    }
    upkeep.journal.note(Note::new(SELF, action(level)).detail(detail));
}

const fn action(level: Level) -> &'static str {
    match level {
        Level::Ok => "capacity-ok",
        Level::Low => "capacity-low",
        Level::Full => "capacity-full",
    }
}

fn begins(subcluster: &str) -> String {
    format!("subcluster {subcluster}: ")
}

fn words(capacity: &Capacity) -> String {
    let fit = match capacity.more {
        Some(more) => format!("{more} more user(s) fit"),
        None => "more users fit".to_owned(),
    };
    format!(
        "{}{fit}; {} of {} agent(s) take new sessions and have {} user(s)",
        begins(&capacity.name),
        capacity.taking,
        capacity.agents.len(),
        capacity.users_taking
    )
}
