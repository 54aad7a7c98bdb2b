//! What must hold, one promise a file. Each sees what really happened, not what anybody believes.

use std::collections::BTreeMap;

use vsm_core::{RequestId, SessionId, UnixMillis, UserName};

use crate::{agent::Agent, broker::Broker, client::Client, world::World};

mod p1_durable;
mod p2_one_writer;
mod p3_fenced;
mod p4_nothing_forgotten;
mod p5_no_ghosts;
pub(crate) mod p6_converged;
mod p7_cap;
mod p8_same_request;
mod p9_never_killed;
mod truth;

/// All checks of a run.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) violations: Vec<String>,
    pub(crate) durable: p1_durable::Durable,
    writers: p2_one_writer::Writers,
    pub(crate) claims: p6_converged::Claims,
    pub(crate) fenced: p3_fenced::Fenced,
    pub(crate) truth: truth::Truth,
    requests: BTreeMap<(UserName, RequestId), SessionId>,
}

impl Checks {
    pub(crate) fn new(agents: usize) -> Self {
        Self {
            violations: Vec::new(),
            durable: p1_durable::Durable::default(),
            writers: p2_one_writer::Writers::default(),
            claims: p6_converged::Claims::default(),
            fenced: p3_fenced::Fenced::new(agents),
            truth: truth::Truth::default(),
            requests: BTreeMap::new(),
        }
    }

    /// Both brokers' disks are lost: what was committed is gone, and what was decided about earlier sessions with it.
    pub(crate) fn lost_all(&mut self, at: UnixMillis) {
        self.durable.lost_all();
        self.truth.lost_all(at);
        self.requests.clear();
    }

    /// A broker took an event.
    pub(crate) fn stepped(&mut self, id: usize, brokers: &[Broker; 2], now: u64) {
        let found = self.writers.check(id, brokers).or_else(|| self.fenced.take());
        self.found(found, now);
    }

    /// What a broker did is on its way.
    pub(crate) fn committed(
        &mut self,
        id: usize,
        brokers: &[Broker; 2],
        agents: &[Agent],
        now: u64,
    ) {
        let found = self.durable.committed(id, brokers, agents);
        let found = found.or_else(|| self.durable.published(id, brokers));
        self.found(found, now);
    }

    /// A session ended on its agent.
    pub(crate) fn ended(&mut self, session: SessionId, now: u64, why: &str) {
        let found = p9_never_killed::check(&self.truth, session, why);
        self.truth.died(session, now);
        self.found(found, now);
    }

    /// A user is handed a session that they asked for at `since`.
    pub(crate) fn handed(
        &mut self,
        user: &UserName,
        request: RequestId,
        session: SessionId,
        cap: u32,
        since: u64,
        now: u64,
    ) {
        let ghost = p5_no_ghosts::check(&self.truth, session, since);
        self.truth.handed(session);
        let many = p7_cap::check(&self.truth, user, cap);
        let other = p8_same_request::check(&self.truth, &mut self.requests, user, request, session);
        self.found(ghost.or(many).or(other), now);
    }

    /// Reigns followed each other without a cause.
    pub(crate) fn duel(&mut self, from: u64, to: u64, now: u64) {
        let found = format!("a duel: reign {from} became {to} while nothing changed");
        self.found(Some(found), now);
    }

    fn found(&mut self, found: Option<String>, now: u64) {
        self.violations.extend(found.map(|what| format!("at {now} ms: {what}")));
    }
}

impl World {
    /// Whether nothing is left to be done.
    pub(crate) fn is_quiet(&self) -> bool {
        let Some(active) = self.active() else { return false };
        let settled = self.brokers[active].replica.as_ref().is_some_and(|replica| {
            let table = replica.table();
            table.tombstones().next().is_none()
                && table
                    .sessions()
                    .all(|session| matches!(session.state, vsm_core::State::Running { .. }))
        });
        settled
            && self.clients.iter().all(Client::is_idle)
            && self.brokers.iter().all(|broker| broker.tasks.is_empty())
            && self.brokers[active].heard.iter().all(Option::is_some)
    }

    pub(crate) fn served(&self) -> u64 {
        self.clients.iter().map(|client| client.served).sum()
    }

    /// Everything is whole and at rest.
    pub(crate) fn final_checks(&mut self) {
        let found = p4_nothing_forgotten::check(self)
            .or_else(|| p5_no_ghosts::check_table(self))
            .or_else(|| p6_converged::check(self));
        self.checks.found(found, self.now);
    }
}
