//! Whom the machines of a session's life deal with: the table, the agents, and luck.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use uuid::Uuid;
use vsm_core::{
    AgentName, Eligible, Proposal, Rejected, Rule, Session, SessionId, State, Strategy, Table,
    UnixMillis, UserName,
    lifecycle::{
        self, Burial, End, Login, Outcome as Attempt, Owed, Proposed, Reported, Start,
        ending::{self, Dig, Dug},
        login::{self, Host, Outcome, Own, Places},
    },
};

const GRACE_MS: u64 = 1000;
/// Effects of one login: an agent is asked at most three times, and again until the grace is over.
const TURNS_MAX: u32 = 400;

/// The input, byte by byte; when it is used up, all goes well.
pub(super) struct Luck<'a>(&'a [u8]);

impl Luck<'_> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Below `bound`; 0 at the end.
    pub(super) fn below(&mut self, bound: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first % bound
    }

    /// One in so many times.
    fn bad(&mut self, in_so_many: u8) -> bool {
        !self.is_empty() && self.below(in_so_many) == in_so_many - 1
    }
}

/// A host and what is true there.
#[derive(Default)]
struct Agent {
    runs: BTreeMap<SessionId, Session>,
    /// Those that it never starts, as it was told or has said so.
    never: BTreeSet<SessionId>,
}

pub(super) struct World<'a> {
    pub(super) luck: Luck<'a>,
    pub(super) table: Table,
    agents: BTreeMap<AgentName, Agent>,
    now: u64,
    serial: u128,
}

impl<'a> World<'a> {
    /// Most sessions of the one user.
    pub(super) const CAP: u32 = 2;

    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let agents =
            ["agent1", "agent2"].map(|name| (name.parse().expect("a name"), Agent::default()));
        let (luck, table) = (Luck(bytes), Table::default());
        Self { luck, table, agents: agents.into(), now: 1, serial: 100 }
    }

    pub(super) fn user() -> UserName {
        "ann".parse().expect("a name")
    }

    pub(super) fn some_session(&mut self) -> Option<SessionId> {
        let count = u8::try_from(self.table.sessions().len()).ok().filter(|count| *count > 0)?;
        let at = self.luck.below(count).into();
        self.table.sessions().nth(at).map(|session| session.id)
    }

    /// What must hold at any time.
    pub(super) fn check(&self) {
        for session in self.table.sessions() {
            assert!(self.table.tombstone(session.id).is_none(), "given up, and there: {session:?}");
        }
        let starts =
            self.table.sessions().filter(|session| !matches!(session.state, State::Ending { .. }));
        // P7: only what an agent reports by itself may be beyond the limit.
        assert!(
            starts.count()
                <= Self::CAP as usize
                    + self.agents.values().map(|agent| agent.runs.len()).sum::<usize>()
        );
        for agent in self.agents.values() {
            assert!(agent.runs.keys().all(|id| !agent.never.contains(id)), "never, and it runs");
        }
    }

    /// All agents are heard, and all that is owed is done: the table is what runs.
    pub(super) fn heal(&mut self) {
        self.luck = Luck(&[]);
        for _ in 0..3 {
            self.report();
        }
        self.check();
        let in_table: Vec<SessionId> = self.table.sessions().map(|session| session.id).collect();
        let mut running: Vec<SessionId> =
            self.agents.values().flat_map(|agent| agent.runs.keys().copied()).collect();
        running.sort();
        assert_eq!(in_table, running, "P4: the table is what runs");
        assert_eq!(self.table.tombstones().count(), 0);
    }

    /// A desktop is over, by itself.
    pub(super) fn desktop_ends(&mut self) {
        let ids: Vec<_> = self
            .agents
            .iter()
            .flat_map(|(name, agent)| agent.runs.keys().map(|id| (name.clone(), *id)))
            .collect();
        let Some(count) = u8::try_from(ids.len()).ok().filter(|count| *count > 0) else { return };
        let (name, id) = &ids[usize::from(self.luck.below(count))];
        self.agent(name).runs.remove(id);
    }

    /// Nothing that was under way goes on.
    pub(super) const fn restart_broker(&mut self) {
        self.now += 10_000;
    }

    fn agent(&mut self, name: &AgentName) -> &mut Agent {
        self.agents.entry(name.clone()).or_default()
    }

    /// Proposes; what the driver hears of it.
    fn propose(&mut self, proposal: Proposal) -> Proposed {
        let about = if let Proposal::Running { id, .. }
        | Proposal::GiveUp { id, .. }
        | Proposal::End { id } = &proposal
        {
            Some(*id)
        } else {
            None
        };
        let committed = match self.luck.below(12) {
            8 => return Proposed::NotActive,
            9 => return Proposed::NoVotes,
            // It is not known; it may be so all the same.
            10 => return Proposed::Failed,
            luck => match self.table.check(proposal) {
                Ok(change) => {
                    self.table.apply(&change);
                    if luck == 11 {
                        return Proposed::Failed;
                    }
                    change
                }
                Err(why) => {
                    let state =
                        about.and_then(|id| self.table.session(id)).map(|session| session.state);
                    return Proposed::Rejected(why, state);
                }
            },
        };
        Proposed::Committed(committed)
    }

    pub(super) fn log_in(&mut self, mut login: Login) {
        let mut effects = login.begin();
        for _ in 0..TURNS_MAX {
            let Some(last) = self.login_effects(effects) else { return };
            effects = login.handle(last);
        }
        unreachable!("a login does not come to its end");
    }

    /// Carries effects out; what comes of the last one, or none where it is over.
    fn login_effects(&mut self, effects: Vec<login::Effect>) -> Option<login::Event> {
        let mut event = None;
        assert!(!effects.is_empty(), "a login that stands still");
        for effect in effects {
            assert!(event.is_none(), "only the last effect leads to an event");
            event = match effect {
                login::Effect::Settle(_) => Some(login::Event::Settled),
                login::Effect::Look => Some(login::Event::Has(self.own())),
                login::Effect::Verify(session) => Some(self.verify(&session)),
                login::Effect::Drop(id) => {
                    self.propose(Proposal::Gone { id });
                    None
                }
                login::Effect::Place => Some(login::Event::Places(self.places())),
                login::Effect::Propose(proposal) => {
                    Some(login::Event::Proposed(self.propose(*proposal)))
                }
                login::Effect::Start { session, may_be_there } => {
                    Some(login::Event::Started(self.start(&session, may_be_there)))
                }
                login::Effect::Over(outcome) => {
                    self.is_over(&outcome);
                    return None;
                }
            };
        }
        event
    }

    fn is_over(&self, outcome: &Outcome) {
        let runs = |session: &Session| self.agents[&session.agent].runs.contains_key(&session.id);
        match outcome {
            // P5: what is handed out runs, as its agent has just said.
            Outcome::Found(session) => assert!(runs(session), "handed out and dead: {session:?}"),
            Outcome::Started(session, _) => {
                let state = self.table.session(session.id).map(|session| session.state);
                assert!(matches!(state, Some(State::Running { .. })), "not committed: {state:?}");
            }
            Outcome::Choose(sessions) => assert!(!sessions.is_empty()),
            Outcome::Nothing
            | Outcome::NoSuch(_)
            | Outcome::Unreachable(_)
            | Outcome::NoHost
            | Outcome::Unvoted(_)
            | Outcome::Refused => {}
        }
    }

    fn own(&mut self) -> Vec<Own> {
        let sessions: Vec<_> = self.table.of_user(&Self::user()).cloned().collect();
        let host = |session| {
            let host = match self.luck.below(6) {
                3 => Host::Connecting,
                4 => Host::Silent,
                luck => Host::Up { connected: luck == 1, open: luck != 2 },
            };
            Own { session, host }
        };
        sessions.into_iter().map(host).collect()
    }

    fn verify(&mut self, session: &Session) -> login::Event {
        match self.luck.bad(4) {
            true => login::Event::Silent,
            false if self.agent(&session.agent).runs.contains_key(&session.id) => {
                login::Event::Alive
            }
            false => login::Event::Gone,
        }
    }

    fn places(&mut self) -> Places {
        self.serial += 1;
        let eligible = |agent: &AgentName| Eligible {
            agent: agent.clone(),
            weight: 100,
            max_users: 0,
            measured: None,
        };
        let all = self.agents.keys().map(eligible).collect::<Vec<_>>();
        let tie = self.luck.below(8).into();
        Places {
            id: SessionId::new(Uuid::from_u128(self.serial)),
            eligible: all.into(),
            uncounted: Vec::new(),
            rule: Rule {
                strategy: Strategy::Users,
                now: UnixMillis(self.now),
                penalty_ms: 5000,
                tie,
            },
        }
    }

    fn start(&mut self, session: &Arc<Session>, may_be_there: bool) -> Attempt {
        let began = self.now;
        let mut start = Start::new(session, GRACE_MS, may_be_there);
        let mut effects = vec![lifecycle::Effect::Ask];
        for _ in 0..TURNS_MAX {
            let mut event = None;
            assert!(!effects.is_empty(), "a start that stands still");
            for effect in effects {
                assert!(event.is_none(), "only the last effect leads to an event");
                event = match effect {
                    lifecycle::Effect::Ask => Some(self.ask(session)),
                    lifecycle::Effect::Propose(proposal) => {
                        Some(lifecycle::Event::Proposed(self.propose(proposal)))
                    }
                    lifecycle::Effect::Note(proposal) => {
                        self.propose(proposal);
                        None
                    }
                    lifecycle::Effect::Drop => {
                        self.propose(Proposal::Gone { id: session.id });
                        None
                    }
                    lifecycle::Effect::End => {
                        self.end(session.id, End::recorded(session.id));
                        None
                    }
                    lifecycle::Effect::Bury => {
                        self.bury(&session.agent, session.id, &Burial::of(session.id));
                        None
                    }
                    lifecycle::Effect::Wait(most_ms) => {
                        self.now += most_ms.clamp(1, 100);
                        Some(lifecycle::Event::Waited)
                    }
                    lifecycle::Effect::Over(outcome) => return outcome,
                };
            }
            let Some(event) = event else { unreachable!("a start that is neither over nor waits") };
            effects = start.handle(self.now - began, UnixMillis(self.now), event);
        }
        unreachable!("a start does not come to its end");
    }

    /// The agent starts it, or has; unless it holds to something else.
    fn ask(&mut self, session: &Session) -> lifecycle::Event {
        self.now += 10;
        let luck = self.luck.below(12);
        let display = 10;
        let agent = self.agent(&session.agent);
        let lost = lifecycle::Event::Unanswered { unsent: false, timed_out: luck == 9 };
        match luck {
            7 => return lifecycle::Event::Unanswered { unsent: true, timed_out: false },
            8 => return lost,
            11 if !agent.runs.contains_key(&session.id) => {
                agent.never.insert(session.id);
            }
            _ => {}
        }
        if agent.never.contains(&session.id) {
            return lifecycle::Event::Refused { at_fault: luck & 1 == 0 };
        }
        let runs = Session { state: State::Running { display }, ..session.clone() };
        agent.runs.insert(session.id, runs);
        if matches!(luck, 9 | 10) { lost } else { lifecycle::Event::Ran(display) }
    }

    fn bury(&mut self, agent: &AgentName, id: SessionId, burial: &Burial) {
        let mut digs = burial.begin(UnixMillis(self.now));
        while let Some(dig) = digs.pop() {
            assert!(digs.is_empty(), "one after the other");
            let event = match dig {
                Dig::Propose(proposal) => Dug::Proposed(self.propose(proposal)),
                Dig::Cancel if self.luck.bad(4) => Dug::NotNow,
                Dig::Cancel => {
                    let held = self.agent(agent);
                    held.never.insert(id);
                    held.runs.remove(&id);
                    Dug::Cancelled
                }
                Dig::Note(proposal) => {
                    self.propose(proposal);
                    return;
                }
            };
            digs = burial.handle(&event);
        }
    }

    pub(super) fn end(&mut self, id: SessionId, mut end: End) {
        let Some(name) = self.table.session(id).map(|session| session.agent.clone()) else {
            return;
        };
        let mut effects = end.begin();
        for _ in 0..TURNS_MAX {
            let mut event = None;
            for effect in effects {
                assert!(event.is_none(), "only the last effect leads to an event");
                event = match effect {
                    ending::Effect::Reach => Some(ending::Event::Reached(!self.luck.bad(4))),
                    ending::Effect::Record(id) => {
                        Some(ending::Event::Proposed(self.propose(Proposal::End { id })))
                    }
                    ending::Effect::Note => None,
                    ending::Effect::Terminate | ending::Effect::TerminateUnrecorded => {
                        if self.luck.bad(4) {
                            Some(ending::Event::NotNow)
                        } else {
                            self.agent(&name).runs.remove(&id);
                            Some(ending::Event::Ended)
                        }
                    }
                    ending::Effect::Drop => {
                        assert!(!self.agent(&name).runs.contains_key(&id), "dropped while it runs");
                        self.propose(Proposal::Gone { id });
                        None
                    }
                    ending::Effect::Over(_) => return,
                };
            }
            let Some(event) = event else { unreachable!("an end that is neither over nor waits") };
            effects = end.handle(event);
        }
        unreachable!("an end does not come to its end");
    }

    /// Each agent reports what it runs, and is told what it is owed.
    pub(super) fn report(&mut self) {
        let names: Vec<AgentName> = self.agents.keys().cloned().collect();
        for name in names {
            if self.luck.bad(3) {
                continue;
            }
            let told: Vec<Session> = self.agent(&name).runs.values().cloned().collect();
            for session in &told {
                self.reported(&name, session);
            }
            for id in lifecycle::expected(&self.table, &name) {
                if !told.iter().any(|session| session.id == id) {
                    self.propose(Proposal::Gone { id });
                }
            }
            for owed in lifecycle::owed(&self.table, &name, |_| false) {
                match owed {
                    Owed::End(session) => self.end(session.id, End::recorded(session.id)),
                    Owed::GiveUp(session) => {
                        self.bury(&name, session.id, &Burial::giving_up(session.id));
                    }
                    Owed::Bury(id) => self.bury(&name, id, &Burial::of(id)),
                }
            }
        }
    }

    fn reported(&mut self, name: &AgentName, session: &Session) {
        let proposal = match lifecycle::reported(&self.table, name, session, false) {
            Reported::Known => return,
            Reported::Commit(display) => Proposal::Running { id: session.id, display },
            Reported::Bury => return self.bury(name, session.id, &Burial::of(session.id)),
            Reported::Elsewhere(agent) => unreachable!("{session:?} is also on {agent}"),
            Reported::Adopt(session) => Proposal::Adopt(session),
        };
        if let Proposed::Rejected(why, _) = self.propose(proposal) {
            assert!(!matches!(why, Rejected::IdUsed(_)), "adopted twice");
        }
    }
}
