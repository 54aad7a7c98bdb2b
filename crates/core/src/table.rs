//! The session table and its rules: who has which session where, and what may change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    AgentName, Change, Draft, Drain, Eligible, Event, Key, Placement, Proposal, Rejected,
    RequestId, Row, Session, SessionId, State, UnixMillis, UserName,
    audit::Trail,
    identity::{AllIdentities, Identities},
    place::Boards,
    replica::mutant::{self, Mutant},
    web_key::WebKeys,
};

/// All sessions, the starts that were given up, the agents' marks, and the trail of events. Indices by user and by
/// agent are kept with every change, so that a look-up or a placement never walks the table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Oldest first. Nearly all have one: without room for more, which is a quarter of what the indices take.
    by_user: HashMap<UserName, Box<[SessionId]>>,
    agents: HashMap<AgentName, AgentUse>,
    /// What a placement walks.
    boards: Boards,
    tombstones: BTreeMap<SessionId, (AgentName, UnixMillis)>,
    failed: BTreeMap<AgentName, UnixMillis>,
    roster: Option<Arc<[AgentName]>>,
    drains: BTreeMap<AgentName, Arc<Drain>>,
    identities: Identities,
    web_keys: WebKeys,
    trail: Trail,
}

/// How much an agent is used, starts under way included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentUse {
    /// Oldest first.
    sessions: Vec<SessionId>,
    users: u32,
}

impl AgentUse {
    /// Sessions there.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        u32::try_from(self.sessions.len()).unwrap_or(u32::MAX)
    }

    /// Distinct users there.
    #[must_use]
    pub const fn users(&self) -> u32 {
        self.users
    }
}

impl Table {
    /// The session with this id.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(&id)
    }

    /// All sessions, oldest first.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// The user's sessions, oldest first.
    pub fn of_user(&self, user: &UserName) -> impl Iterator<Item = &Arc<Session>> {
        self.by_user.get(user).into_iter().flatten().filter_map(|id| self.sessions.get(id))
    }

    /// The sessions on an agent, oldest first.
    pub fn on_agent(&self, agent: &AgentName) -> impl Iterator<Item = &Arc<Session>> {
        let ids = self.agents.get(agent).into_iter().flat_map(|use_| &use_.sessions);
        ids.filter_map(|id| self.sessions.get(id))
    }

    /// How much an agent is used; none = not at all.
    #[must_use]
    pub fn agent_use(&self, agent: &AgentName) -> Option<&AgentUse> {
        self.agents.get(agent)
    }

    /// The best agent of a list, in which each is once. The table keeps count for the lists that it was asked about
    /// last, so that it is fast to ask again with the same `Arc`. See [`place`](crate::place).
    #[must_use]
    pub fn place<'a>(
        &self,
        eligible: &'a Arc<[Eligible]>,
        want: Placement<'_>,
    ) -> Option<&'a AgentName> {
        Some(&self.boards.best(self, eligible, want)?.candidate.agent)
    }

    /// Agents that have sessions.
    pub fn agents_in_use(&self) -> impl Iterator<Item = &AgentName> {
        self.agents.keys()
    }

    /// When the agent last failed to start a session.
    #[must_use]
    pub fn failed_at(&self, agent: &AgentName) -> Option<UnixMillis> {
        self.failed.get(agent).copied()
    }

    /// Failure marks, by agent.
    pub fn failures(&self) -> impl Iterator<Item = (&AgentName, UnixMillis)> {
        self.failed.iter().map(|(agent, at)| (agent, *at))
    }

    /// By whose word the agent takes no new sessions; it may have run out.
    #[must_use]
    pub fn drain(&self, agent: &AgentName) -> Option<&Arc<Drain>> {
        self.drains.get(agent)
    }

    /// Whether such a word holds now.
    #[must_use]
    pub fn is_drained(&self, agent: &AgentName, now: UnixMillis) -> bool {
        self.drain(agent).is_some_and(|drain| drain.holds(now))
    }

    /// All such words, by agent.
    pub fn drains(&self) -> impl Iterator<Item = (&AgentName, &Arc<Drain>)> {
        self.drains.iter()
    }

    /// The number of the last event; 0 = there was none.
    #[must_use]
    pub const fn last_event(&self) -> u64 {
        self.trail.last()
    }

    /// The events after this number that are kept, oldest first; 0 = all.
    pub fn events_after(&self, number: u64) -> impl Iterator<Item = &Arc<Event>> {
        self.trail.after(number)
    }

    /// Starts that were given up and whose agent has not acknowledged that yet.
    pub fn tombstones(&self) -> impl Iterator<Item = (SessionId, &AgentName, UnixMillis)> {
        self.tombstones.iter().map(|(id, (agent, at))| (*id, agent, *at))
    }

    /// The agent and time of a start that was given up.
    #[must_use]
    pub fn tombstone(&self, id: SessionId) -> Option<(&AgentName, UnixMillis)> {
        self.tombstones.get(&id).map(|(agent, at)| (agent, *at))
    }

    /// The agents that vote as witnesses; none = this table was never a pair's.
    #[must_use]
    pub const fn roster(&self) -> Option<&Arc<[AgentName]>> {
        self.roster.as_ref()
    }

    /// What is remembered of hosts' identities.
    #[must_use]
    pub const fn identities(&self) -> &AllIdentities {
        self.identities.all()
    }

    /// The keys by which browsers log in.
    #[must_use]
    pub const fn web_keys(&self) -> &WebKeys {
        &self.web_keys
    }

    /// The state of one key; none = as if nothing had ever touched it.
    #[must_use]
    pub fn row(&self, key: &Key) -> Option<Row> {
        match key {
            Key::Session(id) => Some(Row::Session {
                id: *id,
                session: self.sessions.get(id).cloned(),
                tombstone: self.tombstones.get(id).cloned(),
            }),
            Key::Agent(agent) => {
                let failed = self.failed.get(agent).copied()?;
                Some(Row::Agent { agent: agent.clone(), failed })
            }
            Key::Roster => self.roster.clone().map(Row::Roster),
            Key::Drain(agent) => {
                Some(Row::Drain { agent: agent.clone(), mark: self.drains.get(agent).cloned() })
            }
            Key::Event(slot) => self.trail.slot(*slot).cloned().map(Row::Event),
            Key::Identity(name) => self.identities.row(name),
            Key::WebKeys(user) => Some(self.web_keys.row(user)),
        }
    }

    /// Puts one key into the state that another node says it has.
    pub fn set_row(&mut self, row: &Row) {
        match row {
            Row::Session { id, session, tombstone } => {
                self.remove(*id);
                self.tombstones.remove(id);
                if let Some(session) = session {
                    self.insert(Arc::clone(session));
                }
                if let Some(tombstone) = tombstone {
                    self.tombstones.insert(*id, tombstone.clone());
                }
            }
            Row::Agent { agent, failed } => {
                self.failed.insert(agent.clone(), *failed);
            }
            Row::Roster(witnesses) => self.roster = Some(Arc::clone(witnesses)),
            Row::Drain { agent, mark } => self.set_drain(agent, mark.as_ref()),
            Row::Event(event) => self.trail.put(event),
            Row::Identity { name, known } => self.identities.set(name, known),
            Row::WebKeys { user, keys } => self.web_keys.set(user, keys),
        }
    }

    /// Every row: together they are the table.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let only_buried = self.tombstones.keys().filter(|id| !self.sessions.contains_key(id));
        let ids = self.sessions.keys().chain(only_buried).map(|id| Key::Session(*id));
        let agents = self.failed.keys().cloned().map(Key::Agent);
        let drains = self.drains.keys().cloned().map(Key::Drain);
        let events = self.trail.slots().map(Key::Event);
        let identities = self.identities.all().keys().cloned().map(Key::Identity);
        let web_keys = self.web_keys.users().cloned().map(Key::WebKeys);
        let others = agents.chain([Key::Roster]).chain(drains).chain(events).chain(identities);
        ids.chain(others).chain(web_keys).filter_map(|key| self.row(&key))
    }

    /// Checks a proposal; what is to be committed.
    ///
    /// # Errors
    /// If a rule forbids it; see [`Rejected`].
    pub fn check(&self, proposal: Proposal) -> Result<Change, Rejected> {
        match proposal {
            Proposal::Reserve { draft, cap, uncounted, eligible, rule } => {
                self.check_room(&draft, cap, &uncounted)?;
                let want = Placement { user: &draft.user, rule };
                self.check_reserve(draft.clone(), &eligible, want)
            }
            Proposal::Running { id, display } => match self.known(id)?.state {
                State::Starting => Ok(Change::Running { id, display }),
                State::Running { .. } | State::Ending { .. } => Err(Rejected::AlreadyRunning(id)),
            },
            Proposal::GiveUp { id, now } => {
                let session = self.known(id)?;
                match session.state {
                    State::Starting => {
                        Ok(Change::Tombstone { id, agent: session.agent.clone(), at: now })
                    }
                    State::Running { .. } | State::Ending { .. } => {
                        Err(Rejected::AlreadyRunning(id))
                    }
                }
            }
            Proposal::TombstoneDone { id } if self.tombstones.contains_key(&id) => {
                Ok(Change::TombstoneDone { id })
            }
            Proposal::TombstoneDone { id } => Err(Rejected::UnknownSession(id)),
            Proposal::End { id } => self.known(id).map(|_| Change::Ending { id }),
            Proposal::Gone { id } => self.known(id).map(|_| Change::Gone { id }),
            Proposal::Adopt(session) => {
                self.check_new(session.id)?;
                Ok(Change::Adopted(Arc::new(session)))
            }
            Proposal::SetRoster(witnesses) => Ok(Change::Roster(witnesses)),
            Proposal::AgentFailed { agent, at } => Ok(Change::AgentFailed { agent, at }),
            Proposal::Drain { agent, mark } => Ok(Change::Drained { agent, mark }),
            Proposal::Note(event) => Ok(Change::Noted(Arc::new(self.trail.next(event)))),
            Proposal::Identity { name, asked } => self.identities.check(name, asked),
            Proposal::WebKeys { user, asked } => self.web_keys.check(user, asked),
        }
    }

    fn known(&self, id: SessionId) -> Result<&Arc<Session>, Rejected> {
        if self.tombstones.contains_key(&id) {
            return Err(Rejected::GivenUp(id));
        }
        self.sessions.get(&id).ok_or(Rejected::UnknownSession(id))
    }

    fn check_new(&self, id: SessionId) -> Result<(), Rejected> {
        if self.tombstones.contains_key(&id) {
            return Err(Rejected::GivenUp(id));
        }
        if self.sessions.contains_key(&id) { Err(Rejected::IdUsed(id)) } else { Ok(()) }
    }

    /// P7 and P8: neither a session beyond the cap nor a second one for the same request.
    fn check_room(&self, draft: &Draft, cap: u32, uncounted: &[SessionId]) -> Result<(), Rejected> {
        self.check_new(draft.id)?;
        if let Some(session) = self.of_request(&draft.user, draft.request) {
            return Err(Rejected::Repeated(session.id));
        }
        if !self.has_room(&draft.user, cap, uncounted) {
            return Err(Rejected::AtLimit { user: draft.user.clone(), cap });
        }
        Ok(())
    }

    /// Whether the cap allows the user a session more; a cap of 0 allows any number (P7).
    #[must_use]
    pub fn has_room(&self, user: &UserName, cap: u32, uncounted: &[SessionId]) -> bool {
        self.has_room_beside(0, user, cap, uncounted)
    }

    /// The same of a user of whom so many more are known that are in no table.
    #[must_use]
    pub fn has_room_beside(
        &self,
        more: usize,
        user: &UserName,
        cap: u32,
        uncounted: &[SessionId],
    ) -> bool {
        // One whose end was asked for no longer counts: its user gave it up.
        let counts = |s: &&Arc<Session>| {
            !matches!(s.state, State::Ending { .. }) && !uncounted.contains(&s.id)
        };
        let has = || self.of_user(user).filter(counts).count() + more;
        cap == 0 || has() < usize::try_from(cap).unwrap_or(usize::MAX)
    }

    /// The session that this request of the user has made.
    #[must_use]
    pub fn of_request(&self, user: &UserName, request: RequestId) -> Option<&Arc<Session>> {
        self.of_user(user).find(|session| session.request == request)
    }

    fn check_reserve(
        &self,
        draft: Draft,
        eligible: &Arc<[Eligible]>,
        want: Placement<'_>,
    ) -> Result<Change, Rejected> {
        let agent = self.place(eligible, want).ok_or(Rejected::NoAgent)?.clone();
        let created = want.rule.now;
        let Draft { id, user, request, params } = draft;
        let session = Session { id, user, agent, state: State::Starting, request, params, created };
        Ok(Change::Reserved(Arc::new(session)))
    }

    /// Applies a committed change. One that no longer fits (a replay) changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Reserved(session) | Change::Adopted(session) => {
                self.insert(Arc::clone(session));
                if mutant::on(Mutant::AdoptedUncounted) && matches!(change, Change::Adopted(_)) {
                    self.by_user.remove(&session.user);
                }
            }
            Change::Running { id, display } => {
                self.set_state(*id, State::Running { display: *display });
            }
            Change::Tombstone { id, agent, at } => {
                self.remove(*id);
                self.tombstones.insert(*id, (agent.clone(), *at));
            }
            Change::TombstoneDone { id } => {
                self.tombstones.remove(id);
            }
            Change::Ending { id } => {
                let display = self.sessions.get(id).and_then(|s| s.state.display()).unwrap_or(0);
                self.set_state(*id, State::Ending { display });
            }
            Change::Gone { id } => self.remove(*id),
            Change::AgentFailed { agent, at } => {
                self.failed.insert(agent.clone(), *at);
            }
            Change::Began { .. } => {}
            Change::Roster(witnesses) => self.roster = Some(Arc::clone(witnesses)),
            Change::Drained { agent, mark } => self.set_drain(agent, mark.as_ref()),
            Change::Noted(event) => self.trail.put(event),
            Change::Identity { name, known } => self.identities.set(name, known),
            Change::WebKeys { user, keys } => self.web_keys.set(user, keys),
        }
    }

    fn set_drain(&mut self, agent: &AgentName, mark: Option<&Arc<Drain>>) {
        match mark {
            Some(mark) => drop(self.drains.insert(agent.clone(), Arc::clone(mark))),
            None => drop(self.drains.remove(agent)),
        }
    }

    fn set_state(&mut self, id: SessionId, state: State) {
        if let Some(session) = self.sessions.get_mut(&id) {
            Arc::make_mut(session).state = state;
        }
    }

    fn insert(&mut self, session: Arc<Session>) {
        self.remove(session.id);
        let stranger = !self.is_on(&session.user, &session.agent);
        // Ids are ordered by time, so they stay the oldest first in whatever order rows come.
        let ids = self.by_user.entry(session.user.clone()).or_default();
        let mut more = Vec::with_capacity(ids.len() + 1);
        more.extend_from_slice(ids);
        more.insert(ids.partition_point(|other| *other < session.id), session.id);
        *ids = more.into();
        let use_ = self.agents.entry(session.agent.clone()).or_default();
        let place = use_.sessions.partition_point(|other| *other < session.id);
        use_.sessions.insert(place, session.id);
        use_.users += u32::from(stranger);
        self.boards.note(&session.agent, Some(use_));
        self.sessions.insert(session.id, session);
    }

    fn remove(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        if let Some(ids) = self.by_user.get_mut(&session.user) {
            *ids = ids.iter().copied().filter(|other| *other != id).collect();
            if ids.is_empty() {
                self.by_user.remove(&session.user);
            }
        }
        let stranger = !self.is_on(&session.user, &session.agent);
        let Some(use_) = self.agents.get_mut(&session.agent) else { return };
        use_.sessions.retain(|other| *other != id);
        use_.users = use_.users.saturating_sub(u32::from(stranger));
        self.boards.note(&session.agent, Some(use_));
        if use_.sessions.is_empty() {
            self.agents.remove(&session.agent);
        }
    }

    /// Whether the user has a session on the agent.
    fn is_on(&self, user: &UserName, agent: &AgentName) -> bool {
        self.of_user(user).any(|session| session.agent == *agent)
    }
}

/// Small helpers for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    use uuid::Uuid;

    use super::*;
    use crate::{Rule, Strategy};

    pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    pub(crate) const PENALTY_MS: u64 = 300_000;

    pub(crate) fn commit(table: &mut Table, proposal: Proposal) -> Result<Change, Rejected> {
        let change = table.check(proposal)?;
        table.apply(&change);
        Ok(change)
    }

    pub(crate) fn draft(table: &Table, user: &str) -> Draft {
        let n = table.sessions.len() as u128 + 1;
        Draft {
            id: SessionId::new(Uuid::from_u128(n << 64 | table.tombstones.len() as u128)),
            user: user.parse().unwrap(),
            request: RequestId::new(Uuid::from_u128(n)),
            params: crate::StartParams::default(),
        }
    }

    pub(crate) fn propose(draft: Draft, cap: u32, eligible: &Arc<[Eligible]>) -> Proposal {
        let eligible = Arc::clone(eligible);
        let tie = draft.id.uuid().as_u64_pair().0;
        Proposal::Reserve {
            draft,
            cap,
            uncounted: Vec::new(),
            eligible,
            rule: Rule { strategy: Strategy::Users, now: NOW, penalty_ms: PENALTY_MS, tie },
        }
    }

    pub(crate) fn reserve(
        table: &mut Table,
        user: &str,
        eligible: &Arc<[Eligible]>,
    ) -> Result<Arc<Session>, Rejected> {
        let proposal = propose(draft(table, user), 0, eligible);
        let change = commit(table, proposal)?;
        let Change::Reserved(session) = change else { panic!("a reserve became {change:?}") };
        Ok(session)
    }
}

#[cfg(test)]
mod tests;
