//! States that can only go on alike are one state. Each of these holds because promises only rise and because whoever
//! becomes active has everything that was committed, which is checked on the way; where a rule is left out of which
//! that is the consequence, next to nothing is folded.

use super::{
    model::{Broker, PEER, Role, Weakness, World, call_bit, is_quorum, voice},
    rules::Rules,
};

impl Rules<'_> {
    /// Puts a state into the shape that stands for all that go on like it.
    pub(super) fn fold(&mut self, world: &mut World) {
        world.handed &= world.runs;
        // Where a witness forgets, promises do not only rise, and who has what is the question.
        let forgets = self.bound.losses > 0;
        for broker in &mut world.brokers {
            if !forgets && broker.role == Role::Active && is_quorum(broker.voices) {
                // Who else has it no longer matters.
                broker.voices = PEER;
            }
        }
        if forgets || self.without.is_some_and(|rule| rule != Weakness::NoTombstone) {
            return;
        }
        // Where power is cut a broker may win by what it has alone.
        for id in (0..2).filter(|_| !self.bound.fencing) {
            self.fold_broker(world, id);
        }
        for id in 0..3 {
            let witness = world.witnesses[id];
            let (promised, kept) = (self.pieces.promised(witness), self.pieces.kept(witness));
            // What is not beyond what was committed tells a claimant nothing.
            let further = self.pieces.goes_further(kept, world.committed);
            let kept = if further { self.pieces.rebase(kept, world.committed) } else { 0 };
            world.witnesses[id] = self.pieces.witness(promised, kept);
        }
        for broker in &mut world.brokers {
            broker.log = self.pieces.rebase(broker.log, world.committed);
            broker.learnt = self.pieces.rebase(broker.learnt, world.committed);
        }
        world.committed = self.pieces.rebase(world.committed, world.committed);
        self.fold_calls(world);
    }

    fn fold_broker(&self, world: &mut World, id: usize) {
        let broker = world.brokers[id];
        let is_done = broker.role == Role::Active && is_quorum(broker.voices);
        if !is_done && broker.role != Role::Standby && !self.may_win(world, id) {
            world.brokers[id] = broker.standby();
        }
        let Broker { role, log, learnt, .. } = world.brokers[id];
        if role != Role::Active && !self.pieces.goes_further(log, world.committed) {
            world.brokers[id].log = world.committed;
        }
        if role == Role::Claiming && !self.pieces.goes_further(learnt, world.committed) {
            world.brokers[id].learnt = world.committed;
        }
    }

    /// Whether a broker can still get a second vote, for its claim or for its log.
    fn may_win(&self, world: &World, id: usize) -> bool {
        let Broker { epoch, voices, role, .. } = world.brokers[id];
        let peer = world.brokers[1 - id].promise;
        let by_peer = match role {
            Role::Active => !self.pieces.above(peer, epoch),
            Role::Claiming | Role::Standby => self.pieces.above(epoch, peer),
        };
        let open = (0..3).filter(|agent| {
            let promised = self.pieces.promised(world.witnesses[*agent]);
            voices & voice(*agent) != 0 || !self.pieces.above(promised, epoch)
        });
        by_peer || open.count() >= 2
    }

    /// A call that would change nothing, now or ever, is none.
    fn fold_calls(&self, world: &mut World) {
        for sid in self.sids() {
            let promised = self.pieces.promised(world.witnesses[self.agent(sid)]);
            let done = (world.runs | world.cancelled) & 1 << sid != 0;
            let calls = world.calls;
            for epoch in (0..8).filter(|epoch| calls & call_bit(*epoch, sid) != 0) {
                let is_late = self.pieces.above(promised, epoch);
                if is_late || (done && promised == epoch) {
                    world.calls &= !call_bit(epoch, sid);
                }
            }
        }
    }
}
