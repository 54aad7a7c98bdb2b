//! Being active while the peer is away: the witnesses are the second vote, and keep what the peer lacks.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    active::Peer,
    disk::Mark,
    message::{Window, WitnessMsg},
    mutant::{self, Mutant},
    node::{Held, Replica},
    status::Second,
};
use crate::{AgentName, Change, Epoch, Key, Lsn};

/// For so many time-outs after a sign of life a reign counts as alive at a witness: two may be lost.
const HOLD_TIMEOUTS: u64 = 3;

/// What the witnesses are to keep.
pub(super) struct Solo {
    pub(super) second: Second,
    /// A position that both brokers have.
    base: Lsn,
    /// What changed since.
    keys: BTreeSet<Key>,
    /// Up to here something was sent to a witness.
    sent: u64,
    pub(super) witnesses: BTreeMap<AgentName, Kept>,
}

#[derive(Default)]
pub(super) struct Kept {
    sent: Option<Lsn>,
    pub(super) acked: u64,
    asked_ms: u64,
    pub(super) heard_ms: u64,
}

impl Solo {
    pub(super) const fn new(base: Lsn, keys: BTreeSet<Key>, link: bool) -> Self {
        // Whatever the witnesses keep of earlier reigns is cleared when the peer has everything.
        let second = if link { Second::PeerSoon } else { Second::Witnesses };
        Self { second, base, keys, sent: 0, witnesses: BTreeMap::new() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.second == Second::Peer
    }

    pub(super) fn changed(&mut self, change: &Change) {
        self.keys.extend(change.key());
    }
}

impl Replica {
    /// How far most of the witnesses keep this reign's changes. Who the witnesses are is committed by both brokers
    /// only.
    pub(super) fn kept_by_witnesses(&mut self) -> u64 {
        let roster = self
            .log
            .after(self.commit)
            .find(|entry| matches!(entry.change, Change::Roster(_)))
            .map(|entry| entry.lsn.seq - 1);
        let Some(active) = self.active() else { return 0 };
        let mut marks: Vec<u64> = active.solo.witnesses.values().map(|kept| kept.acked).collect();
        marks.sort_unstable_by(|a, b| b.cmp(a));
        if mutant::on(Mutant::OneWitness) {
            return marks.first().copied().unwrap_or(0);
        }
        let acked = |agent: &AgentName| match &self.role {
            super::node::Role::Active(active) => {
                active.solo.witnesses.get(agent).map_or(0, |kept| kept.acked)
            }
            super::node::Role::Standby { .. }
            | super::node::Role::Probing(_)
            | super::node::Role::Claiming(_) => 0,
        };
        let kept = marks.into_iter().find(|mark| self.most(|agent| acked(agent) >= *mark));
        let most = if mutant::on(Mutant::RosterByWitnesses) { None } else { roster };
        kept.unwrap_or(0).min(most.unwrap_or(u64::MAX))
    }

    /// The connection to the peer is new, or gone: what it said on the old one may be lost.
    pub(super) fn peer_link(&mut self) {
        let link = self.link;
        let Some(active) = self.active() else { return };
        active.peer.matched = false;
        active.peer.waiting_ms = None;
        if !link {
            self.go_solo();
        } else if mutant::on(Mutant::ClearedEarly) {
            self.after_write(Held::Clear(self.log.last().clone()));
        }
        let Some(active) = self.active() else { return };
        let beat_ms = active.peer.beat_ms;
        active.peer = Peer { beat_ms, ..Peer::default() };
    }

    /// The peer is away: the witnesses are the second vote from now on.
    pub(super) fn go_solo(&mut self) {
        self.move_base_to_acked();
        let last = self.log.last().clone();
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
        let Some(active) = self.active() else { return };
        let seq = active.own.min(active.peer.acked);
        if !active.solo.is_over() || seq < active.began || seq <= active.solo.base.seq {
            return;
        }
        let Some(base) = self.log.lsn(seq).cloned() else { return };
        let keys = self.keys_after(seq);
        let Some(active) = self.active() else { return };
        (active.solo.base, active.solo.keys) = (base, keys);
    }

    /// Does without the witnesses once the peer has everything that they have.
    pub(super) fn consider_synced(&mut self) {
        let (last, near) = (self.log.last().seq, self.config.limits.near);
        let Some(active) = self.active() else { return };
        if active.solo.is_over() || !active.peer.matched {
            return;
        }
        if active.peer.acked + near >= last {
            active.solo.second = Second::PeerSoon;
        }
        let seq = active.own.min(active.peer.acked);
        if active.solo.second == Second::PeerSoon && seq >= active.solo.sent.max(active.began) {
            active.solo.second = Second::Peer;
            let at = self.log.lsn(seq).cloned().unwrap_or_else(|| self.log.last().clone());
            self.set_mark(None);
            self.after_write(Held::Clear(at));
        }
    }

    /// The peer has everything: the witnesses may forget.
    pub(super) fn clear_witnesses(&mut self, at: &Lsn) {
        let early = mutant::on(Mutant::ClearedEarly);
        let agents = self.all_witnesses();
        let Some(active) = self.active() else { return };
        if !active.solo.is_over() && !early {
            return;
        }
        active.solo.witnesses.clear();
        active.solo.sent = 0;
        let epoch = active.epoch.clone();
        self.move_base_to_acked();
        let life = self.log.life().cloned();
        for agent in agents {
            let (epoch, at, life) = (epoch.clone(), at.clone(), life.clone());
            let message = WitnessMsg::Clear { epoch, at, loss: None, life };
            self.ask_witness(agent, message);
        }
    }

    /// Sends each witness what it has not been sent.
    pub(super) fn send_windows(&mut self) {
        let alone = self.config.alone;
        let agents = self.all_witnesses();
        let Some(active) = self.active() else { return };
        if alone || active.solo.second != Second::Witnesses {
            return;
        }
        let base = active.solo.base.clone();
        if self.mark.as_ref().is_none_or(|mark| mark.base != base) {
            // Written before any commit that needs the witnesses, as writes keep their order.
            self.set_mark(Some(Mark { base, keys: BTreeSet::new() }));
        }
        for agent in agents {
            self.send_window(&agent);
        }
    }

    fn send_window(&mut self, agent: &AgentName) {
        let (last, now) = (self.log.last().clone(), self.now);
        let reach = if mutant::on(Mutant::WindowTrimmed) { 0 } else { self.log.base().seq };
        let history = self.log.history().clone();
        let Some(active) = self.active() else { return };
        let base = active.solo.base.clone();
        let kept = active.solo.witnesses.entry(agent.clone()).or_default();
        if kept.sent.as_ref() == Some(&last) {
            return;
        }
        // Where the log no longer goes back to what was sent last, only the whole window has everything.
        let prev = kept.sent.replace(last.clone()).filter(|prev| prev.seq >= reach);
        kept.asked_ms = now;
        let epoch = active.epoch.clone();
        active.solo.sent = active.solo.sent.max(last.seq);
        let keys: Vec<Key> = match &prev {
            Some(prev) => self.keys_after(prev.seq).into_iter().collect(),
            None => active.solo.keys.iter().cloned().collect(),
        };
        let Some(active) = self.active() else { return };
        let rows = keys
            .into_iter()
            .filter_map(|key| Some((key.clone(), active.working.row(&key)?)))
            .collect();
        let window = Window { base, last, rows, history };
        // Only a reign that is wanted where it is keeps others from trying; its next sign of life comes in one
        // time-out.
        let hold_ms = if self.want { self.config.ack_timeout_ms * HOLD_TIMEOUTS } else { 0 };
        self.ask_witness(agent.clone(), WitnessMsg::Accept { epoch, prev, window, hold_ms });
    }

    pub(super) fn on_accepted(&mut self, agent: &AgentName, epoch: &Epoch, last: &Lsn) {
        let now = self.now;
        let Some(active) = self.active() else { return };
        if active.epoch != *epoch {
            return;
        }
        let limit = active.voted_limit_ms;
        let Some(kept) = active.solo.witnesses.get_mut(agent) else { return };
        kept.acked = kept.acked.max(last.seq);
        (kept.asked_ms, kept.heard_ms) = (now, now);
        let heard: BTreeSet<AgentName> = active
            .solo
            .witnesses
            .iter()
            .filter(|(_, kept)| kept.acked > 0 && now < kept.heard_ms + limit)
            .map(|(agent, _)| agent.clone())
            .collect();
        if self.most(|agent| heard.contains(agent))
            && let Some(active) = self.active()
        {
            active.voted_ms = now;
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
            if now >= kept.asked_ms + timeout {
                kept.sent = None;
            }
        }
        self.send_windows();
    }
}
