//! Being active: taking proposals, sending them to the second vote, committing, and bringing the peer back.

use std::collections::VecDeque;

use super::{
    event::Failure,
    greet::Voices,
    log::Entry,
    message::{Holds, PeerMsg, Supply},
    mutant::{self, Mutant},
    node::{Held, Replica, Role},
    solo::Solo,
};
use crate::{Change, Epoch, Lsn, Proposal, Table};

/// A reign.
pub(super) struct Active {
    pub(super) epoch: Epoch,
    /// Number of the entry that began it. Once that is committed, so is all before.
    pub(super) began: u64,
    /// The table with all that is under way.
    pub(super) working: Table,
    pub(super) pending: VecDeque<(u64, u64)>,
    pub(super) own: u64,
    pub(super) peer: Peer,
    pub(super) solo: Solo,
    pub(super) voices: Voices,
    /// A peer that has no table may be taken in: no reign that it forgot can have followed this one.
    vouched: bool,
    /// When a second vote was last heard.
    pub(super) voted_ms: u64,
    pub(super) voted_limit_ms: u64,
    /// Stepping down in good order until this moment at the latest.
    leaving_ms: Option<u64>,
}

#[derive(Default)]
pub(super) struct Peer {
    /// Its log is known to join on to ours up to `sent`.
    pub(super) matched: bool,
    pub(super) sent: u64,
    pub(super) acked: u64,
    /// Since when an answer is due.
    pub(super) waiting_ms: Option<u64>,
    pub(super) beat_ms: u64,
}

impl Active {
    pub(super) fn new(epoch: Epoch, node: &Replica, solo: Solo, vouched: bool) -> Self {
        let mut working = node.table.clone();
        for entry in node.log.after(node.commit) {
            working.apply(&entry.change);
        }
        let by_counting = mutant::on(Mutant::CommitOlderByCounting);
        Self {
            epoch,
            began: node.log.last().seq + u64::from(!by_counting),
            working,
            pending: VecDeque::new(),
            own: 0,
            peer: Peer { beat_ms: node.now, ..Peer::default() },
            solo,
            voices: Voices::default(),
            vouched,
            voted_ms: node.now,
            voted_limit_ms: node.config.ack_timeout_ms * 4,
            leaving_ms: None,
        }
    }

    /// Whether a second vote was heard lately.
    pub(super) const fn has_votes(&self, now_ms: u64) -> bool {
        now_ms < self.voted_ms + self.voted_limit_ms
    }

    pub(super) fn is_synced(&self) -> bool {
        self.peer.matched && self.solo.is_over()
    }
}

impl Replica {
    pub(super) fn active(&mut self) -> Option<&mut Active> {
        match &mut self.role {
            Role::Active(active) => Some(active),
            Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => None,
        }
    }

    /// Whether all that was committed before is committed again, and the pair is formed.
    pub(super) fn is_ready(&self) -> bool {
        let formed = self.config.alone || self.table.roster().is_some();
        matches!(&self.role, Role::Active(active) if self.commit >= active.began && formed)
    }

    /// Whether a second vote was heard lately.
    pub(super) fn votes_now(&self) -> bool {
        match &self.role {
            Role::Active(active) => {
                self.config.alone || self.off.counts || active.has_votes(self.now)
            }
            Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => false,
        }
    }

    pub(super) fn begin_reign(&mut self) {
        let changes = self.first_changes();
        if let Some(active) = self.active() {
            // What the witnesses are sent comes from there.
            changes.iter().for_each(|change| active.working.apply(change));
        }
        self.extend(changes);
        self.feed_peer();
    }

    /// The reign goes on whose entries are all here, committed and durable.
    pub(super) fn resume_reign(&mut self) {
        let solo = Solo::new(self.log.last().clone(), std::collections::BTreeSet::new(), false);
        let mut active = Active::new(self.promised.clone(), self, solo, true);
        active.began = self.commit;
        active.own = self.commit;
        self.role = Role::Active(Box::new(active));
    }

    /// Appends changes of this reign and sends them on.
    pub(super) fn extend(&mut self, changes: Vec<Change>) {
        let mut seq = self.log.last().seq;
        let Some(active) = self.active() else { return };
        let epoch = active.epoch.clone();
        let mut entries = Vec::with_capacity(changes.len());
        for change in changes {
            seq += 1;
            active.solo.changed(&change);
            entries.push(Entry { lsn: Lsn { epoch: epoch.clone(), seq }, change });
        }
        self.append(entries);
        self.after_write(Held::OwnVote(seq));
        if mutant::on(Mutant::OwnVoteBeforeWrite) {
            self.own_vote(seq);
        }
        self.send_entries();
        self.send_windows();
    }

    pub(super) fn propose(&mut self, proposals: Vec<(u64, Proposal)>) {
        let refusal = match &self.role {
            Role::Standby { leader, .. } => Some(Failure::NotActive(leader.clone())),
            Role::Claiming(_) | Role::Probing(_) => Some(Failure::NotActive(None)),
            Role::Active(active) if !self.is_ready() || active.leaving_ms.is_some() => {
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
            if matches!(proposal, Proposal::SetRoster(_)) && !active.is_synced() {
                self.answer(id, Err(Failure::PeerAway));
                continue;
            }
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
    pub(super) fn try_commit(&mut self) {
        let (alone, by_witnesses) =
            (self.config.alone || self.off.counts, self.kept_by_witnesses());
        let Some(active) = self.active() else { return };
        let seq = if alone || mutant::on(Mutant::CommitWithOneVote) {
            active.own
        } else {
            active.own.min(active.peer.acked.max(by_witnesses))
        };
        // Entries of earlier reigns are committed by one of ours only: counting votes for them is not enough.
        if seq < active.began {
            return;
        }
        self.commit_to(seq);
        // What was learnt is committed by an entry of this reign.
        self.unsure = false;
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

    /// What a follower may take for committed: nothing before our own first entry is, as until then what we learnt from
    /// one voter may yet be replaced.
    fn told_commit(&self) -> u64 {
        match &self.role {
            Role::Active(active) if self.commit >= active.began => self.commit,
            Role::Active(_) | Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => 0,
        }
    }

    /// What the peer holds. One that lost its table has forgotten its promises, perhaps one to a reign that replaced
    /// ours: before it is taken in most of the witnesses must promise to a claim that began after that loss.
    pub(super) fn meet(&mut self, holds: &Holds) {
        self.look_at_peer(holds);
        let blank = self.peer_blank;
        if let Role::Active(active) = &mut self.role
            && blank
            && !active.vouched
            && !mutant::on(Mutant::BlankTakenIn)
        {
            self.step_down(None);
            self.begin_claim();
        }
    }

    /// Makes the first step towards a peer whose log we do not know: it says whether it has our last entry.
    pub(super) fn feed_peer(&mut self) {
        let (prev, commit, now) = (self.log.last().clone(), self.told_commit(), self.now);
        let Some(active) = self.active() else { return };
        if active.peer.matched {
            return;
        }
        active.peer.waiting_ms.get_or_insert(now);
        active.peer.beat_ms = now;
        let (epoch, round) = (active.epoch.clone(), active.voices.round);
        self.send(PeerMsg::Append { epoch, prev, entries: Vec::new(), commit, round });
    }

    /// Sends a matched peer what it has not been sent.
    fn send_entries(&mut self) {
        let (last, commit, now) = (self.log.last().seq, self.told_commit(), self.now);
        let Some(active) = self.active() else { return };
        if !active.peer.matched || active.peer.sent >= last {
            return;
        }
        let sent = active.peer.sent;
        let (epoch, round) = (active.epoch.clone(), active.voices.round);
        let Some(prev) = self.log.lsn(sent).cloned() else { return };
        let most = self.config.limits.append_max;
        let entries: Vec<Entry> = self.log.after(sent).take(most).cloned().collect();
        if let Some(active) = self.active() {
            active.peer.sent = entries.last().map_or(sent, |entry| entry.lsn.seq);
            active.peer.waiting_ms.get_or_insert(now);
            active.peer.beat_ms = now;
        }
        self.send(PeerMsg::Append { epoch, prev, entries, commit, round });
    }

    pub(super) fn on_ack(&mut self, epoch: &Epoch, last: u64, round: u64) {
        let (now, own_last) = (self.now, self.log.last().seq);
        let Some(active) = self.active() else { return };
        if active.epoch != *epoch {
            return;
        }
        active.voted_ms = now;
        active.vouched = false;
        active.voices.answered(round);
        (self.peer_blank, self.peer_foreign) = (false, false);
        let Some(active) = self.active() else { return };
        if !active.peer.matched {
            active.peer.matched = true;
            active.peer.sent = last.min(own_last);
        }
        active.peer.acked = active.peer.acked.max(last.min(own_last));
        active.peer.waiting_ms = (active.peer.acked < active.peer.sent).then_some(now);
        self.try_commit();
        self.send_entries();
        self.consider_synced();
        self.form_pair();
        self.move_base();
    }

    /// The peer lacks something, or has something else.
    pub(super) fn on_behind(&mut self, epoch: &Epoch, holds: &Holds) {
        let now = self.now;
        if self.active().is_none_or(|active| active.epoch != *epoch) {
            return;
        }
        self.meet(holds);
        if self.active().is_none() {
            return;
        }
        let supply = self.supply_to_follower(holds);
        let (commit, epoch) = (self.told_commit(), epoch.clone());
        let round = self.active().map_or(0, |active| active.voices.round);
        let message = match supply {
            Supply::Entries { prev, mut entries } => {
                entries.truncate(self.config.limits.append_max);
                let sent = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
                self.expect_from_peer(sent, now);
                PeerMsg::Append { epoch, prev, entries, commit, round }
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

    /// The peer is wanted where it is.
    pub(super) fn on_wish(&mut self, planned: bool) {
        let votes = self.votes_now();
        let (wanted, until) = (self.want, self.now + self.config.ack_timeout_ms);
        if planned {
            self.relieved = self.want;
            self.want = false;
        }
        // One that is not up to date would only have to be brought there before it can reign.
        let blank = self.peer_blank;
        if let Some(active) = self.active()
            && ((planned && !blank) || (!wanted && active.is_synced()) || !votes)
        {
            active.leaving_ms.get_or_insert(until);
        }
    }

    /// Signs of life, answers that did not come, and stepping down in good order.
    pub(super) fn active_time(&mut self) {
        let (now, link, counts) = (self.now, self.link, self.off.counts);
        if self.config.alone {
            return self.greet();
        }
        let (beat, timeout) = (self.config.heartbeat_ms, self.config.ack_timeout_ms);
        let Some(active) = self.active() else { return };
        if active.leaving_ms.is_some_and(|until| active.pending.is_empty() || now >= until) {
            let epoch = active.epoch.clone();
            self.step_down(None);
            self.hold_off_ms = now + timeout * 2;
            return self.send(PeerMsg::Yield { epoch });
        }
        if !counts && !active.has_votes(now) && !active.pending.is_empty() {
            // Nobody is kept waiting for votes that may not come back soon. What was proposed may yet be committed.
            for (_, id) in std::mem::take(&mut active.pending) {
                self.answer(id, Err(Failure::Unknown));
            }
        }
        let Some(active) = self.active() else { return };
        let overdue = active.peer.waiting_ms.is_some_and(|since| now >= since + timeout);
        if overdue {
            let Peer { acked, beat_ms, .. } = active.peer;
            active.peer = Peer { acked, beat_ms, ..Peer::default() };
        }
        if overdue {
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
        self.greet();
    }

    pub(super) fn beat(&mut self) {
        let commit = self.told_commit();
        let now = self.now;
        let Some(active) = self.active() else { return };
        let (epoch, sent, round) = (active.epoch.clone(), active.peer.sent, active.voices.round);
        active.peer.waiting_ms.get_or_insert(now);
        if let Some(prev) = self.log.lsn(sent).cloned() {
            self.send(PeerMsg::Append { epoch, prev, entries: Vec::new(), commit, round });
        }
    }
}
