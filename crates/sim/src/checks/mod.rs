//! What must hold, one promise a file. Each sees what really happened, not what anybody believes.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{RequestId, Session, SessionId, UnixMillis, UserName, replica::Replica};

use crate::{
    event::BrokerId,
    state::{agent::Agent, broker::Broker},
};

mod hosts;
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
    /// Most sessions that a user may have.
    cap: u32,
}

impl Checks {
    pub(crate) fn new(agents: usize, cap: u32) -> Self {
        Self {
            violations: Vec::new(),
            durable: p1_durable::Durable::default(),
            writers: p2_one_writer::Writers::default(),
            claims: p6_converged::Claims::default(),
            fenced: p3_fenced::Fenced::new(agents),
            truth: truth::Truth::default(),
            requests: BTreeMap::new(),
            cap,
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
        let cap = self.cap;
        let found = self.durable.committed(id, brokers, agents, |table, change| {
            p7_cap::check_reserved(table, change, cap).or_else(|| hosts::check(table, change))
        });
        let found = found.or_else(|| self.durable.published(id, brokers));
        self.found(found, now);
    }

    /// A session began on its agent.
    pub(crate) fn started(&mut self, session: &Arc<Session>, agent: usize, now: u64) {
        self.truth.started(session, agent, session.params.unvoted);
        let found = p7_cap::check_login(&self.truth, session.id);
        self.found(found, now);
    }

    /// One runs that no broker asked for.
    pub(crate) fn stray(&mut self, session: &Arc<Session>, agent: usize) {
        self.truth.started(session, agent, true);
    }

    /// A broker is about to have a session made without votes, by this login.
    pub(crate) fn unvoted(
        &mut self,
        login: u64,
        session: &Arc<Session>,
        broker: &Broker,
        now: u64,
    ) {
        let found = p7_cap::check_unvoted(&self.truth, &session.user, broker, self.cap);
        self.truth.asked_unvoted(login, session.id);
        self.found(found, now);
    }

    /// A broker believes an agent no more; `liar` is the only one that gives cause.
    pub(crate) fn put_aside(&mut self, agent: usize, liar: Option<usize>, now: u64) {
        self.found(hosts::check_aside(agent, liar), now);
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
        since: u64,
        now: u64,
    ) {
        let ghost = p5_no_ghosts::check(&self.truth, session, since);
        self.truth.handed(session);
        let many = p7_cap::check(&self.truth, user, self.cap);
        let other = p8_same_request::check(&self.truth, &mut self.requests, user, request, session);
        self.found(ghost.or(many).or(other), now);
    }

    /// Reigns followed each other without a cause.
    pub(crate) fn duel(&mut self, from: u64, to: u64, now: u64) {
        let found = format!("a duel: reign {from} became {to} while nothing changed");
        self.found(Some(found), now);
    }

    /// Everything is whole and at rest, and this broker is the active one.
    pub(crate) fn at_rest(
        &mut self,
        active: Option<BrokerId>,
        brokers: &[Broker; 2],
        agents: &[Agent],
        now: u64,
    ) {
        let replica = active.and_then(|active| brokers[active].replica.as_ref());
        let table = replica.map(Replica::table);
        let found = table
            .and_then(|table| {
                p4_nothing_forgotten::check(&self.truth, table, agents)
                    .or_else(|| p5_no_ghosts::check_table(table, agents))
            })
            .or_else(|| p6_converged::check(&self.durable, brokers));
        self.found(found, now);
    }

    fn found(&mut self, found: Option<String>, now: u64) {
        self.violations.extend(found.map(|what| format!("at {now} ms: {what}")));
    }
}
