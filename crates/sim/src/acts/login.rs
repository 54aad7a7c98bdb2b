//! Drives the logins of a broker: [`Login`] and [`Start`] of `vsm_core::lifecycle` decide, as in the broker itself.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    Change, Eligible, Proposal, Rule, Session, SessionId, StartParams, Strategy,
    lifecycle::{
        self, Effect, Event, Login, Start,
        login::{self, Host, Own, Places, Terms, Wanted},
    },
    replica::Failure,
};

use crate::{
    event::{AgentId, BrokerId, Call, Ev, Reply},
    state::{
        broker::Then,
        login::{Starting, Task, Unvoting},
    },
    world::World,
};

/// An outcome that is unknown is asked for again for so long.
const GRACE_MS: u64 = 1500;
/// Agents that are asked to start a session before a login fails.
const ATTEMPTS: u32 = 3;
/// An agent that was not heard for so long after a reign began counts as silent.
const SETTLE_MS: u64 = 400;
/// How long an agent is silent before its sessions do not count: longer than any run, or users had two by right.
const UNREACHABLE_GRACE_MS: u64 = 3_600_000;

impl World {
    /// Begins the logins that wait, one at a time for each user.
    pub(crate) fn next_logins(&mut self, id: BrokerId) {
        for _ in 0..self.brokers[id].waiting.len() {
            let Some((client, request, wish)) = self.brokers[id].waiting.pop_front() else {
                return;
            };
            let user = self.clients[client].user.clone();
            if self.brokers[id].tasks.values().any(|task| task.user == user) {
                self.brokers[id].waiting.push_back((client, request, wish));
                continue;
            }
            if self.brokers[id].serves().is_none() {
                self.answer_client(client, request, Err(()));
                continue;
            }
            let params = StartParams::default();
            let want = Wanted { user: user.clone(), request, params, wish };
            let terms = Terms { cap: self.cap, attempts: ATTEMPTS, solo_create: self.solo_create };
            let login = Login::find_or_make(want, terms);
            let effects = login.begin();
            self.serial += 1;
            let number = self.serial;
            let (starting, unvoting, reserves) = (None, None, None);
            let task = Task { client, user, request, login, starting, unvoting, reserves };
            self.brokers[id].tasks.insert(number, task);
            self.do_login(id, number, effects);
        }
    }

    /// Feeds a login an event.
    fn drive_login(&mut self, id: BrokerId, number: u64, event: login::Event) {
        let Some(task) = self.brokers[id].tasks.get_mut(&number) else { return };
        let effects = task.login.handle(event);
        self.do_login(id, number, effects);
    }

    fn do_login(&mut self, id: BrokerId, number: u64, effects: Vec<login::Effect>) {
        for effect in effects {
            match effect {
                login::Effect::Settle(_) => self.settle(id, number),
                login::Effect::Look => {
                    let own = self.own(id, number);
                    self.drive_login(id, number, login::Event::Has(own));
                }
                login::Effect::Verify(session) => match self.agent_named(&session) {
                    Some(agent) => {
                        let call = Call::Verify { id: session.id };
                        self.call(id, agent, &call, Then::Task(number));
                    }
                    None => self.drive_login(id, number, login::Event::Silent),
                },
                login::Effect::Drop(session) => {
                    self.brokers[id].forget_unvoted(session);
                    let then = self.agent_of(id, session).map_or(Then::Nothing, Then::Report);
                    self.propose(id, Proposal::Gone { id: session }, then);
                }
                login::Effect::Place => {
                    let places = self.places(id, number);
                    if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
                        task.reserves = Some(places.id);
                    }
                    self.drive_login(id, number, login::Event::Places(places));
                }
                login::Effect::Propose(proposal) => {
                    self.propose(id, *proposal, Then::Task(number));
                }
                login::Effect::Start { session, may_be_there } => {
                    let start = Start::new(&session, GRACE_MS, may_be_there);
                    if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
                        task.reserves = Some(session.id);
                        task.starting = Some(Starting { session, began: self.now, start });
                    }
                    self.do_start(id, number, vec![Effect::Ask]);
                }
                login::Effect::Over(outcome) => self.over(id, number, outcome),
            }
        }
    }

    /// Waits until each agent was heard, or had the time to be.
    fn settle(&mut self, id: BrokerId, number: u64) {
        if (0..self.agents.len()).any(|agent| self.is_connecting(id, agent)) {
            return self.wait(id, number, 20);
        }
        self.drive_login(id, number, login::Event::Settled);
    }

    fn is_connecting(&self, id: BrokerId, agent: AgentId) -> bool {
        let broker = &self.brokers[id];
        broker.heard[agent].is_none() && self.now < broker.ready_ms + SETTLE_MS
    }

    fn wait(&mut self, id: BrokerId, number: u64, wait: u64) {
        let life = self.brokers[id].life;
        self.after(wait, Ev::Again { broker: id, life, task: number });
    }

    pub(super) fn agent_named(&self, session: &Session) -> Option<AgentId> {
        self.agents.iter().position(|agent| agent.name == session.agent)
    }

    /// What the user of a login has.
    fn own(&mut self, id: BrokerId, number: u64) -> Vec<Own> {
        let viewers = self.rng.next();
        let broker = &self.brokers[id];
        let Some(task) = broker.tasks.get(&number) else { return Vec::new() };
        let host = |session: &Session| match self.agent_named(session) {
            Some(agent) if broker.heard[agent].is_some() => {
                // Who looks at it is nothing that a broker decides.
                let place = session.id.uuid().as_u128() % 64;
                Host::Up { connected: viewers >> place & 3 == 0, open: true }
            }
            Some(agent) if self.is_connecting(id, agent) => Host::Connecting,
            Some(_) | None => Host::Silent,
        };
        let own = broker.of_user(&task.user).into_iter();
        own.map(|session| Own { host: host(&session), session }).collect()
    }

    fn places(&mut self, id: BrokerId, number: u64) -> Places {
        let broker = &self.brokers[id];
        let heard = self.agents.iter().zip(&broker.heard).filter(|(_, heard)| heard.is_some());
        let eligible = heard.map(|(agent, _)| Eligible {
            agent: agent.name.clone(),
            weight: 100,
            max_users: 0,
            measured: None,
        });
        let eligible: Arc<[Eligible]> = eligible.collect();
        let silent_ms = |name: &_| {
            let is_heard = eligible.iter().any(|eligible| eligible.agent == *name);
            (!is_heard).then(|| self.now - broker.ready_ms)
        };
        let uncounted = match (broker.tasks.get(&number), &broker.replica) {
            (Some(Task { user, .. }), Some(replica)) => {
                lifecycle::uncounted(replica.table(), user, UNREACHABLE_GRACE_MS, silent_ms)
            }
            _ => Vec::new(),
        };
        self.serial += 1;
        let id = SessionId::new(Uuid::from_u128(u128::from(self.serial)));
        let (now, tie) = (self.unix(), self.rng.next());
        let rule = Rule { strategy: Strategy::Users, now, penalty_ms: 5_000, tie };
        Places { id, eligible, uncounted, rule }
    }

    /// The wait of a login is over.
    pub(crate) fn again(&mut self, id: BrokerId, number: u64) {
        match self.brokers[id].tasks.get(&number) {
            Some(Task { starting: Some(_), .. }) => self.drive_start(id, number, Event::Waited),
            Some(_) => self.settle(id, number),
            None => {}
        }
    }

    /// Feeds the start of a login an event.
    fn drive_start(&mut self, id: BrokerId, number: u64, event: Event) {
        let (now, unix) = (self.now, self.unix());
        let Some(task) = self.brokers[id].tasks.get_mut(&number) else { return };
        let Some(Starting { began, start, .. }) = &mut task.starting else { return };
        let effects = start.handle(now - *began, unix, event);
        self.do_start(id, number, effects);
    }

    fn do_start(&mut self, id: BrokerId, number: u64, effects: Vec<Effect>) {
        for effect in effects {
            let Some(task) = self.brokers[id].tasks.get_mut(&number) else { return };
            let Some(Starting { session, .. }) = &task.starting else { return };
            let session = Arc::clone(session);
            match effect {
                Effect::Ask => {
                    let agent = self.agent_named(&session);
                    let (Some(agent), Some(epoch)) = (agent, self.brokers[id].serves()) else {
                        return self.finish(id, number, None);
                    };
                    self.call(id, agent, &Call::Start { epoch, session }, Then::Task(number));
                }
                Effect::Propose(proposal) => self.propose(id, proposal, Then::Task(number)),
                Effect::Note(proposal) => self.propose(id, proposal, Then::Nothing),
                Effect::Drop => self.propose(id, Proposal::Gone { id: session.id }, Then::Nothing),
                Effect::End => self.carry_out_end(id, session.id),
                Effect::Bury => self.bury(id, session.id),
                Effect::Wait(most_ms) => self.wait(id, number, most_ms.min(100)),
                Effect::Over(outcome) => {
                    task.starting = None;
                    task.reserves = None;
                    self.drive_login(id, number, login::Event::Started(outcome));
                }
            }
        }
    }

    /// An agent replied, or did not in time.
    pub(crate) fn task_replied(&mut self, id: BrokerId, number: u64, reply: Option<&Reply>) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        if task.unvoting.is_some() {
            return self.unvoted_replied(id, number, reply);
        }
        let Some(Starting { session, .. }) = &task.starting else {
            let event = match reply {
                Some(Reply::Alive(_)) => login::Event::Alive,
                Some(Reply::Gone(_)) => login::Event::Gone,
                _ => login::Event::Silent,
            };
            return self.drive_login(id, number, event);
        };
        let event = start_event(session.id, reply);
        self.drive_start(id, number, event);
    }

    /// A proposal was committed or refused.
    pub(crate) fn task_answered(
        &mut self,
        id: BrokerId,
        number: u64,
        result: Result<Change, Failure>,
    ) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        let proposed = |session| self.brokers[id].proposed(session, result);
        match &task.starting {
            Some(Starting { session, .. }) => {
                let event = Event::Proposed(proposed(Some(session.id)));
                self.drive_start(id, number, event);
            }
            None => {
                let event = login::Event::Proposed(proposed(None));
                self.drive_login(id, number, event);
            }
        }
    }

    fn over(&mut self, id: BrokerId, number: u64, outcome: login::Outcome) {
        match outcome {
            login::Outcome::Found(session) | login::Outcome::Started(session, _) => {
                self.finish(id, number, Some(session.id));
            }
            login::Outcome::Choose(sessions) => self.choose(id, number, &sessions),
            login::Outcome::Unvoted(machine) => {
                if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
                    task.reserves = None;
                    task.unvoting = Some(Unvoting { machine, session: None });
                }
                self.make_unvoted(id, number);
            }
            login::Outcome::Nothing
            | login::Outcome::NoSuch(_)
            | login::Outcome::Unreachable(_)
            | login::Outcome::NoHost
            | login::Outcome::Refused => self.finish(id, number, None),
        }
    }

    /// The user says which.
    fn choose(&mut self, id: BrokerId, number: u64, sessions: &[Arc<Session>]) {
        let Some(Task { client, request, .. }) = self.brokers[id].tasks.remove(&number) else {
            return;
        };
        let session = sessions[self.rng.index(sessions.len())].id;
        self.client_chooses(client, request, session);
    }

    pub(super) fn finish(&mut self, id: BrokerId, number: u64, session: Option<SessionId>) {
        if let Some(task) = self.brokers[id].tasks.remove(&number) {
            self.answer_client(task.client, task.request, session.ok_or(()));
        }
    }
}

/// What an agent's answer to a start, or none in time, says.
pub(super) fn start_event(session: SessionId, reply: Option<&Reply>) -> Event {
    match reply {
        Some(Reply::Running(of, display)) if *of == session => Event::Ran(*display),
        Some(Reply::Refused(of)) if *of == session => Event::Refused { at_fault: true },
        _ => Event::Unanswered { unsent: false, timed_out: false },
    }
}
