//! A login at a broker, as in the broker's own code: find and verify, else reserve, start, commit, answer.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    Change, Draft, Eligible, Proposal, RequestId, Rule, Session, SessionId, StartParams, State,
    Strategy, UserName,
    replica::{
        Failure,
        mutant::{self, Mutant},
    },
};

use crate::{
    broker::{Then, is_known},
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
    Starting { session: Arc<Session>, began: u64 },
    Committing { session: Arc<Session> },
    GivingUp { session: Arc<Session>, refused: bool },
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
            Stage::Starting { session, .. }
            | Stage::Committing { session }
            | Stage::GivingUp { session, .. } => session.id == id,
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
            Some(session) => self.ask_start(id, number, session, self.now),
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

    fn ask_start(&mut self, id: BrokerId, number: u64, session: Arc<Session>, began: u64) {
        let agent = self.agents.iter().position(|agent| agent.name == session.agent);
        let (Some(agent), Some(epoch)) = (agent, self.brokers[id].serves()) else {
            return self.finish(id, number, None);
        };
        if let Some(task) = self.brokers[id].tasks.get_mut(&number) {
            if !task.tried.contains(&agent) {
                task.tried.push(agent);
            }
            task.stage = Stage::Starting { session: Arc::clone(&session), began };
        }
        self.call(id, agent, &Call::Start { epoch, session }, Then::Task(number));
    }

    /// Asks again for an outcome that is unknown.
    pub(crate) fn again(&mut self, id: BrokerId, number: u64) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        if let Stage::Starting { session, began } = task.stage.clone() {
            self.ask_start(id, number, session, began);
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
            (Stage::Starting { session, .. }, Some(Reply::Running(of, display)))
                if *of == session.id =>
            {
                self.set_stage(id, number, Stage::Committing { session });
                if mutant::on(Mutant::HandOutEarly) {
                    self.hand_out(id, number, *of);
                }
                let running = Proposal::Running { id: *of, display: *display };
                self.propose(id, running, Then::Task(number));
            }
            (Stage::Starting { session, .. }, Some(Reply::Refused(of))) if *of == session.id => {
                self.give_up(id, number, session, true);
            }
            (Stage::Starting { session, began }, _) => {
                if self.now >= began + GRACE_MS {
                    self.give_up(id, number, session, false);
                } else {
                    let life = self.brokers[id].life;
                    self.after(100, Ev::Again { broker: id, life, task: number });
                }
            }
            (Stage::Reserving | Stage::Committing { .. } | Stage::GivingUp { .. }, _) => {}
        }
    }

    fn give_up(&mut self, id: BrokerId, number: u64, session: Arc<Session>, refused: bool) {
        let (at, now) = (session.id, self.unix());
        self.set_stage(id, number, Stage::GivingUp { session, refused });
        let proposal = if mutant::on(Mutant::NextWithoutTombstone) {
            Proposal::Gone { id: at }
        } else {
            Proposal::GiveUp { id: at, now }
        };
        self.propose(id, proposal, Then::Task(number));
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
                self.ask_start(id, number, session, self.now);
            }
            (Stage::Committing { session }, Ok(_)) => self.hand_out(id, number, session.id),
            (Stage::Committing { session }, Err(failure)) if is_known(&failure) => {
                let known = self.brokers[id].replica.as_ref().and_then(|replica| {
                    replica.table().session(session.id).map(|known| known.state)
                });
                if matches!(known, Some(State::Running { .. })) {
                    self.hand_out(id, number, session.id);
                } else {
                    self.finish(id, number, None);
                }
            }
            (Stage::GivingUp { session, refused }, result)
                if result.as_ref().err().is_none_or(is_known) =>
            {
                if matches!(result, Err(Failure::Rejected(vsm_core::Rejected::AlreadyRunning(_)))) {
                    return self.finish(id, number, None);
                }
                if refused {
                    let done = Proposal::TombstoneDone { id: session.id };
                    self.propose(id, done, Then::Nothing);
                } else {
                    self.bury(id, session.id);
                }
                let (agent, at) = (session.agent.clone(), self.unix());
                self.propose(id, Proposal::AgentFailed { agent, at }, Then::Nothing);
                self.reserve(id, number);
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
