//! Being active: taking proposals, sending them to the second vote, committing, and bringing the peer back.

use std::collections::BTreeSet;

use super::{
    event::Failure,
    log::Entry,
    message::{Holds, PeerMsg, Supply},
    mutant::{self, Mutant},
    node::Replica,
    outbox::Held,
    reign::{Active, Follower, Solo},
    role::Role,
};
use crate::{Change, Epoch, Lsn, Proposal};

impl Replica {
    /// Whether all that was committed before is committed again, and the pair is formed.
    pub(super) fn is_ready(&self) -> bool {
        let formed = self.config.alone || self.ledger.table.roster().is_some();
        matches!(&self.role, Role::Active(active) if self.ledger.commit >= active.began && formed)
    }

    /// Whether a second vote was heard lately.
    pub(super) fn votes_now(&self) -> bool {
        match &self.role {
            Role::Active(active) => {
                self.config.alone || self.peer.counts_as_off() || active.has_votes(self.now)
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
        let solo = Solo::new(self.ledger.log.last().clone(), BTreeSet::new(), false);
        let (epoch, timeout_ms) = (self.ledger.promised.clone(), self.config.ack_timeout_ms);
        let mut active = Active::new(epoch, &self.ledger, solo, true, self.now, timeout_ms);
        active.began = self.ledger.commit;
        active.own = self.ledger.commit;
        self.role = Role::Active(Box::new(active));
    }

    /// Appends changes of this reign and sends them on.
    pub(super) fn extend(&mut self, changes: Vec<Change>) {
        let mut seq = self.ledger.log.last().seq;
        let Some(active) = self.active() else { return };
        let epoch = active.epoch.clone();
        let mut entries = Vec::with_capacity(changes.len());
        for change in changes {
            seq += 1;
            active.solo.changed(&change);
            entries.push(Entry { lsn: Lsn { epoch: epoch.clone(), seq }, change });
        }
        self.ledger.append(&mut self.outbox, entries);
        self.outbox.after_write(Held::OwnVote(seq));
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
            Role::Active(active) if !self.is_ready() || active.leaving.is_some() => {
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
        let mut seq = self.ledger.log.last().seq;
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
            (self.config.alone || self.peer.counts_as_off(), self.kept_by_witnesses());
        let Some(active) = self.active() else { return };
        let seq = if alone || mutant::on(Mutant::CommitWithOneVote) {
            active.own
        } else {
            active.own.min(active.follower.acked.max(by_witnesses))
        };
        // Entries of earlier reigns are committed by one of ours only: counting votes for them is not enough.
        if seq < active.began {
            return;
        }
        let names_witnesses = self.ledger.names_witnesses_until(seq);
        self.ledger.commit_to(&mut self.outbox, seq);
        // What was learnt is committed by an entry of this reign.
        self.ledger.set_unsure(&mut self.outbox, false);
        if names_witnesses {
            // Until it is told, the peer cannot commit it without this node.
            self.tell_commit();
        }
        while let Some(active) = self.active()
            && let Some((at, id)) = active.pending.front().copied()
            && at <= seq
        {
            active.pending.pop_front();
            if let Some(change) = self.ledger.log.entry(at).map(|entry| entry.change.clone()) {
                self.answer(id, Ok(change));
            }
        }
    }

    /// What a follower may take for committed: nothing before our own first entry is, as until then what we learnt from
    /// one voter may yet be replaced.
    fn told_commit(&self) -> u64 {
        match &self.role {
            Role::Active(active) if self.ledger.commit >= active.began => self.ledger.commit,
            Role::Active(_) | Role::Standby { .. } | Role::Probing(_) | Role::Claiming(_) => 0,
        }
    }

    /// What the peer holds. One that lost its table has forgotten its promises, perhaps one to a reign that replaced
    /// ours: before it is taken in most of the witnesses must promise to a claim that began after that loss.
    pub(super) fn meet(&mut self, holds: &Holds) {
        self.look_at_peer(holds);
        let blank = self.peer.blank;
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
        let now = self.now;
        let Some(active) = self.active().filter(|active| !active.follower.matched) else { return };
        active.follower.waiting.get_or_insert(now);
        active.follower.beat = now;
        self.send_append(self.ledger.log.last().clone(), Vec::new());
    }

    /// Sends a matched peer what it has not been sent.
    fn send_entries(&mut self) {
        let log = &self.ledger.log;
        let Some(active) = self.role.active_mut() else { return };
        let follower = &mut active.follower;
        if !follower.matched || follower.sent >= log.last().seq {
            return;
        }
        let Some(prev) = log.lsn(follower.sent).cloned() else { return };
        let most = self.config.limits.append_max;
        let entries: Vec<Entry> = log.after(follower.sent).take(most).cloned().collect();
        follower.sent = entries.last().map_or(follower.sent, |entry| entry.lsn.seq);
        follower.waiting.get_or_insert(self.now);
        follower.beat = self.now;
        self.send_append(prev, entries);
    }

    /// A sign of life, with how far the reign has committed.
    pub(super) fn beat(&mut self) {
        let Some(active) = self.role.active_mut() else { return };
        active.follower.waiting.get_or_insert(self.now);
        if let Some(prev) = self.ledger.log.lsn(active.follower.sent).cloned() {
            self.send_append(prev, Vec::new());
        }
    }

    /// Tells the peer how far the reign has committed.
    fn tell_commit(&mut self) {
        if self.role.active().is_some_and(|active| active.follower.matched) {
            self.beat();
        } else {
            self.feed_peer();
        }
    }

    /// Sends the peer entries of this reign that follow `prev`.
    fn send_append(&mut self, prev: Lsn, entries: Vec<Entry>) {
        let commit = self.told_commit();
        let Some(active) = self.role.active() else { return };
        let (epoch, round) = (active.epoch.clone(), active.voices.round);
        self.send(PeerMsg::Append { epoch, prev, entries, commit, round });
    }

    pub(super) fn on_ack(&mut self, epoch: &Epoch, last: u64, round: u64) {
        let (now, last) = (self.now, last.min(self.ledger.log.last().seq));
        let Some(active) = self.role.active_mut().filter(|active| active.epoch == *epoch) else {
            return;
        };
        active.voted = now;
        active.vouched = false;
        active.voices.answered(round);
        (self.peer.blank, self.peer.foreign) = (false, false);
        let follower = &mut active.follower;
        if !follower.matched {
            follower.matched = true;
            follower.sent = last;
        }
        follower.acked = follower.acked.max(last);
        follower.waiting = (follower.acked < follower.sent).then_some(now);
        self.try_commit();
        self.send_entries();
        self.consider_synced();
        self.form_pair();
        self.move_base();
    }

    /// The peer lacks something, or has something else.
    pub(super) fn on_behind(&mut self, epoch: &Epoch, holds: &Holds) {
        let reigns = |active: &Active| active.epoch == *epoch;
        if !self.role.active().is_some_and(reigns) {
            return;
        }
        self.meet(holds);
        let Some(active) = self.role.active_mut() else { return };
        match self.ledger.supply_to_follower(holds) {
            Supply::Entries { prev, mut entries } => {
                entries.truncate(self.config.limits.append_max);
                let sent = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
                active.follower.expect(sent, self.now);
                self.send_append(prev, entries);
            }
            Supply::Image(image) => {
                active.follower.expect(self.ledger.log.last().seq, self.now);
                self.send(PeerMsg::Snapshot { epoch: epoch.clone(), image });
            }
            Supply::Nothing => {}
        }
    }

    /// The peer is wanted where it is.
    pub(super) fn on_wish(&mut self, planned: bool) {
        let votes = self.votes_now();
        let (wanted, until) = (self.candidacy.want, self.now + self.config.ack_timeout_ms);
        if planned {
            self.candidacy.relieved = self.candidacy.want;
            self.candidacy.want = false;
        }
        // One that is not up to date would only have to be brought there before it can reign.
        let blank = self.peer.blank;
        if let Some(active) = self.active()
            && ((planned && !blank) || (!wanted && active.is_synced()) || !votes)
        {
            active.leaving.get_or_insert(until);
        }
    }

    /// Signs of life, answers that did not come, and stepping down in good order.
    pub(super) fn active_time(&mut self) {
        let (now, link, counts) = (self.now, self.peer.is_up, self.peer.counts_as_off());
        if self.config.alone {
            return self.greet();
        }
        let (beat, timeout) = (self.config.heartbeat_ms, self.config.ack_timeout_ms);
        let Some(active) = self.active() else { return };
        if active.leaving.is_some_and(|until| active.pending.is_empty() || now >= until) {
            let epoch = active.epoch.clone();
            self.step_down(None);
            self.candidacy.not_before = now + timeout * 2;
            return self.send(PeerMsg::Yield { epoch });
        }
        if !counts && !active.has_votes(now) && !active.pending.is_empty() {
            // Nobody is kept waiting for votes that may not come back soon. What was proposed may yet be committed.
            for (_, id) in std::mem::take(&mut active.pending) {
                self.answer(id, Err(Failure::Unknown));
            }
        }
        let Some(active) = self.active() else { return };
        let overdue = active.follower.waiting.is_some_and(|since| now >= since + timeout);
        if overdue {
            let acked = active.follower.acked;
            active.follower = Follower { acked, ..active.follower.forgotten() };
        }
        if overdue {
            self.go_solo();
        }
        let Some(active) = self.active() else { return };
        if link && now >= active.follower.beat + beat {
            active.follower.beat = now;
            self.tell_commit();
        }
        self.witness_time();
        self.greet();
    }
}
