//! Being active: taking proposals, sending them to the second vote, committing, and bringing the peer back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    log::Entry,
    message::{Holds, PeerMsg, Supply, Window, WitnessMsg},
    node::{Failure, Held, Replica, Role},
};
use crate::{AgentName, Change, Epoch, Key, Lsn, Proposal, Table};

/// Entries in one message; the rest follows the acknowledgement.
const APPEND_MAX: usize = 1024;
/// A peer that lacks no more than this is near enough to do without the witnesses.
const NEAR: u64 = 256;

/// A reign.
pub(super) struct Active {
    pub(super) epoch: Epoch,
    /// Number of the entry that began it. Once that is committed, so is all before.
    pub(super) began: u64,
    /// The table with all that is under way.
    working: Table,
    pub(super) pending: VecDeque<(u64, u64)>,
    own: u64,
    peer: Peer,
    solo: Solo,
    /// The peer is away: the witnesses are the second vote.
    is_solo: bool,
    witnesses: BTreeMap<AgentName, Kept>,
    /// When a second vote was last heard.
    voted_ms: u64,
    voted_limit_ms: u64,
    /// Stepping down in good order until this moment at the latest.
    leaving_ms: Option<u64>,
}

#[derive(Default)]
struct Peer {
    /// Its log is known to join on to ours up to `sent`.
    matched: bool,
    sent: u64,
    acked: u64,
    /// Since when an answer is due.
    waiting_ms: Option<u64>,
    beat_ms: u64,
}

#[derive(Default)]
struct Kept {
    sent: Option<Lsn>,
    acked: u64,
    asked_ms: u64,
}

/// What the witnesses are to keep.
pub(super) struct Solo {
    base: Lsn,
    keys: BTreeSet<Key>,
    /// Up to here something was sent to a witness.
    sent: u64,
    /// The peer is near: no more is sent to the witnesses.
    closing: bool,
}

impl Solo {
    pub(super) const fn new(base: Lsn, keys: BTreeSet<Key>) -> Self {
        Self { base, keys, sent: 0, closing: false }
    }
}

impl Active {
    pub(super) fn new(epoch: Epoch, node: &Replica, solo: Solo) -> Self {
        let mut working = node.table.clone();
        for entry in node.log.after(node.commit) {
            working.apply(&entry.change);
        }
        Self {
            epoch,
            began: node.log.last().seq + 1,
            working,
            pending: VecDeque::new(),
            own: 0,
            peer: Peer { beat_ms: node.now, ..Peer::default() },
            solo,
            is_solo: !node.link,
            witnesses: BTreeMap::new(),
            voted_ms: node.now,
            voted_limit_ms: node.config.ack_timeout_ms * 4,
            leaving_ms: None,
        }
    }

    /// Whether a second vote was heard lately.
    pub(super) const fn has_votes(&self, now_ms: u64) -> bool {
        now_ms < self.voted_ms + self.voted_limit_ms
    }

    pub(super) const fn is_synced(&self) -> bool {
        self.peer.matched && !self.is_solo
    }

    pub(super) fn peer_link(&mut self, up: bool) {
        self.peer = Peer { acked: 0, beat_ms: self.peer.beat_ms, ..Peer::default() };
        if !up {
            self.is_solo = true;
            self.solo.closing = false;
        }
    }
}

impl Replica {
    fn active(&mut self) -> Option<&mut Active> {
        match &mut self.role {
            Role::Active(active) => Some(active),
            Role::Standby { .. } | Role::Claiming(_) => None,
        }
    }

    /// Whether a second vote was heard lately.
    fn votes_now(&self) -> bool {
        match &self.role {
            Role::Active(active) => active.has_votes(self.now),
            Role::Standby { .. } | Role::Claiming(_) => false,
        }
    }

    pub(super) fn begin_reign(&mut self) {
        let changes = self.first_changes();
        self.extend(changes);
        self.feed_peer();
    }

    /// Appends changes of this reign and sends them on.
    fn extend(&mut self, changes: Vec<Change>) {
        let mut seq = self.log.last().seq;
        let Some(active) = self.active() else { return };
        let epoch = active.epoch.clone();
        let mut entries = Vec::with_capacity(changes.len());
        for change in changes {
            seq += 1;
            active.solo.keys.extend(change.key());
            entries.push(Entry { lsn: Lsn { epoch: epoch.clone(), seq }, change });
        }
        self.append(entries);
        self.after_write(Held::OwnVote(seq));
        self.send_entries();
        self.send_windows();
    }

    pub(super) fn propose(&mut self, proposals: Vec<(u64, Proposal)>) {
        let refusal = match &self.role {
            Role::Standby { leader, .. } => Some(Failure::NotActive(leader.clone())),
            Role::Claiming(_) => Some(Failure::NotActive(None)),
            Role::Active(active) if self.commit < active.began || active.leaving_ms.is_some() => {
                Some(Failure::NotActive(Some(active.epoch.clone())))
            }
            Role::Active(_) if !self.votes_now() => Some(Failure::NoVotes),
            Role::Active(_) => None,
        };
        if let Some(refusal) = refusal {
            for (id, _) in proposals {
                self.answer(id, Err(refusal.clone()));
            }
            return;
        }
        let mut seq = self.log.last().seq;
        let mut changes = Vec::new();
        for (id, proposal) in proposals {
            let Some(active) = self.active() else { return };
            match active.working.check(proposal) {
                Ok(change) => {
                    active.working.apply(&change);
                    seq += 1;
                    active.pending.push_back((seq, id));
                    changes.push(change);
                }
                Err(rejected) => self.answer(id, Err(rejected.into())),
            }
        }
        if !changes.is_empty() {
            self.extend(changes);
        }
    }

    /// Our own store has everything up to `seq`.
    pub(super) fn own_vote(&mut self, seq: u64) {
        if let Some(active) = self.active() {
            active.own = active.own.max(seq);
            self.try_commit();
        }
    }

    /// Commits what two of three have.
    fn try_commit(&mut self) {
        let most = self.table.roster().map_or(0, |roster| roster.len() / 2);
        let Some(active) = self.active() else { return };
        let mut kept: Vec<u64> = active.witnesses.values().map(|witness| witness.acked).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let by_witnesses = kept.get(most).copied().unwrap_or(0);
        let seq = active.own.min(active.peer.acked.max(by_witnesses));
        // Entries of earlier reigns are committed by one of ours only: counting votes for them is not enough.
        if seq < active.began {
            return;
        }
        self.commit_to(seq);
        while let Some(active) = self.active()
            && let Some((at, id)) = active.pending.front().copied()
            && at <= seq
        {
            active.pending.pop_front();
            if let Some(change) = self.log.entry(at).map(|entry| entry.change.clone()) {
                self.answer(id, Ok(change));
            }
        }
    }

    /// Makes the first step towards a peer whose log we do not know: it says whether it has our last entry.
    pub(super) fn feed_peer(&mut self) {
        let (prev, commit, now) = (self.log.last().clone(), self.commit, self.now);
        let Some(active) = self.active() else { return };
        if active.peer.matched {
            return;
        }
        active.peer.waiting_ms.get_or_insert(now);
        active.peer.beat_ms = now;
        let epoch = active.epoch.clone();
        self.send(PeerMsg::Append { epoch, prev, entries: Vec::new(), commit });
    }

    /// Sends a matched peer what it has not been sent.
    fn send_entries(&mut self) {
        let (last, commit, now) = (self.log.last().seq, self.commit, self.now);
        let Some(active) = self.active() else { return };
        if !active.peer.matched || active.peer.sent >= last {
            return;
        }
        let sent = active.peer.sent;
        let epoch = active.epoch.clone();
        let Some(prev) = self.log.lsn(sent).cloned() else { return };
        let entries: Vec<Entry> = self.log.after(sent).take(APPEND_MAX).cloned().collect();
        if let Some(active) = self.active() {
            active.peer.sent = entries.last().map_or(sent, |entry| entry.lsn.seq);
            active.peer.waiting_ms.get_or_insert(now);
            active.peer.beat_ms = now;
        }
        self.send(PeerMsg::Append { epoch, prev, entries, commit });
    }

    pub(super) fn on_ack(&mut self, epoch: &Epoch, last: u64) {
        let (now, own_last) = (self.now, self.log.last().seq);
        let Some(active) = self.active() else { return };
        if active.epoch != *epoch {
            return;
        }
        active.voted_ms = now;
        if !active.peer.matched {
            active.peer.matched = true;
            active.peer.sent = last.min(own_last);
        }
        active.peer.acked = active.peer.acked.max(last.min(own_last));
        active.peer.waiting_ms = (active.peer.acked < active.peer.sent).then_some(now);
        self.try_commit();
        self.send_entries();
        self.consider_synced();
    }

    /// The peer lacks something, or has something else.
    pub(super) fn on_behind(&mut self, epoch: &Epoch, holds: &Holds) {
        let now = self.now;
        if self.active().is_none_or(|active| active.epoch != *epoch) {
            return;
        }
        let supply = self.supply(holds);
        let (commit, epoch) = (self.commit, epoch.clone());
        let message = match supply {
            Supply::Entries { prev, mut entries } => {
                entries.truncate(APPEND_MAX);
                let sent = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
                self.expect_from_peer(sent, now);
                PeerMsg::Append { epoch, prev, entries, commit }
            }
            Supply::Image(image) => {
                self.expect_from_peer(self.log.last().seq, now);
                PeerMsg::Snapshot { epoch, image }
            }
            Supply::Nothing => return,
        };
        self.send(message);
    }

    fn expect_from_peer(&mut self, sent: u64, now: u64) {
        if let Some(active) = self.active() {
            active.peer.matched = true;
            active.peer.sent = sent;
            active.peer.waiting_ms = Some(now);
        }
    }

    /// Does without the witnesses once the peer has everything that they have.
    fn consider_synced(&mut self) {
        let last = self.log.last().seq;
        let Some(active) = self.active() else { return };
        if !active.is_solo {
            return;
        }
        if active.peer.acked + NEAR >= last {
            active.solo.closing = true;
        }
        if active.solo.closing && active.peer.acked >= active.solo.sent.max(active.began) {
            active.is_solo = false;
            active.solo.closing = false;
            let seq = active.peer.acked;
            let at = self.log.lsn(seq).cloned().unwrap_or_else(|| self.log.last().clone());
            self.set_window_base(None);
            self.after_write(Held::Clear(at));
        }
    }

    /// The peer has everything: the witnesses may forget.
    pub(super) fn clear_witnesses(&mut self, at: &Lsn) {
        let Some(active) = self.active() else { return };
        if active.is_solo {
            return;
        }
        let epoch = active.epoch.clone();
        active.solo.base = at.clone();
        active.solo.keys.clear();
        active.solo.sent = 0;
        let after: Vec<Key> =
            self.log.after(at.seq).filter_map(|entry| entry.change.key()).collect();
        let Some(active) = self.active() else { return };
        active.solo.keys.extend(after);
        let agents: Vec<AgentName> = std::mem::take(&mut active.witnesses).into_keys().collect();
        for agent in agents {
            let message = WitnessMsg::Clear { epoch: epoch.clone(), at: at.clone() };
            self.to_witness(agent, message);
        }
    }

    /// The peer is away: the witnesses are the second vote from now on. The mark is durable here before they are asked.
    fn go_solo(&mut self) {
        let Some(active) = self.active() else { return };
        active.is_solo = true;
        active.solo.closing = false;
        self.send_windows();
    }

    /// Sends each witness what it has not been sent.
    fn send_windows(&mut self) {
        let Some(roster) = self.table.roster().cloned() else { return };
        for agent in roster.iter() {
            self.send_window(agent);
        }
    }

    fn send_window(&mut self, agent: &AgentName) {
        let (last, now) = (self.log.last().clone(), self.now);
        let history = self.log.history().clone();
        let Some(active) = self.active() else { return };
        if !active.is_solo || active.solo.closing {
            return;
        }
        let base = active.solo.base.clone();
        if self.window_base.as_ref() != Some(&base) {
            self.set_window_base(Some(base.clone()));
        }
        let Some(active) = self.active() else { return };
        let kept = active.witnesses.entry(agent.clone()).or_default();
        if kept.sent.as_ref() == Some(&last) {
            return;
        }
        let prev = kept.sent.replace(last.clone());
        kept.asked_ms = now;
        let epoch = active.epoch.clone();
        active.solo.sent = active.solo.sent.max(last.seq);
        let keys: Vec<Key> = match &prev {
            Some(prev) => self.log.after(prev.seq).filter_map(|entry| entry.change.key()).collect(),
            None => active.solo.keys.iter().cloned().collect(),
        };
        let Some(active) = self.active() else { return };
        let rows = keys
            .into_iter()
            .filter_map(|key| Some((key.clone(), active.working.row(&key)?)))
            .collect();
        let window = Window { base, last, rows, history };
        self.to_witness(agent.clone(), WitnessMsg::Accept { epoch, prev, window });
    }

    pub(super) fn on_accepted(&mut self, agent: &AgentName, epoch: &Epoch, last: &Lsn) {
        let now = self.now;
        let most = self.table.roster().map_or(0, |roster| roster.len() / 2);
        let Some(active) = self.active() else { return };
        if active.epoch != *epoch {
            return;
        }
        let limit = active.voted_limit_ms;
        let Some(kept) = active.witnesses.get_mut(agent) else { return };
        kept.acked = kept.acked.max(last.seq);
        kept.asked_ms = now;
        let fresh =
            active.witnesses.values().filter(|kept| kept.acked > 0 && now < kept.asked_ms + limit);
        if fresh.count() > most {
            active.voted_ms = now;
        }
        self.try_commit();
    }

    pub(super) fn on_gap(&mut self, agent: &AgentName, epoch: &Epoch) {
        let Some(active) = self.active() else { return };
        if active.epoch == *epoch
            && let Some(kept) = active.witnesses.get_mut(agent)
        {
            kept.sent = None;
            self.send_window(agent);
        }
    }

    /// The peer is wanted where it is.
    pub(super) fn on_wish(&mut self, planned: bool) {
        let votes = self.votes_now();
        let (wanted, until) = (self.want, self.now + self.config.ack_timeout_ms);
        if planned {
            self.want = false;
        }
        if let Some(active) = self.active()
            && (planned || !wanted || !votes)
        {
            active.leaving_ms.get_or_insert(until);
        }
    }

    /// Signs of life, answers that did not come, and stepping down in good order.
    pub(super) fn active_time(&mut self) {
        let (now, link) = (self.now, self.link);
        let (beat, timeout) = (self.config.heartbeat_ms, self.config.ack_timeout_ms);
        let Some(active) = self.active() else { return };
        if active.leaving_ms.is_some_and(|until| active.pending.is_empty() || now >= until) {
            let epoch = active.epoch.clone();
            self.step_down(None);
            self.hold_off_ms = now + timeout * 2;
            return self.send(PeerMsg::Yield { epoch });
        }
        let overdue = active.peer.waiting_ms.is_some_and(|since| now >= since + timeout);
        if overdue {
            active.peer =
                Peer { acked: active.peer.acked, beat_ms: active.peer.beat_ms, ..Peer::default() };
        }
        if (overdue || !link) && !active.is_solo || overdue && active.solo.closing {
            self.go_solo();
        }
        let Some(active) = self.active() else { return };
        if link && now >= active.peer.beat_ms + beat {
            active.peer.beat_ms = now;
            if active.peer.matched {
                self.beat();
            } else {
                self.feed_peer();
            }
        }
        self.witness_time();
    }

    fn beat(&mut self) {
        let commit = self.commit;
        let now = self.now;
        let Some(active) = self.active() else { return };
        let (epoch, sent) = (active.epoch.clone(), active.peer.sent);
        active.peer.waiting_ms.get_or_insert(now);
        if let Some(prev) = self.log.lsn(sent).cloned() {
            self.send(PeerMsg::Append { epoch, prev, entries: Vec::new(), commit });
        }
    }

    /// Asks again where a witness did not answer, and lets it be heard from where nothing changes.
    fn witness_time(&mut self) {
        let (now, timeout) = (self.now, self.config.ack_timeout_ms);
        let Some(active) = self.active() else { return };
        if !active.is_solo || active.solo.closing {
            return;
        }
        for kept in active.witnesses.values_mut() {
            if now >= kept.asked_ms + timeout {
                kept.sent = None;
            }
        }
        self.send_windows();
    }
}
