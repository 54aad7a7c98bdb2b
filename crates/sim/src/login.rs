//! A login at a broker, as in the broker's own code: find and verify, else reserve, start, commit, answer. The start is
//! the broker's own.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    Change, Draft, Eligible, Proposal, RequestId, Rule, Session, SessionId, StartParams, State,
    Strategy, UserName,
    lifecycle::{Effect, Event, Outcome, Proposed, Start},
    replica::{
        Failure, Replica,
        mutant::{self, Mutant},
    },
};

use crate::{
    broker::Then,
    event::{BrokerId, Call, ClientId, Ev, Reply},
    world::World,
};

/// An outcome that is unknown is asked for again for so long.
const GRACE_MS: u64 = 1500;
const ATTEMPTS: usize = 3;

/// What a login waits for.
#[derive(Debug, Clone)]
enum Stage {
    Verifying { id: SessionId, left: Vec<SessionId> },
    Reserving,
    Starting { session: Arc<Session>, began: u64, start: Start },
}

/// A login under way.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) client: ClientId,
    pub(crate) user: UserName,
    pub(crate) request: RequestId,
    unreachable: bool,
    tried: Vec<usize>,
    stage: Stage,
}

impl Task {
    /// Whether it is at this session's start.
    pub(crate) fn starts(&self, id: SessionId) -> bool {
        match &self.stage {
            Stage::Starting { session, .. } => session.id == id,
            Stage::Verifying { .. } | Stage::Reserving => false,
        }
    }
}

impl World {
    /// Begins the logins that wait, one at a time for each user.
    pub(crate) fn next_logins(&mut self, id: BrokerId) {
        for _ in 0..self.brokers[id].waiting.len() {
            let Some((client, request)) = self.brokers[id].waiting.pop_front() else { return };
            let user = self.clients[client].user.clone();
            if self.brokers[id].tasks.values().any(|task| task.user == user) {
                self.brokers[id].waiting.push_back((client, request));
                continue;
            }
            let Some(replica) = self.brokers[id].replica.as_ref() else { return };
            if self.brokers[id].serves().is_none() {
                self.answer_client(client, request, Err(()));
                continue;
            }
            // A request that has made a session is about that one.
            let made = replica.table().of_request(&user, request).map(|session| session.id);
            let running: Vec<SessionId> = replica
                .table()
                .of_user(&user)
                .filter(|session| made.is_none_or(|id| id == session.id))
                .filter(|session| matches!(session.state, State::Running { .. }))
                .map(|session| session.id)
                .collect();
            self.serial += 1;
            let number = self.serial;
            let stage = Stage::Reserving;
            let (unreachable, tried) = (false, Vec::new());
            let task = Task { client, user, request, unreachable, tried, stage };
            self.brokers[id].tasks.insert(number, task);
            self.verify_next(id, number, running);
        }
    }

    fn verify_next(&mut self, id: BrokerId, number: u64, mut left: Vec<SessionId>) {
        let Some(session) = left.pop() else { return self.resume_or_reserve(id, number) };
        if mutant::on(Mutant::NotVerified) {
            return self.hand_out(id, number, session);
        }
        let Some(agent) = self.agent_of(id, session) else {
            return self.verify_next(id, number, left);
        };
        self.set_stage(id, number, Stage::Verifying { id: session, left });
        self.call(id, agent, &Call::Verify { id: session }, Then::Task(number));
    }

    fn set_stage(&mut self, id: BrokerId, number: u64, stage: Stage) {
        if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
            task.stage = stage;
        }
    }

    fn resume_or_reserve(&mut self, id: BrokerId, number: u64) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        let Some(replica) = self.brokers[id].replica.as_ref() else { return };
        let unfinished =
            replica.table().of_user(&task.user).find(|session| session.state == State::Starting);
        match unfinished.cloned() {
            Some(session) => self.begin_start(id, number, session, true),
            None => self.reserve(id, number),
        }
    }

    fn reserve(&mut self, id: BrokerId, number: u64) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        if task.tried.len() >= ATTEMPTS {
            return self.finish(id, number, None);
        }
        let eligible: Arc<[Eligible]> = self
            .agents
            .iter()
            .enumerate()
            .filter(|(agent, _)| {
                self.brokers[id].heard[*agent].is_some() && !task.tried.contains(agent)
            })
            .map(|(_, agent)| Eligible {
                agent: agent.name.clone(),
                weight: 100,
                max_users: 0,
                measured: None,
            })
            .collect();
        self.serial += 1;
        let draft = Draft {
            id: SessionId::new(Uuid::from_u128(u128::from(self.serial))),
            user: task.user.clone(),
            request: task.request,
            params: StartParams::default(),
        };
        let cap = if mutant::on(Mutant::CapUnchecked) { 0 } else { self.cap };
        let proposal = Proposal::Reserve {
            draft,
            cap,
            uncounted: Vec::new(),
            eligible,
            rule: Rule {
                strategy: Strategy::Users,
                now: self.unix(),
                penalty_ms: 5_000,
                tie: self.rng.next(),
            },
        };
        self.set_stage(id, number, Stage::Reserving);
        self.propose(id, proposal, Then::Task(number));
    }

    fn begin_start(&mut self, id: BrokerId, number: u64, session: Arc<Session>, again: bool) {
        let start = Start::new(&session, GRACE_MS, again);
        let Some(agent) = self.agents.iter().position(|agent| agent.name == session.agent) else {
            return self.finish(id, number, None);
        };
        let began = self.now;
        if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
            if !task.tried.contains(&agent) {
                task.tried.push(agent);
            }
            task.stage = Stage::Starting { session, began, start };
        }
        self.do_start(id, number, vec![Effect::Ask]);
    }

    /// The wait of a start is over.
    pub(crate) fn again(&mut self, id: BrokerId, number: u64) {
        self.drive(id, number, Event::Waited);
    }

    /// Feeds the start of a login an event.
    fn drive(&mut self, id: BrokerId, number: u64, event: Event) {
        let (now, unix) = (self.now, self.unix());
        let Some(task) = self.brokers[id].tasks.get_mut(&number) else { return };
        let Stage::Starting { began, start, .. } = &mut task.stage else { return };
        let effects = start.handle(now - *began, unix, event);
        self.do_start(id, number, effects);
    }

    /// Does as the broker's own driver does.
    fn do_start(&mut self, id: BrokerId, number: u64, effects: Vec<Effect>) {
        for effect in effects {
            let Some(task) = self.brokers[id].tasks.get(&number) else { return };
            let Stage::Starting { session, .. } = &task.stage else { return };
            let session = Arc::clone(session);
            match effect {
                Effect::Ask => {
                    let agent = self.agents.iter().position(|agent| agent.name == session.agent);
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
                Effect::Wait(most_ms) => {
                    let life = self.brokers[id].life;
                    let wait = most_ms.min(100);
                    self.after(wait, Ev::Again { broker: id, life, task: number });
                }
                Effect::Over(Outcome::Running(_)) => self.hand_out(id, number, session.id),
                Effect::Over(Outcome::Next) => self.reserve(id, number),
                Effect::Over(_) => self.finish(id, number, None),
            }
        }
    }

    /// An agent replied, or did not in time.
    pub(crate) fn task_replied(&mut self, id: BrokerId, number: u64, reply: Option<&Reply>) {
        let Some(task) = self.brokers[id].tasks.get_mut(&number) else { return };
        match (task.stage.clone(), reply) {
            (Stage::Verifying { id: session, .. }, Some(Reply::Alive(of))) if *of == session => {
                self.hand_out(id, number, session);
            }
            (Stage::Verifying { left, .. }, Some(Reply::Gone(_))) => {
                self.verify_next(id, number, left);
            }
            (Stage::Verifying { id: session, left }, _) => {
                if mutant::on(Mutant::SilenceIsDeath) {
                    self.propose(id, Proposal::Gone { id: session }, Then::Nothing);
                }
                if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
                    task.unreachable = true;
                }
                self.verify_next(id, number, left);
            }
            (Stage::Starting { session, .. }, reply) => {
                let event = match reply {
                    Some(Reply::Running(of, display)) if *of == session.id => Event::Ran(*display),
                    Some(Reply::Refused(of)) if *of == session.id => {
                        Event::Refused { at_fault: true }
                    }
                    _ => Event::Unanswered { unsent: false, timed_out: false },
                };
                self.drive(id, number, event);
            }
            (Stage::Reserving, _) => {}
        }
    }

    /// A proposal was committed or refused.
    pub(crate) fn task_answered(
        &mut self,
        id: BrokerId,
        number: u64,
        result: Result<Change, Failure>,
    ) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        match (task.stage.clone(), result) {
            (Stage::Reserving, Ok(Change::Reserved(session))) => {
                self.begin_start(id, number, session, false);
            }
            (Stage::Starting { session, .. }, result) => {
                let replica = self.brokers[id].replica.as_ref();
                let table = replica.map(Replica::table);
                let state = table.and_then(|table| table.session(session.id)).map(|s| s.state);
                let proposed = match result {
                    Ok(change) => Proposed::Committed(change),
                    Err(Failure::Rejected(rejected)) => Proposed::Rejected(rejected, state),
                    Err(_) => Proposed::Failed,
                };
                self.drive(id, number, Event::Proposed(proposed));
            }
            _ => self.finish(id, number, None),
        }
    }

    fn hand_out(&mut self, id: BrokerId, number: u64, session: SessionId) {
        self.finish(id, number, Some(session));
    }

    fn finish(&mut self, id: BrokerId, number: u64, session: Option<SessionId>) {
        if let Some(task) = self.brokers[id].tasks.remove(&number) {
            self.answer_client(task.client, task.request, session.ok_or(()));
        }
    }
}
