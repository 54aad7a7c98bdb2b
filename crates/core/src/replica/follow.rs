//! Following an active peer: taking its entries, or its whole table.

use super::{
    claim::outranks,
    log::Entry,
    message::{Image, PeerMsg},
    mutant::{self, Mutant},
    node::{Held, Replica, Role},
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
        self.heard_last = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
        let joins = if mutant::on(Mutant::PrevUnchecked) {
            self.log.lsn(prev.seq).is_some()
        } else {
            self.log.contains(prev)
        };
        if !self.joined || !joins {
            let holds = self.holds();
            return self.after_write(Held::Send(PeerMsg::Behind { epoch, holds }));
        }
        // The reign is of the same life.
        self.foreign = None;
        // Only as far as we know that we agree: beyond it there may be entries of a reign that was replaced.
        let agreed = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
        let new: Vec<Entry> =
            entries.into_iter().skip_while(|entry| self.log.contains(&entry.lsn)).collect();
        if let Some(first) = new.first() {
            let seq = first.lsn.seq - 1;
            if seq < self.commit {
                // What we took for committed came from a reign that never was complete: the whole table is sent.
                let holds = self.holds();
                return self.after_write(Held::Send(PeerMsg::Behind { epoch, holds }));
            }
            self.truncate(seq);
            self.append(new);
        }
        self.commit_to(commit.min(agreed));
        if commit > 0 && self.commit <= agreed {
            // The sender holds durably what we have committed: a window of ours may begin there.
            self.set_mark(None);
            self.unsure = false;
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
        let own = self.log.last();
        // A late one would take back what was acknowledged since.
        if !(self.joined && own.epoch == last.epoch && own.seq >= last.seq) {
            self.install(image);
            // The sender may have learnt some of it from one voter; when it is ready it says so.
            self.unsure = true;
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
            self.after_write(Held::Send(ack));
        }
    }

    /// Whether the sender reigns, as far as we know; then we follow it.
    fn follow(&mut self, epoch: &Epoch) -> bool {
        self.see(epoch);
        if *epoch != self.promised && !outranks(epoch, &self.promised) {
            let promised = self.promised.clone();
            self.send(PeerMsg::Stale { promised });
            return false;
        }
        match &mut self.role {
            Role::Standby { leader, heard_ms } => {
                *leader = Some(epoch.clone());
                *heard_ms = self.now;
                self.attempts = 0;
            }
            Role::Probing(_) | Role::Claiming(_) | Role::Active(_) => {
                self.step_down(Some(epoch.clone()));
            }
        }
        if *epoch != self.promised {
            self.promised = epoch.clone();
            self.writing().promised = Some(epoch.clone());
        }
        true
    }
}
