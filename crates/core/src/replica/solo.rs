//! Being active while the peer is away: the witnesses are the second vote, and keep what the peer lacks.

use std::collections::BTreeSet;

use super::{
    disk::Mark,
    message::{Window, WitnessMsg},
    mutant::{self, Mutant},
    node::Replica,
    outbox::Held,
    reign::{Kept, Second},
};
use crate::{AgentName, Change, Epoch, Key, Lsn};

/// For so many time-outs after a sign of life a reign counts as alive at a witness: two may be lost.
const HOLD_TIMEOUTS: u64 = 3;

impl Replica {
    /// How far most of the witnesses keep this reign's changes. Who the witnesses are is committed by both brokers
    /// only.
    pub(super) fn kept_by_witnesses(&self) -> u64 {
        let mut later = self.ledger.log.after(self.ledger.commit);
        let roster = later.find(|entry| matches!(entry.change, Change::Roster(_)));
        let before_roster = roster.map(|entry| entry.lsn.seq - 1);
        let Some(active) = self.role.active() else { return 0 };
        let mut marks: Vec<u64> = active.solo.witnesses.values().map(|kept| kept.acked).collect();
        marks.sort_unstable_by(|a, b| b.cmp(a));
        if mutant::on(Mutant::OneWitness) {
            return marks.first().copied().unwrap_or(0);
        }
        let keep = |mark: u64| self.ledger.most(|agent| active.solo.kept_by(agent) >= mark);
        let kept = marks.into_iter().find(|mark| keep(*mark));
        let most = before_roster.filter(|_| !mutant::on(Mutant::RosterByWitnesses));
        kept.unwrap_or(0).min(most.unwrap_or(u64::MAX))
    }

    /// The connection to the peer is new, or gone: what it said on the old one may be lost.
    pub(super) fn peer_link(&mut self) {
        let link = self.peer.is_up;
        let Some(active) = self.active() else { return };
        active.follower.matched = false;
        active.follower.waiting = None;
        if !link {
            self.go_solo();
        } else if mutant::on(Mutant::ClearedEarly) {
            self.outbox.after_write(Held::Clear(self.ledger.log.last().clone()));
        }
        let Some(active) = self.active() else { return };
        active.follower = active.follower.forgotten();
    }

    /// The peer is away: the witnesses are the second vote from now on.
    pub(super) fn go_solo(&mut self) {
        self.move_base_to_acked();
        let last = self.ledger.log.last().clone();
        let Some(active) = self.active() else { return };
        if mutant::on(Mutant::BaseTooNew) && active.solo.second == Second::Peer {
            (active.solo.base, active.solo.keys) = (last, BTreeSet::new());
        }
        active.solo.second = Second::Witnesses;
        self.send_windows();
    }

    /// While the pair is in sync a window to come need not begin long ago.
    pub(super) fn move_base(&mut self) {
        let most = self.config.limits.keys_max;
        if self.active().is_some_and(|active| active.solo.keys.len() > most) {
            self.move_base_to_acked();
        }
    }

    fn move_base_to_acked(&mut self) {
        let Some(active) = self.role.active_mut() else { return };
        let seq = active.on_both();
        if !active.solo.is_over() || seq < active.began || seq <= active.solo.base.seq {
            return;
        }
        if let Some(base) = self.ledger.log.lsn(seq) {
            (active.solo.base, active.solo.keys) = (base.clone(), self.ledger.keys_after(seq));
        }
    }

    /// Does without the witnesses once the peer has everything that they have.
    pub(super) fn consider_synced(&mut self) {
        let log = &self.ledger.log;
        let Some(active) = self.role.active_mut() else { return };
        if active.solo.is_over() || !active.follower.matched {
            return;
        }
        if active.follower.acked + self.config.limits.near >= log.last().seq {
            active.solo.second = Second::PeerSoon;
        }
        let seq = active.on_both();
        if active.solo.second == Second::PeerSoon && seq >= active.solo.sent.max(active.began) {
            active.solo.second = Second::Peer;
            let at = log.lsn(seq).unwrap_or_else(|| log.last()).clone();
            self.ledger.set_mark(&mut self.outbox, None);
            self.outbox.after_write(Held::Clear(at));
        }
    }

    /// The peer has everything: the witnesses may forget.
    pub(super) fn clear_witnesses(&mut self, at: &Lsn) {
        let early = mutant::on(Mutant::ClearedEarly);
        let agents = self.ledger.all_witnesses();
        let Some(active) = self.active() else { return };
        if !active.solo.is_over() && !early {
            return;
        }
        active.solo.witnesses.clear();
        active.solo.sent = 0;
        let epoch = active.epoch.clone();
        self.move_base_to_acked();
        let life = self.ledger.log.life().cloned();
        for agent in agents {
            let (epoch, at, life) = (epoch.clone(), at.clone(), life.clone());
            let message = WitnessMsg::Clear { epoch, at, loss: None, life };
            self.ask_witness(agent, message);
        }
    }

    /// Sends each witness what it has not been sent.
    pub(super) fn send_windows(&mut self) {
        let alone = self.config.alone;
        let agents = self.ledger.all_witnesses();
        let Some(active) = self.active() else { return };
        if alone || active.solo.second != Second::Witnesses {
            return;
        }
        let base = active.solo.base.clone();
        if self.ledger.mark.as_ref().is_none_or(|mark| mark.base != base) {
            // Written before any commit that needs the witnesses, as writes keep their order.
            self.ledger.set_mark(&mut self.outbox, Some(Mark { base, keys: BTreeSet::new() }));
        }
        for agent in agents {
            self.send_window(&agent);
        }
    }

    fn send_window(&mut self, agent: &AgentName) {
        let log = &self.ledger.log;
        let (last, history) = (log.last().clone(), log.history().clone());
        let reach = if mutant::on(Mutant::WindowTrimmed) { 0 } else { log.base().seq };
        let Some(active) = self.role.active_mut() else { return };
        let kept = active.solo.witnesses.entry(agent.clone()).or_default();
        if kept.sent.as_ref() == Some(&last) {
            return;
        }
        // Where the log no longer goes back to what was sent last, only the whole window has everything.
        let prev = kept.sent.replace(last.clone()).filter(|prev| prev.seq >= reach);
        kept.asked = self.now;
        active.solo.sent = active.solo.sent.max(last.seq);
        let keys = match &prev {
            Some(prev) => self.ledger.keys_after(prev.seq),
            None => active.solo.keys.clone(),
        };
        let row = |key: Key| active.working.row(&key).map(|row| (key, row));
        let rows = keys.into_iter().filter_map(row).collect();
        let (epoch, base) = (active.epoch.clone(), active.solo.base.clone());
        let window = Window { base, last, rows, history };
        // Only a reign that is wanted where it is keeps others from trying; its next sign of life comes in one
        // time-out.
        let hold_ms =
            if self.candidacy.want { self.config.ack_timeout_ms * HOLD_TIMEOUTS } else { 0 };
        self.ask_witness(agent.clone(), WitnessMsg::Accept { epoch, prev, window, hold_ms });
    }

    pub(super) fn on_accepted(&mut self, agent: &AgentName, epoch: &Epoch, last: &Lsn) {
        let now = self.now;
        let Some(active) = self.role.active_mut().filter(|active| active.epoch == *epoch) else {
            return;
        };
        let (limit_ms, witnesses) = (active.voted_limit_ms, &mut active.solo.witnesses);
        let Some(kept) = witnesses.get_mut(agent) else { return };
        kept.acked = kept.acked.max(last.seq);
        (kept.asked, kept.heard) = (now, now);
        let is_heard = |kept: &Kept| kept.acked > 0 && now < kept.heard + limit_ms;
        if self.ledger.most(|agent| witnesses.get(agent).is_some_and(is_heard)) {
            active.voted = now;
        }
        self.try_commit();
    }

    pub(super) fn on_gap(&mut self, agent: &AgentName, epoch: &Epoch) {
        let Some(active) = self.active() else { return };
        if active.epoch == *epoch
            && active.solo.second == Second::Witnesses
            && let Some(kept) = active.solo.witnesses.get_mut(agent)
        {
            kept.sent = None;
            self.send_window(agent);
        }
    }

    /// Asks again where a witness did not answer, and lets it be heard from where nothing changes.
    pub(super) fn witness_time(&mut self) {
        let (now, timeout) = (self.now, self.config.ack_timeout_ms);
        let Some(active) = self.active() else { return };
        if active.solo.second != Second::Witnesses {
            return;
        }
        for kept in active.solo.witnesses.values_mut() {
            if now >= kept.asked + timeout {
                kept.sent = None;
            }
        }
        self.send_windows();
    }
}
