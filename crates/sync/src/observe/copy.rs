//! What an observer was sent: the table's records, shared with it, so that a copy costs an index and no records.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{
    AgentName, Drain, Event, Identity, IdentityName, LineageId, Row, Session, SessionId,
    UnixMillis, UserName, WebKey,
};

use crate::View;

type Tombstone = (AgentName, UnixMillis);

/// A table at one moment.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    tombstones: BTreeMap<SessionId, Tombstone>,
    failures: BTreeMap<AgentName, UnixMillis>,
    roster: Option<Arc<[AgentName]>>,
    drains: BTreeMap<AgentName, Arc<Drain>>,
    events: Vec<Arc<Event>>,
    identities: Arc<BTreeMap<IdentityName, Arc<Identity>>>,
    web_keys: BTreeMap<UserName, Arc<[WebKey]>>,
    pub(super) commit: u64,
    pub(super) lineage: LineageId,
}

impl Copy {
    pub(super) fn of(view: &View) -> Self {
        let table = &view.table;
        let buried = table.tombstones().map(|(id, agent, at)| (id, (agent.clone(), at)));
        Self {
            sessions: table.sessions().map(|session| (session.id, Arc::clone(session))).collect(),
            tombstones: buried.collect(),
            failures: table.failures().map(|(agent, at)| (agent.clone(), at)).collect(),
            roster: table.roster().cloned(),
            drains: table.drains().map(|(agent, mark)| (agent.clone(), Arc::clone(mark))).collect(),
            events: table.events_after(0).cloned().collect(),
            identities: Arc::clone(table.identities()),
            web_keys: table.web_keys().lists().clone(),
            commit: view.last_seq,
            lineage: view.lineage,
        }
    }

    /// Every row: together they are the table.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        let buried = self.tombstones.keys().filter(|id| !self.sessions.contains_key(id));
        let ids = self.sessions.keys().chain(buried).copied();
        let marks = self.failures.iter().map(mark);
        let drains = self.drains.iter().map(|(agent, mark)| drain(agent, Some(mark)));
        let events = self.events.iter().cloned().map(Row::Event);
        let identities = self.identities.iter().map(identity);
        let web_keys = self.web_keys.iter().map(|(user, keys)| web_keys(user, Some(keys)));
        ids.map(|id| self.session(id))
            .chain(marks)
            .chain(self.roster.clone().map(Row::Roster))
            .chain(drains)
            .chain(events)
            .chain(identities)
            .chain(web_keys)
    }

    fn session(&self, id: SessionId) -> Row {
        let session = self.sessions.get(&id).cloned();
        Row::Session { id, session, tombstone: self.tombstones.get(&id).cloned() }
    }

    /// The rows that are not as in `old`; none where no rows can tell the difference, as for another lineage, and the
    /// whole table has to be told again.
    pub(super) fn since(&self, old: &Self) -> Option<Vec<Row>> {
        let lost_mark = old.failures.keys().any(|agent| !self.failures.contains_key(agent));
        let lost_roster = old.roster.is_some() && self.roster.is_none();
        if self.lineage != old.lineage || self.commit < old.commit || lost_mark || lost_roster {
            return None;
        }
        let same =
            |one: &Arc<Session>, other: &Arc<Session>| Arc::ptr_eq(one, other) || one == other;
        let changed = changed(&self.sessions, &old.sessions, same);
        let buried = changed_by_value(&self.tombstones, &old.tombstones);
        let mut ids: Vec<SessionId> = changed.into_iter().chain(buried).collect();
        ids.sort_unstable();
        ids.dedup();
        let marks = self
            .failures
            .iter()
            .filter(|(agent, at)| old.failures.get(*agent) != Some(at))
            .map(mark);
        let roster = self.roster.clone().filter(|_| self.roster != old.roster).map(Row::Roster);
        let gone = old.drains.keys().filter(|agent| !self.drains.contains_key(*agent));
        let drains = self
            .drains
            .iter()
            .filter(|(agent, mark)| old.drains.get(*agent) != Some(mark))
            .map(|(agent, mark)| drain(agent, Some(mark)))
            .chain(gone.map(|agent| drain(agent, None)));
        let told = old.events.last().map_or(0, |event| event.number);
        let events = self.events.iter().filter(|event| event.number > told);
        // None ever goes.
        let new = |(name, known): &(&IdentityName, &Arc<Identity>)| {
            old.identities.get(*name) != Some(*known)
        };
        let identities = self.identities.iter().filter(new).map(identity);
        let changed = self.web_keys.iter().filter(|(user, keys)| {
            let same = |was: &Arc<[WebKey]>| Arc::ptr_eq(was, keys) || was == *keys;
            !old.web_keys.get(*user).is_some_and(same)
        });
        let gone = old.web_keys.keys().filter(|user| !self.web_keys.contains_key(*user));
        let web_keys = changed
            .map(|(user, keys)| web_keys(user, Some(keys)))
            .chain(gone.map(|user| web_keys(user, None)));
        let rows = ids.into_iter().map(|id| self.session(id)).chain(marks).chain(roster);
        let events = events.cloned().map(Row::Event);
        Some(rows.chain(drains).chain(events).chain(identities).chain(web_keys).collect())
    }
}

fn web_keys(user: &UserName, keys: Option<&Arc<[WebKey]>>) -> Row {
    Row::WebKeys { user: user.clone(), keys: keys.cloned().unwrap_or_default() }
}

fn identity((name, known): (&IdentityName, &Arc<Identity>)) -> Row {
    Row::Identity { name: name.clone(), known: Arc::clone(known) }
}

fn drain(agent: &AgentName, mark: Option<&Arc<Drain>>) -> Row {
    Row::Drain { agent: agent.clone(), mark: mark.cloned() }
}

fn mark((agent, at): (&AgentName, &UnixMillis)) -> Row {
    Row::Agent { agent: agent.clone(), failed: *at }
}

/// Keys that are only in one of the maps, or whose values are not the same.
fn changed<V>(
    new: &BTreeMap<SessionId, V>,
    old: &BTreeMap<SessionId, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Vec<SessionId> {
    let came = new.iter().filter(|(id, value)| !old.get(id).is_some_and(|was| same(was, value)));
    let went = old.keys().filter(|id| !new.contains_key(id));
    came.map(|(id, _)| *id).chain(went.copied()).collect()
}

fn changed_by_value(
    new: &BTreeMap<SessionId, Tombstone>,
    old: &BTreeMap<SessionId, Tombstone>,
) -> Vec<SessionId> {
    changed(new, old, |one, other| one == other)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vsm_core::{Change, Epoch, RequestId, StartParams, State, Table};

    use super::*;

    fn id(n: u128) -> SessionId {
        SessionId::new(Uuid::from_u128(n))
    }

    fn reserved(n: u128) -> Change {
        Change::Reserved(Arc::new(Session {
            id: id(n),
            user: "alice".parse().unwrap(),
            agent: "agent1".parse().unwrap(),
            state: State::Starting,
            request: RequestId::new(Uuid::from_u128(n)),
            params: StartParams::default(),
            created: UnixMillis(1),
        }))
    }

    fn invited(token: u8) -> Change {
        let (token, by, until) = (vsm_core::Hash([token; 32]), "root".to_owned(), UnixMillis(9));
        let invited = Some(vsm_core::Invitation { token, by, until, used_for: None });
        let known = Arc::new(Identity { invited, ..Identity::default() });
        Change::Identity { name: "agent/agent1".parse().unwrap(), known }
    }

    fn web_keys(user: &str, count: u128) -> Change {
        let user: UserName = user.parse().unwrap();
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "x".repeat(43));
        let of = |n| {
            let (id, times) =
                (vsm_core::WebKeyId::new(Uuid::from_u128(n)), (UnixMillis(1), UnixMillis(9)));
            let key = key.parse().unwrap();
            WebKey::new(id, user.clone(), key, times, String::new()).unwrap()
        };
        let keys = (0..count).map(of).collect();
        Change::WebKeys { user, keys }
    }

    fn view(changes: &[Change]) -> View {
        let mut table = Table::default();
        for change in changes {
            table.apply(change);
        }
        let lineage = LineageId::new(Uuid::from_u128(1));
        View { table, epoch: Epoch::zero(), last_seq: changes.len() as u64, known: true, lineage }
    }

    fn table(rows: impl Iterator<Item = Row>, mut onto: Table) -> Table {
        for row in rows {
            onto.set_row(&row);
        }
        onto
    }

    fn equal(one: &Table, other: &Table) -> bool {
        one.sessions().eq(other.sessions())
            && one.tombstones().eq(other.tombstones())
            && one.failures().eq(other.failures())
            && one.roster() == other.roster()
            && one.identities() == other.identities()
            && one.web_keys().lists() == other.web_keys().lists()
    }

    /// After each prefix of a history the rows make the same table, whole or from any earlier point.
    #[test]
    fn the_rows_and_the_differences_are_the_table() {
        let (agent, at) = ("agent1".parse::<AgentName>().unwrap(), UnixMillis(7));
        let changes = [
            reserved(1),
            reserved(2),
            Change::Running { id: id(1), display: 10 },
            Change::Tombstone { id: id(2), agent: agent.clone(), at },
            Change::Roster([agent.clone()].into()),
            Change::AgentFailed { agent, at },
            Change::Ending { id: id(1) },
            Change::TombstoneDone { id: id(2) },
            Change::Gone { id: id(1) },
            Change::Began { pair: true },
            invited(1),
            invited(2),
            web_keys("alice", 2),
            web_keys("bob", 1),
            web_keys("alice", 1),
            web_keys("bob", 0),
        ];
        for to in 0..=changes.len() {
            let new = view(&changes[..to]);
            let copy = Copy::of(&new);
            assert!(equal(&table(copy.rows(), Table::default()), &new.table), "{to}");
            for from in 0..=to {
                let old = view(&changes[..from]);
                let rows = copy.since(&Copy::of(&old)).unwrap();
                assert!(equal(&table(rows.into_iter(), old.table), &new.table), "{from} to {to}");
            }
        }
        let last = Copy::of(&view(&changes));
        assert_eq!(last.since(&last).unwrap(), [], "nothing changed, nothing is told");
    }

    #[test]
    fn what_no_row_can_tell_is_told_anew() {
        let old = Copy::of(&view(&[Change::AgentFailed {
            agent: "agent1".parse().unwrap(),
            at: UnixMillis(1),
        }]));
        let new = Copy::of(&view(&[reserved(1), reserved(2)]));
        assert!(new.since(&old).is_none(), "a mark that vanished");
        let stranger = Copy { lineage: LineageId::new(Uuid::from_u128(2)), ..new.clone() };
        assert!(stranger.since(&new).is_none() && new.since(&stranger).is_none());
    }
}
