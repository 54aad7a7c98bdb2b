//! What can happen next. Every step that the rules allow is one here; what never happens is as good as a lost message.

use vsm_core::State;

use super::{
    model::{Bound, Broker, OFF, PEER, Role, Weakness, World, call_bit, is_quorum, voice},
    pieces::{Ask, LogId, Pieces, Say, Sid, Wish},
};

/// The search's rules, with one left out or none.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) bound: &'a Bound,
    pub(super) without: Option<Weakness>,
    pub(super) pieces: Pieces,
}

/// What happened, and the world after it.
pub(super) type Next = (String, World);

const NAMES: [&str; 2] = ["A", "B"];

/// A place for the steps; they are named only when a path is told.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) found: Vec<Next>,
    pub(super) named: bool,
}

impl Steps {
    fn add(&mut self, world: World, name: impl FnOnce() -> String) {
        let name = if self.named { name() } else { String::new() };
        self.found.push((name, world));
    }
}

impl Rules<'_> {
    fn lacks(&self, rule: Weakness) -> bool {
        self.without == Some(rule)
    }

    pub(super) fn sids(&self) -> impl Iterator<Item = Sid> + use<> {
        0..u8::try_from(self.bound.sessions.len()).unwrap_or(0)
    }

    /// The agents that are witnesses.
    fn voters(&self) -> std::ops::Range<usize> {
        if self.bound.witnesses { 0..3 } else { 0..0 }
    }

    pub(super) fn agent(&self, sid: Sid) -> usize {
        usize::from(self.bound.sessions[usize::from(sid)].1)
    }

    /// All that can follow.
    pub(super) fn steps(&mut self, world: &World, steps: &mut Steps) {
        for broker in 0..2 {
            // Also after a crash or a pause, or when it has stood down: until then it does nothing, and is what it was.
            self.claim(world, broker, steps);
            if self.bound.fencing {
                self.power(world, broker, steps);
            }
            match world.brokers[broker].role {
                Role::Standby => {}
                Role::Claiming => self.ask_for_votes(world, broker, steps),
                Role::Active => self.reign(world, broker, steps),
            }
        }
        self.agents(world, steps);
        self.losses(world, steps);
        for (_, next) in &mut steps.found {
            self.fold(next);
        }
    }

    /// A user was handed two desktops, and both are there; or what was committed is lost, where no rule is left out.
    pub(super) fn broken(&self, world: &World) -> Option<String> {
        if world.broken && (self.without.is_none() || self.bound.losses > 0) {
            return Some("something that was committed is lost".to_owned());
        }
        let has = world.handed & world.runs;
        self.sids().find_map(|one| {
            let user = self.bound.sessions[usize::from(one)].0;
            let twice = self
                .sids()
                .filter(|sid| has & 1 << sid != 0)
                .filter(|sid| self.bound.sessions[usize::from(*sid)].0 == user);
            (twice.count() > 1).then(|| format!("user{user} has two desktops"))
        })
    }

    /// It may know of every epoch that anybody promised, or only of its own.
    fn claim(&mut self, world: &World, id: usize, steps: &mut Steps) {
        if world.claims >= self.bound.claims {
            return;
        }
        let own = world.brokers[id].promise;
        let heard = world.witnesses.iter().map(|witness| self.pieces.promised(*witness));
        let heard = heard.chain([world.brokers[1 - id].promise]);
        let highest = heard.fold(own, |a, b| self.pieces.higher(a, b));
        let mut before = None;
        for above in [own, highest] {
            let Some(epoch) = self.pieces.next_epoch(above, id).filter(|e| before != Some(*e))
            else {
                continue;
            };
            before = Some(epoch);
            let mut next = *world;
            next.claims += 1;
            let log = world.brokers[id].log;
            let role = Role::Claiming;
            let Broker { whole, off, .. } = world.brokers[id];
            let (promise, learnt) = (epoch, log);
            next.brokers[id] = Broker { promise, log, role, epoch, voices: 0, learnt, whole, off };
            if off {
                self.heard(&mut next, id, OFF, log);
            }
            steps.add(next, || format!("{} claims {epoch}", NAMES[id]));
        }
    }

    /// A broker dies, or has the other one's power cut and is told so.
    fn power(&mut self, world: &World, id: usize, steps: &mut Steps) {
        let mut next = *world;
        next.brokers[id] = world.brokers[id].dead();
        if next != *world {
            steps.add(next, || format!("{} dies", NAMES[id]));
        }
        let Broker { whole, off, role, .. } = world.brokers[id];
        let takes = whole || self.lacks(Weakness::FencingNotWhole);
        let takes =
            takes && (!self.bound.witnesses || self.lacks(Weakness::FencingBesideWitnesses));
        if off || !takes {
            return;
        }
        let mut next = *world;
        if !self.lacks(Weakness::FencingLies) {
            next.brokers[1 - id] = world.brokers[1 - id].dead();
        }
        next.brokers[id].off = true;
        match role {
            Role::Standby => {}
            Role::Claiming => self.heard(&mut next, id, OFF, world.brokers[id].log),
            Role::Active => {
                next.brokers[id].voices |= OFF;
                self.count(&mut next, id);
            }
        }
        steps.add(next, || format!("{} cuts the power of {}", NAMES[id], NAMES[1 - id]));
    }

    /// The brokers meet: each has to ask the other for its vote from now on.
    fn meet(world: &mut World) {
        for broker in &mut world.brokers {
            broker.off = false;
        }
    }

    fn ask_for_votes(&mut self, world: &World, id: usize, steps: &mut Steps) {
        let epoch = world.brokers[id].epoch;
        if self.lacks(Weakness::OneVotePromotes) {
            let mut next = *world;
            self.heard(&mut next, id, 0, 0);
            return steps.add(next, || format!("{} is active", NAMES[id]));
        }
        let peer = &world.brokers[1 - id];
        if self.pieces.above(epoch, peer.promise) {
            let mut next = *world;
            next.brokers[1 - id] = Broker { promise: epoch, ..peer.standby() };
            Self::meet(&mut next);
            self.heard(&mut next, id, PEER, peer.log);
            steps.add(next, || format!("{} promises {epoch}", NAMES[1 - id]));
        }
        for agent in self.voters() {
            if world.brokers[id].voices & voice(agent) != 0 {
                continue;
            }
            let mut next = *world;
            if let Say::Promised(log) = self.ask(&mut next, agent, Ask::Claim(epoch)) {
                self.heard(&mut next, id, voice(agent), log);
                steps.add(next, || format!("agent{agent} promises {epoch}"));
            }
        }
    }

    /// A vote, and what the voter has. The second vote of three makes active, in the same step.
    fn heard(&mut self, world: &mut World, id: usize, by: u8, has: LogId) {
        let broker = &mut world.brokers[id];
        broker.voices |= by;
        if self.pieces.goes_further(has, broker.learnt) {
            broker.learnt = has;
        }
        if is_quorum(broker.voices) || self.lacks(Weakness::OneVotePromotes) {
            // One whose votes went on to a later reign may still become active, and commits nothing. Where states are
            // folded such a one is as good as none; else its commit is looked at.
            world.broken |=
                self.bound.losses == 0 && !self.pieces.contains(broker.learnt, world.committed);
            let log = self.pieces.begin(broker.learnt, broker.epoch);
            let whole = self.bound.fencing;
            *broker = Broker { log, role: Role::Active, voices: 0, learnt: 0, whole, ..*broker };
        }
    }

    /// A witness loses all that it held, or is greeted by the active broker: the peer, which is in this reign and has
    /// all of it, says so after the loss.
    fn losses(&mut self, world: &World, steps: &mut Steps) {
        for agent in self.voters().filter(|_| world.losses < self.bound.losses) {
            let mut next = *world;
            next.witnesses[agent] = 0;
            next.losses += 1;
            next.mute |= 1 << agent;
            steps.add(next, || format!("agent{agent} loses what it held"));
        }
        for id in 0..2 {
            let Broker { role, epoch, voices, log, .. } = world.brokers[id];
            let peer = &world.brokers[1 - id];
            let in_reign = peer.promise == epoch && peer.log == log && peer.role == Role::Standby;
            let in_reign = in_reign || self.lacks(Weakness::GreetedByOldAck);
            if role != Role::Active || voices & PEER == 0 || !in_reign {
                continue;
            }
            for agent in self.voters().filter(|agent| world.mute & 1 << agent != 0) {
                let mut next = *world;
                // What it acted for meanwhile may be higher: then it refuses.
                if self.pieces.above(self.pieces.promised(world.witnesses[agent]), epoch) {
                    continue;
                }
                next.mute &= !(1 << agent);
                next.witnesses[agent] = self.pieces.witness(epoch, 0);
                steps.add(next, || format!("agent{agent} is greeted in {epoch}, at log {log}"));
            }
        }
    }

    fn ask(&mut self, world: &mut World, agent: usize, ask: Ask) -> Say {
        let is_mute = world.mute & 1 << agent != 0 && !self.lacks(Weakness::LostVotes);
        if is_mute && !matches!(ask, Ask::Admit(_)) {
            return Say::Refused;
        }
        let witness = world.witnesses[agent];
        let (after, say) = match ask {
            _ if !self.lacks(Weakness::NoEpochCheck) => self.pieces.ask(witness, ask),
            Ask::Claim(_) => (witness, Say::Promised(self.pieces.kept(witness))),
            Ask::Accept(..) => self.pieces.ask(0, ask),
            Ask::Admit(_) => (witness, Say::Done),
        };
        world.witnesses[agent] = after;
        say
    }

    fn reign(&mut self, world: &World, id: usize, steps: &mut Steps) {
        let Broker { voices, log, epoch, .. } = world.brokers[id];
        // Nothing is done by what is not committed; one change at a time. More copies of what is committed would tell
        // nobody anything: whoever claims meets one of those who have it.
        if !is_quorum(voices) && !self.lacks(Weakness::OneVoteCommits) {
            return self.replicate(world, id, steps);
        }
        if let Some(asked) = self.calls(world, id) {
            return steps.add(asked, || format!("{} asks for starts", NAMES[id]));
        }
        for sid in self.sids() {
            self.decide(world, id, sid, steps);
            let bit = 1 << sid;
            let state = self.pieces.state(log, sid);
            let mut next = *world;
            if matches!(state, Some(State::Running { .. })) && world.runs & bit != 0 {
                // The agent says that it is alive; that needs no epoch.
                next.handed |= bit;
                steps.add(next, || format!("{} hands out s{sid}", NAMES[id]));
            } else if self.pieces.is_buried(log, sid)
                && self.ask(&mut next, self.agent(sid), Ask::Admit(epoch)) == Say::Done
            {
                next.cancelled |= bit;
                next.runs &= !bit;
                steps.add(next, || format!("the agent of s{sid} holds to the tombstone"));
            }
        }
    }

    /// The calls to start that are due and not made, all at once: one that is never made is one that never arrives.
    fn calls(&mut self, world: &World, id: usize) -> Option<World> {
        let Broker { log, epoch, .. } = world.brokers[id];
        let starting = |sid: &Sid| self.pieces.state(log, *sid) == Some(State::Starting);
        let mut next = *world;
        let due: Vec<Sid> = self.sids().filter(starting).collect();
        for sid in due {
            next.calls |= call_bit(epoch, sid);
        }
        self.fold(&mut next);
        (next != *world).then_some(next)
    }

    /// The log goes to the peer and to the witnesses, who have all of it or refuse.
    fn replicate(&mut self, world: &World, id: usize, steps: &mut Steps) {
        let Broker { voices, log, epoch, off, .. } = world.brokers[id];
        if off {
            let mut next = *world;
            next.brokers[id].voices |= OFF;
            self.count(&mut next, id);
            steps.add(next, || format!("{} commits alone", NAMES[id]));
        }
        if voices & PEER == 0 {
            let peer = &world.brokers[1 - id];
            let mut next = *world;
            if !self.pieces.above(peer.promise, epoch) {
                let whole = self.bound.fencing;
                next.brokers[1 - id] = Broker { promise: epoch, log, whole, ..peer.standby() };
                Self::meet(&mut next);
                next.brokers[id].voices |= PEER;
                self.count(&mut next, id);
                steps.add(next, || format!("{} has {}'s log {log}", NAMES[1 - id], NAMES[id]));
            }
        }
        for agent in self.voters() {
            if voices & voice(agent) != 0 {
                continue;
            }
            let mut next = *world;
            if self.ask(&mut next, agent, Ask::Accept(epoch, log)) == Say::Done {
                next.brokers[id].voices |= voice(agent);
                self.count(&mut next, id);
                steps.add(next, || format!("agent{agent} has {}'s log {log}", NAMES[id]));
            }
        }
    }

    /// Whether the log is committed now. There is one history: of two committed logs one begins with the other.
    fn count(&self, world: &mut World, id: usize) {
        let Broker { voices, log, .. } = world.brokers[id];
        if !is_quorum(voices) {
            return;
        }
        if self.pieces.contains(log, world.committed) {
            world.committed = log;
        } else {
            world.broken |= !self.pieces.contains(world.committed, log);
        }
    }

    /// What the active broker may decide about a session, if the table's own rules allow it.
    fn decide(&mut self, world: &World, id: usize, sid: Sid, steps: &mut Steps) {
        let (bit, log) = (1 << sid, world.brokers[id].log);
        let (runs, cancelled) = (world.runs & bit != 0, world.cancelled & bit != 0);
        // Which of a user's sessions is which says nothing: they are tried in order.
        let users = |sid: Sid| self.bound.sessions[usize::from(sid)].0;
        let mut before = (0..sid).filter(|other| users(*other) == users(sid));
        let is_new =
            !self.pieces.is_used(log, sid) && before.all(|other| self.pieces.is_used(log, other));
        let give_up =
            if self.lacks(Weakness::NoTombstone) { Wish::Gone(sid) } else { Wish::GiveUp(sid) };
        let starting = self.pieces.state(log, sid) == Some(State::Starting);
        let wishes = [
            (is_new, Wish::Reserve(sid)),
            (starting && runs, Wish::Running(sid)),
            (starting, give_up),
            (cancelled, Wish::TombstoneDone(sid)),
            (runs, Wish::Adopt(sid)),
        ];
        for (_, wish) in wishes.into_iter().filter(|(may, _)| *may) {
            let epoch = world.brokers[id].epoch;
            if let Some(log) = self.pieces.propose(log, epoch, wish) {
                let mut next = *world;
                (next.brokers[id].log, next.brokers[id].voices) = (log, 0);
                steps.add(next, || format!("{} writes {wish:?}, log {log}", NAMES[id]));
            }
        }
    }

    /// Calls that arrive, perhaps late and not for the first time. An agent's crash changes nothing, as what it knows
    /// is durable.
    fn agents(&mut self, world: &World, steps: &mut Steps) {
        for sid in self.sids() {
            let bit = 1 << sid;
            for epoch in (0..8).filter(|epoch| world.calls & call_bit(*epoch, sid) != 0) {
                let mut next = *world;
                let say = self.ask(&mut next, self.agent(sid), Ask::Admit(epoch));
                if say == Say::Done && world.cancelled & bit == 0 {
                    next.runs |= bit;
                }
                if next != *world {
                    steps.add(next, || format!("s{sid}'s start of epoch {epoch} arrives: {say:?}"));
                }
            }
        }
        if self.lacks(Weakness::PromiseVolatile) {
            for agent in 0..3 {
                let mut next = *world;
                next.witnesses[agent] = self.pieces.without_promise(world.witnesses[agent]);
                if next != *world {
                    steps.add(next, || format!("agent{agent} forgets what it promised"));
                }
            }
        }
    }
}
