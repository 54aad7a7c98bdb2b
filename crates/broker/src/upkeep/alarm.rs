//! What has been away for long enough that somebody should know: agents, and the other node. It becomes an event of the
//! trail, and so a mail. The active node does it; an agent that nobody misses, as it is in no subcluster, is none of
//! it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use vsm_core::AgentName;
use vsm_daemon::{clock, trouble::Kind};
use vsm_sync::peer::Stream;

use crate::{
    hosts::agents::LinkState,
    journal::trail::{Note, SELF},
    pair::Ha,
    upkeep::Upkeep,
};

/// A restart of a host takes less, and is no event.
const AWAY_FOR: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is away, and since when; told = there is an event of it.
#[derive(Debug, Default)]
struct Absence {
    since: Option<Instant>,
    told: bool,
}

/// What has changed about somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Lost,
    Returned,
}

impl Absence {
    /// Takes a look; what is to be told.
    fn look(&mut self, away: bool, now: Instant) -> Option<Turn> {
        if !away {
            let told = std::mem::take(self).told;
            return told.then_some(Turn::Returned);
        }
        let since = *self.since.get_or_insert(now);
        let late = !self.told && now.duration_since(since) >= AWAY_FOR;
        self.told |= late;
        late.then_some(Turn::Lost)
    }
}

/// Tells of what is away until the broker stops.
pub(crate) async fn follow(upkeep: Arc<Upkeep>) {
    let mut agents: BTreeMap<AgentName, Absence> = BTreeMap::new();
    let mut peer = Absence::default();
    let mut troubles = Troubled::new();
    while upkeep.process.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        if !upkeep.authority.acts() {
            // Whoever acts now counts from when it began.
            agents.clear();
            troubles.clear();
            peer = Absence::default();
            continue;
        }
        look_at_agents(&upkeep, &mut agents);
        look_at_peer(&upkeep, &mut peer);
        look_at_troubles(&upkeep, &mut troubles);
    }
}

/// What is wrong by host (none = with this broker itself) and kind: how long already, and what was told of it.
type Troubled = BTreeMap<(Option<AgentName>, String), (Absence, String)>;

fn look_at_troubles(upkeep: &Upkeep, known: &mut Troubled) {
    let mut now: BTreeMap<(Option<AgentName>, String), String> = BTreeMap::new();
    // What is wrong there is not known: nothing is over because its host is away.
    let mut silent = BTreeSet::new();
    for own in upkeep.process.troubles.messages() {
        now.entry((None, own.kind)).or_insert(own.what);
    }
    for link in upkeep.agents.all() {
        let found = link.troubles.messages();
        let told = match link.state() {
            LinkState::Up(up) => up.troubles.to_vec(),
            LinkState::Down { .. } | LinkState::Connecting => {
                silent.insert(link.name.clone());
                Vec::new()
            }
        };
        // A word of which nothing is known is a newer agent's, or none: it is in the list, and is no event.
        let is_known = |word: &str| Kind::ALL.iter().any(|kind| kind.word() == word);
        let told = told.into_iter().filter(|trouble| is_known(&trouble.kind));
        for trouble in found.into_iter().chain(told) {
            now.entry((Some(link.name.clone()), trouble.kind)).or_insert(trouble.what);
        }
    }
    for key in now.keys() {
        known.entry(key.clone()).or_default();
    }
    known.retain(|(agent, kind), (absence, told)| {
        let what = now.get(&(agent.clone(), kind.clone()));
        if what.is_none() && agent.as_ref().is_some_and(|agent| silent.contains(agent)) {
            return true;
        }
        let (lost, mended) = match agent {
            Some(_) => ("agent-trouble", "agent-mended"),
            None => ("broker-trouble", "broker-mended"),
        };
        let note = match absence.look(what.is_some(), clock::now()) {
            Some(Turn::Lost) => {
                if let Some(what) = what {
                    told.clone_from(what);
                }
                Note::new(SELF, lost)
            }
            Some(Turn::Returned) => {
                told.insert_str(0, "over: ");
                Note::new(SELF, mended)
            }
            None => return what.is_some(),
        };
        let about =
            agent.as_ref().map_or_else(|| upkeep.process.node.to_string(), ToString::to_string);
        let note = note.detail(format!("{about}: {told}"));
        upkeep.journal.note(match agent {
            Some(agent) => note.agent(agent),
            None => note,
        });
        what.is_some()
    });
}

fn look_at_agents(upkeep: &Upkeep, absences: &mut BTreeMap<AgentName, Absence>) {
    let settings = upkeep.site.settings();
    let wanted: BTreeSet<&AgentName> = settings.agents().keys().collect();
    absences.retain(|agent, _| wanted.contains(agent));
    for agent in wanted {
        let why = match upkeep.agents.link(agent).map(|link| link.state()) {
            Some(LinkState::Up(_)) => None,
            Some(LinkState::Down { why, .. }) => Some(why.to_string()),
            Some(LinkState::Connecting) | None => Some("no answer yet".to_owned()),
        };
        let absence = absences.entry(agent.clone()).or_default();
        let note = match absence.look(why.is_some(), clock::now()) {
            Some(Turn::Lost) => {
                let sessions = upkeep.authority.table.read(|view| {
                    view.table.agent_use(agent).map_or(0, vsm_core::AgentUse::sessions)
                });
                let why = why.unwrap_or_default();
                Note::new(SELF, "agent-lost")
                    .detail(format!("not heard of for a minute, with {sessions} session(s): {why}"))
            }
            Some(Turn::Returned) => Note::new(SELF, "agent-returned"),
            None => continue,
        };
        upkeep.journal.note(note.agent(agent));
    }
}

/// Records each time that this node becomes the active one.
pub(crate) async fn reigns(upkeep: Arc<Upkeep>) {
    let mut serving = upkeep.authority.table.watch_serving();
    loop {
        if *serving.borrow_and_update() {
            let epoch = upkeep.authority.table.fence().epoch;
            upkeep.journal.note(Note::new(SELF, "broker-active").detail(format!("epoch {epoch}")));
        }
        tokio::select! {
            () = upkeep.process.stop.cancelled() => return,
            changed = serving.changed() => if changed.is_err() { return },
        }
    }
}

fn look_at_peer(upkeep: &Upkeep, absence: &mut Absence) {
    let Ha::On(pair) = &upkeep.side.ha else { return };
    let why = match pair.stream.state() {
        Stream::Open(_) => None,
        Stream::Closed { why, .. } => Some(why.to_string()),
    };
    match absence.look(why.is_some(), clock::now()) {
        Some(Turn::Lost) => {
            let why = why.unwrap_or_default();
            let detail = format!("{} has not been heard of for a minute: {why}", pair.peer);
            upkeep.journal.note(Note::new(SELF, "peer-lost").detail(detail));
        }
        Some(Turn::Returned) => {
            upkeep.journal.note(Note::new(SELF, "peer-returned").detail(pair.peer.to_string()));
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_told_once_when_it_is_long_and_so_is_its_end() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut absence = Absence::default();
        assert_eq!(absence.look(true, at(0)), None);
        assert_eq!(absence.look(false, at(59)), None, "it was short");
        assert_eq!(absence.look(true, at(60)), None);
        assert_eq!(absence.look(true, at(119)), None);
        assert_eq!(absence.look(true, at(120)), Some(Turn::Lost));
        assert_eq!(absence.look(true, at(500)), None);
        assert_eq!(absence.look(false, at(501)), Some(Turn::Returned));
        assert_eq!(absence.look(false, at(502)), None);
    }
}
