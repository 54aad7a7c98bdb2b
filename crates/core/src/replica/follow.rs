//! Following an active peer: taking its entries, or its whole table.

use super::{
    ledger::outranks,
    log::Entry,
    message::{Image, PeerMsg},
    mutant::{self, Mutant},
    node::Replica,
    outbox::Held,
    role::Role,
};
use crate::{Epoch, Lsn};

impl Replica {
    /// Entries of an active peer, or its sign of life.
    pub(super) fn on_append(
        &mut self,
        epoch: Epoch,
        prev: &Lsn,
        entries: Vec<Entry>,
        commit: u64,
        round: u64,
    ) {
        if !self.follow(&epoch) {
            return;
        }
        self.peer.leader_last = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
        let joins = if mutant::on(Mutant::PrevUnchecked) {
            self.ledger.log.lsn(prev.seq).is_some()
        } else {
            self.ledger.log.contains(prev)
        };
        if !self.ledger.joined || !joins {
            let holds = self.ledger.holds();
            return self.outbox.after_write(Held::Send(PeerMsg::Behind { epoch, holds }));
        }
        // The reign is of the same life.
        self.ledger.foreign = None;
        // Only as far as we know that we agree: beyond it there may be entries of a reign that was replaced.
        let agreed = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
        let new: Vec<Entry> =
            entries.into_iter().skip_while(|entry| self.ledger.log.contains(&entry.lsn)).collect();
        if let Some(first) = new.first() {
            let seq = first.lsn.seq - 1;
            if seq < self.ledger.commit {
                // What we took for committed came from a reign that never was complete: the whole table is sent.
                let holds = self.ledger.holds();
                return self.outbox.after_write(Held::Send(PeerMsg::Behind { epoch, holds }));
            }
            self.ledger.truncate(&mut self.outbox, seq);
            self.ledger.append(&mut self.outbox, new);
        }
        let reversed = mutant::on(Mutant::OutOfOrder);
        self.ledger.commit_in_order(&mut self.outbox, commit.min(agreed), reversed);
        if commit > 0 && self.ledger.commit <= agreed {
            // The sender holds durably what we have committed: a window of ours may begin there.
            self.ledger.set_mark(&mut self.outbox, None);
            self.ledger.set_unsure(&mut self.outbox, false);
        }
        if commit > 0 && commit <= agreed {
            self.is_whole();
        }
        self.acknowledge(epoch, agreed, round);
    }

    /// The whole table of an active peer.
    pub(super) fn on_snapshot(&mut self, epoch: Epoch, image: Image) {
        if !self.follow(&epoch) {
            return;
        }
        let last = image.entries.last().map_or(&image.at, |entry| &entry.lsn).clone();
        let own = self.ledger.log.last();
        // A late one would take back what was acknowledged since.
        if !(self.ledger.joined && own.epoch == last.epoch && own.seq >= last.seq) {
            self.ledger.install(&mut self.outbox, image);
        }
        // Whoever is active has all that was committed, and sends all that it has.
        self.is_whole();
        self.acknowledge(epoch, last.seq, 0);
    }

    fn acknowledge(&mut self, epoch: Epoch, last: u64, round: u64) {
        let ack = PeerMsg::Ack { epoch, last, round };
        if mutant::on(Mutant::AckBeforeWrite) {
            self.send(ack);
        } else {
            self.outbox.after_write(Held::Send(ack));
        }
    }

    /// Whether the sender reigns, as far as we know; then we follow it.
    fn follow(&mut self, epoch: &Epoch) -> bool {
        self.candidacy.see(epoch);
        if *epoch != self.ledger.promised && !outranks(epoch, &self.ledger.promised) {
            let promised = self.ledger.promised.clone();
            self.send(PeerMsg::Stale { promised });
            return false;
        }
        match &mut self.role {
            Role::Standby { leader, heard } => {
                *leader = Some(epoch.clone());
                *heard = self.now;
                self.candidacy.attempts = 0;
            }
            Role::Probing(_) | Role::Claiming(_) | Role::Active(_) => {
                self.step_down(Some(epoch.clone()));
            }
        }
        if *epoch != self.ledger.promised {
            self.ledger.promise(&mut self.outbox, epoch.clone());
        }
        true
    }
}
