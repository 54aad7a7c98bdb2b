//! Drives the ends of sessions and the burials of starts that were given up: [`End`] and [`Burial`] of
//! `vsm_core::lifecycle` decide, as in the broker itself.

use vsm_core::{
    Change, Proposal, SessionId,
    lifecycle::{
        Burial, End,
        ending::{Dig, Dug, Effect, Event, IfSilent},
    },
    replica::Failure,
};

use crate::{
    event::{AgentId, BrokerId, Call, Reply},
    state::broker::{Burying, Ending, Then},
    world::World,
};

impl World {
    /// A user wants a session to end. A node that neither serves nor can know of the one that does tries it too.
    pub(crate) fn end_wish(&mut self, id: BrokerId, session: SessionId) {
        if self.brokers[id].serves().is_none() && self.brokers[1 - id].serves().is_some() {
            return;
        }
        let Some(state) = self.brokers[id].session(session).map(|known| known.state) else {
            return;
        };
        let if_silent = if self.rng.percent(50) { IfSilent::Abandon } else { IfSilent::Leave };
        self.begin_end(id, session, End::wanted(session, state, if_silent));
    }

    /// Carries out an end that was asked for.
    pub(crate) fn carry_out_end(&mut self, id: BrokerId, session: SessionId) {
        self.begin_end(id, session, End::recorded(session));
    }

    fn begin_end(&mut self, id: BrokerId, session: SessionId, end: End) {
        let Some(agent) = self.agent_of(id, session) else { return };
        self.serial += 1;
        let number = self.serial;
        let effects = end.begin();
        self.brokers[id].ends.insert(number, Ending { session, agent, end });
        self.do_end(id, number, effects);
    }

    fn drive_end(&mut self, id: BrokerId, number: u64, event: Event) {
        let Some(ending) = self.brokers[id].ends.get_mut(&number) else { return };
        let effects = ending.end.handle(event);
        self.do_end(id, number, effects);
    }

    fn do_end(&mut self, id: BrokerId, number: u64, effects: Vec<Effect>) {
        for effect in effects {
            let Some(Ending { session, agent, .. }) = self.brokers[id].ends.get(&number) else {
                return;
            };
            let (session, agent) = (*session, *agent);
            match effect {
                Effect::Reach => {
                    let up = self.brokers[id].heard[agent].is_some();
                    self.drive_end(id, number, Event::Reached(up));
                }
                Effect::Record(session) => {
                    self.checks.truth.wish(session);
                    self.propose(id, Proposal::End { id: session }, Then::End(number));
                }
                Effect::Note => {}
                Effect::Terminate => {
                    let epoch = self.brokers[id].serves();
                    self.terminate(id, number, (agent, session), epoch);
                }
                Effect::TerminateUnrecorded => {
                    let broker = &self.brokers[id];
                    let last = broker.replica.as_ref().map(|it| it.log().last().epoch.clone());
                    let own = last.filter(|epoch| epoch.node == broker.name);
                    self.terminate(id, number, (agent, session), own);
                }
                Effect::Drop => {
                    self.brokers[id].forget_unvoted(session);
                    self.propose(id, Proposal::Gone { id: session }, Then::Report(agent));
                }
                Effect::Over(_) => drop(self.brokers[id].ends.remove(&number)),
            }
        }
    }

    fn terminate(
        &mut self,
        id: BrokerId,
        number: u64,
        (agent, session): (AgentId, SessionId),
        epoch: Option<vsm_core::Epoch>,
    ) {
        match epoch {
            Some(epoch) => {
                let call = Call::Terminate { epoch, id: session };
                self.call(id, agent, &call, Then::End(number));
            }
            None => self.drive_end(id, number, Event::NotNow),
        }
    }

    /// An agent answered, or did not in time.
    pub(crate) fn end_replied(&mut self, id: BrokerId, number: u64, reply: Option<&Reply>) {
        let event = match reply {
            Some(Reply::Terminated(_)) => Event::Ended,
            _ => Event::NotNow,
        };
        self.drive_end(id, number, event);
    }

    pub(crate) fn end_answered(
        &mut self,
        id: BrokerId,
        number: u64,
        result: Result<Change, Failure>,
    ) {
        if let Ok(Change::Ending { id: session }) = &result {
            self.checks.truth.promise(*session);
        }
        let proposed = self.brokers[id].proposed(None, result);
        self.drive_end(id, number, Event::Proposed(proposed));
    }

    /// Has the agent hold to a tombstone, which is then forgotten here.
    pub(crate) fn bury(&mut self, id: BrokerId, session: SessionId) {
        self.begin_burial(id, session, Burial::of(session));
    }

    /// Begins a burial.
    pub(crate) fn begin_burial(&mut self, id: BrokerId, session: SessionId, burial: Burial) {
        let Some(agent) = self.agent_of(id, session) else { return };
        self.serial += 1;
        let number = self.serial;
        let digs = burial.begin(self.unix());
        self.brokers[id].burials.insert(number, Burying { session, agent, burial });
        self.dig(id, number, digs);
    }

    fn drive_burial(&mut self, id: BrokerId, number: u64, event: &Dug) {
        let Some(burying) = self.brokers[id].burials.get(&number) else { return };
        let digs = burying.burial.handle(event);
        self.dig(id, number, digs);
    }

    fn dig(&mut self, id: BrokerId, number: u64, digs: Vec<Dig>) {
        let Some(Burying { session, agent, .. }) = self.brokers[id].burials.get(&number) else {
            return;
        };
        let (session, agent) = (*session, *agent);
        let goes_on = matches!(digs.last(), Some(Dig::Propose(_) | Dig::Cancel));
        if !goes_on {
            self.brokers[id].burials.remove(&number);
        }
        for dig in digs {
            match dig {
                Dig::Propose(proposal) => self.propose(id, proposal, Then::Burial(number)),
                Dig::Note(proposal) => self.propose(id, proposal, Then::Nothing),
                Dig::Cancel => match self.brokers[id].serves() {
                    Some(epoch) => {
                        let call = Call::Cancel { epoch, id: session };
                        self.call(id, agent, &call, Then::Burial(number));
                    }
                    None => self.drive_burial(id, number, &Dug::NotNow),
                },
            }
        }
    }

    /// An agent answered, or did not in time.
    pub(crate) fn burial_replied(&mut self, id: BrokerId, number: u64, reply: Option<&Reply>) {
        let event = match reply {
            Some(Reply::Cancelled(_)) => Dug::Cancelled,
            _ => Dug::NotNow,
        };
        self.drive_burial(id, number, &event);
    }

    pub(crate) fn burial_answered(
        &mut self,
        id: BrokerId,
        number: u64,
        result: Result<Change, Failure>,
    ) {
        let proposed = self.brokers[id].proposed(None, result);
        self.drive_burial(id, number, &Dug::Proposed(proposed));
    }
}
