//! Drives what a login makes without votes: [`Unvoted`](vsm_core::lifecycle::Unvoted) decides, as in the broker itself.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    Rule, Session, SessionId, StartParams, State, Strategy,
    lifecycle::{Answered, Next, Unvoted},
};

use super::login::start_event;
use crate::{
    event::{BrokerId, Call, Reply},
    state::broker::Then,
    tell,
    world::World,
};

impl World {
    /// Asks the next agent, if there is one and the user may have one more.
    pub(super) fn make_unvoted(&mut self, id: BrokerId, number: u64) {
        let (now, tie) = (self.unix(), self.rng.next());
        let rule = Rule { strategy: Strategy::Users, now, penalty_ms: 5_000, tie };
        let Some(epoch) = self.brokers[id].serves() else { return self.finish(id, number, None) };
        let broker = &mut self.brokers[id];
        let Some(user) = broker.tasks.get(&number).map(|task| task.user.clone()) else { return };
        let beside = broker.unvoted().filter(|session| session.user == user).count();
        let (Some(task), Some(replica)) = (broker.tasks.get_mut(&number), &broker.replica) else {
            return;
        };
        let Some(unvoting) = &mut task.unvoting else { return };
        let Next::Ask(agent) = unvoting.machine.next(replica.table(), beside, rule) else {
            return self.finish(id, number, None);
        };
        self.serial += 1;
        let session = Arc::new(Session {
            id: SessionId::new(Uuid::from_u128(u128::from(self.serial))),
            user,
            agent,
            state: State::Starting,
            request: task.request,
            params: StartParams { unvoted: true, ..StartParams::default() },
            created: now,
        });
        unvoting.session = Some(Arc::clone(&session));
        self.checks.unvoted(number, &session, &self.brokers[id], self.now);
        match self.agent_named(&session) {
            Some(agent) => {
                self.call(id, agent, &Call::Start { epoch, session }, Then::Task(number));
            }
            None => self.finish(id, number, None),
        }
    }

    /// An agent replied, or did not in time.
    pub(super) fn unvoted_replied(&mut self, id: BrokerId, number: u64, reply: Option<&Reply>) {
        let Some(task) = self.brokers[id].tasks.get(&number) else { return };
        let Some(session) = task.unvoting.as_ref().and_then(|it| it.session.clone()) else {
            return;
        };
        match Unvoted::answered(&start_event(session.id, reply)) {
            Answered::Runs(display) => {
                let state = State::Running { display };
                let session = Arc::new(Session { state, ..Session::clone(&session) });
                let made = session.id;
                self.note(|| format!("broker{id} {}", tell::unvoted(made)));
                self.brokers[id].remember_unvoted(session);
                self.finish(id, number, Some(made));
            }
            Answered::Next => self.make_unvoted(id, number),
            Answered::Unknown => self.finish(id, number, None),
        }
    }
}
