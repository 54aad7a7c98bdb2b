//! Following an active peer: taking its entries, or its whole table.

use super::{
    log::Entry,
    message::{Image, PeerMsg},
    node::{Held, Replica, Role},
};
use crate::{Epoch, Lsn};

impl Replica {
    /// Entries of an active peer, or its sign of life.
    pub(super) fn on_append(&mut self, epoch: Epoch, prev: &Lsn, entries: Vec<Entry>, commit: u64) {
        if !self.follow(&epoch) {
            return;
        }
        if !self.joined || !self.log.contains(prev) {
            let holds = self.holds();
            return self.after_write(Held::Send(PeerMsg::Behind { epoch, holds }));
        }
        // Only as far as we know that we agree: beyond it there may be entries of a reign that was replaced.
        let agreed = entries.last().map_or(prev.seq, |entry| entry.lsn.seq);
        let new: Vec<Entry> =
            entries.into_iter().skip_while(|entry| self.log.contains(&entry.lsn)).collect();
        if let Some(first) = new.first() {
            let seq = first.lsn.seq - 1;
            if seq < self.commit {
                // Not reached while the rules hold; a node whose disk went back in time starts over.
                let holds = super::Holds { joined: false, ..self.holds() };
                return self.after_write(Held::Send(PeerMsg::Behind { epoch, holds }));
            }
            self.truncate(seq);
            self.append(new);
        }
        self.commit_to(commit.min(agreed));
        self.after_write(Held::Send(PeerMsg::Ack { epoch, last: agreed }));
    }

    /// The whole table of an active peer.
    pub(super) fn on_snapshot(&mut self, epoch: Epoch, image: Image) {
        if self.follow(&epoch) {
            self.install(image);
            let last = self.log.last().seq;
            self.after_write(Held::Send(PeerMsg::Ack { epoch, last }));
        }
    }

    /// Whether the sender reigns, as far as we know; then we follow it.
    fn follow(&mut self, epoch: &Epoch) -> bool {
        self.see(epoch);
        if *epoch < self.promised {
            let promised = self.promised.clone();
            self.send(PeerMsg::Stale { promised });
            return false;
        }
        match &mut self.role {
            Role::Standby { leader, heard_ms } => {
                *leader = Some(epoch.clone());
                *heard_ms = self.now;
            }
            Role::Claiming(_) | Role::Active(_) => self.step_down(Some(epoch.clone())),
        }
        if *epoch > self.promised {
            self.promised = epoch.clone();
            self.writing().promised = Some(epoch.clone());
        }
        if self.window_base.is_some() {
            // It is the active node that keeps the witnesses now.
            self.set_window_base(None);
        }
        true
    }
}
