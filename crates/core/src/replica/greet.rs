//! Agents that may not vote yet: who they are, and making up for what they lost. Every agent is greeted: also one that
//! is no witness may have set itself apart, and acts again only when it is told to.
//!
//! One that is new, or lost what it held, is *mute*: what it promised and kept is unknown. It tells its loss by a
//! number that was drawn for it. The active node makes up for that loss when the peer has acknowledged something that
//! it was sent *after* this node had heard of the loss. Whatever the witness had promised and forgotten it had promised
//! before; had that been to a reign above this one, the peer would have claimed it, and would acknowledge nothing of
//! this reign any more. An acknowledgement that was on its way when the loss was told proves nothing.

use super::{
    message::WitnessMsg,
    mutant::{self, Mutant},
    node::Replica,
    reign::{Kept, Voice},
    role::Role,
};
use crate::{AgentName, Epoch};

/// An agent that did not answer is asked again after so many time-outs: it may be away for long.
const UNKNOWN_TIMEOUTS: u64 = 10;

impl Replica {
    /// An agent can be reached, perhaps for the first time, or again after it lost something.
    pub(super) fn witness_up(&mut self, agent: &AgentName) {
        if let Some(active) = self.active() {
            active.voices.set(agent, Voice::Unknown { asked: None });
        }
    }

    /// An agent says that it is mute.
    pub(super) fn on_mute(&mut self, agent: &AgentName, loss: u64) {
        if self.config.alone {
            // Nobody votes here, so nothing is lacking; one that set itself apart says so where it is to act.
            if let Some(active) = self.active() {
                active.voices.votes(agent);
            }
            return;
        }
        let by_old = mutant::on(Mutant::GreetedByOldAck);
        let last = self.ledger.log.last().seq;
        let Some(active) = self.active() else { return };
        let known = active.voices.other(agent);
        if matches!(known, Some(Voice::Mute { loss: known, .. }) if *known == loss) {
            return;
        }
        active.voices.round += 1;
        let round = if by_old { 0 } else { active.voices.round };
        let voice = Voice::Mute { loss, round, last, told: None };
        active.voices.set(agent, voice);
        if let Some(kept) = active.solo.witnesses.get_mut(agent) {
            // It keeps nothing, whatever it said before.
            *kept = Kept::default();
        }
        if active.follower.matched {
            self.beat();
        }
    }

    /// A witness has forgotten what it was told to in this reign: it votes, unless it told a loss and was told nothing
    /// since. Then this is from before the loss, and came late.
    pub(super) fn on_cleared(&mut self, agent: &AgentName, epoch: &Epoch) {
        let Some(active) = self.role.active_mut().filter(|active| active.epoch == *epoch) else {
            return;
        };
        if !matches!(active.voices.other(agent), Some(Voice::Mute { told: None, .. })) {
            active.voices.votes(agent);
        }
    }

    /// A witness keeps all of this reign up to a number: it votes, unless it told a loss when this reign had come that
    /// far already. Then this may be from before the loss.
    pub(super) fn on_kept(&mut self, agent: &AgentName, epoch: &Epoch, seq: u64) {
        let Some(active) = self.role.active_mut().filter(|active| active.epoch == *epoch) else {
            return;
        };
        if !matches!(active.voices.other(agent), Some(Voice::Mute { last, .. }) if seq <= *last) {
            active.voices.votes(agent);
        }
    }

    /// Asks those of whom nothing is known, and makes up for losses where that is right now.
    pub(super) fn greet(&mut self) {
        let (now, timeout, alone) = (self.now, self.config.ack_timeout_ms, self.config.alone);
        let witnesses = self.ledger.all_witnesses();
        let Role::Active(active) = &mut self.role else { return };
        let seq = if alone { active.own } else { active.own.min(active.follower.acked) };
        let (at, life) = (self.ledger.log.lsn(seq).cloned(), self.ledger.log.life().cloned());
        let synced = (active.is_synced() || alone) && seq >= active.began;
        let synced = synced || mutant::on(Mutant::GreetedUnsynced);
        let (epoch, answered) = (active.epoch.clone(), active.voices.answered);
        for agent in witnesses {
            active.voices.ask_new(&agent);
        }
        if now < active.voices.due {
            return;
        }
        let mut messages = Vec::new();
        let mut due = now + timeout * UNKNOWN_TIMEOUTS;
        for (agent, voice) in active.voices.others() {
            match voice {
                Voice::Unknown { asked }
                    if asked.is_none_or(|asked| now >= asked + timeout * UNKNOWN_TIMEOUTS) =>
                {
                    *asked = Some(now);
                    messages.push((
                        agent.clone(),
                        match at.clone().filter(|_| synced) {
                            // It learns which life of the table this is, or says that it is mute.
                            Some(at) => WitnessMsg::Clear {
                                epoch: epoch.clone(),
                                at,
                                loss: None,
                                life: life.clone(),
                            },
                            None => WitnessMsg::Probe { epoch: epoch.clone() },
                        },
                    ));
                }
                Voice::Mute { loss, round, told, .. }
                    if synced
                        && answered >= *round
                        && told.is_none_or(|told| now >= told + timeout) =>
                {
                    if let Some(at) = at.clone() {
                        *told = Some(now);
                        let (epoch, life, loss) = (epoch.clone(), life.clone(), Some(*loss));
                        messages.push((agent.clone(), WitnessMsg::Clear { epoch, at, loss, life }));
                    }
                }
                Voice::Unknown { .. } | Voice::Mute { .. } => {}
            }
            due = due.min(match voice {
                Voice::Unknown { asked: Some(asked) } => *asked + timeout * UNKNOWN_TIMEOUTS,
                // What it waits for is not a moment.
                Voice::Unknown { asked: None } | Voice::Mute { .. } => now,
            });
        }
        active.voices.due = due;
        for (agent, message) in messages {
            self.ask_witness(agent, message);
        }
    }
}
