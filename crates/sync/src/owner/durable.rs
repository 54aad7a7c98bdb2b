//! The owner's writes: what is made durable when, and what happens when it cannot be.

use std::sync::Arc;

use tokio::time::Instant;
use vsm_core::{
    Row,
    replica::{Event, Replica, Token, Touched, Write},
};

use super::{FAULT_RETRY, Fault, LAZY, Owner};
use crate::{
    store::{Loaded, Store, StoreError},
    view::ProposeError,
};

/// So many changed rows are written with the next entries, so that no write is a long one.
const ROWS_MAX: usize = 128;

impl<S: Store + 'static> Owner<S> {
    pub(super) const fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty() || self.late_commit.is_some()
    }

    /// Makes durable what something waits for, and all before it but what may come later.
    pub(super) fn write(&mut self, all: bool) -> Result<(), StoreError> {
        while self.has_unwritten() {
            let due = all || self.is_due();
            if !due && !self.replica.waits_for_write() {
                break;
            }
            if !due && self.entries_are_enough() {
                self.write_entries()?;
            } else {
                self.write_all()?;
            }
            self.step(Event::Stored(self.token));
        }
        Ok(())
    }

    /// Whether to write, show and answer takes a moment, on a good disk.
    pub(super) fn is_short(&self) -> bool {
        self.fault.is_none()
            && !self.to_show.whole
            && (!self.has_unwritten() || (!self.is_due() && self.entries_are_enough()))
    }

    fn is_due(&self) -> bool {
        self.since.elapsed() >= LAZY
    }

    /// Whether nothing else has to be written with them: no state of the replica, and not too many rows.
    fn entries_are_enough(&self) -> bool {
        let few_rows = !self.to_write.whole && self.to_write.keys.len() < ROWS_MAX;
        few_rows && self.unwritten.iter().all(is_only_entries)
    }

    /// Writes the entries alone; what of them is committed follows.
    fn write_entries(&mut self) -> Result<(), StoreError> {
        for write in &mut self.unwritten {
            // Commits only grow.
            self.late_commit = write.commit.take().or(self.late_commit);
        }
        self.unwritten.retain(|write| !write.append.is_empty());
        if !self.unwritten.is_empty() {
            self.store.write(&self.unwritten, &[])?;
            self.unwritten.clear();
        }
        Ok(())
    }

    fn write_all(&mut self) -> Result<(), StoreError> {
        if let Some(commit) = self.late_commit {
            // Before the others: what they cut off, install or forget is beyond it, or of it.
            let late = Write { commit: Some(commit), ..Write::default() };
            self.unwritten.insert(0, late);
        }
        let table = self.replica.table();
        let rows: Vec<Row> = if self.to_write.whole {
            table.rows().collect()
        } else {
            self.to_write.keys.iter().filter_map(|key| table.row(key)).collect()
        };
        self.store.write(&self.unwritten, &rows)?;
        self.unwritten.clear();
        self.late_commit = None;
        self.to_write = Touched::default();
        Ok(())
    }

    /// A write failed. What is in memory is ahead of the disk: it is thrown away and read again.
    pub(super) fn fail(&mut self, error: StoreError) {
        let error = Arc::new(error);
        tracing::error!(%error, changes = self.replies.len(), "cannot write the session table");
        self.answers.clear();
        for (_, reply) in self.replies.drain() {
            drop(reply.send(Err(ProposeError::Store(Arc::clone(&error)))));
        }
        self.fault = Some(Fault { error, retry: Instant::now() + FAULT_RETRY });
        // With HA on the peer is to see that this node is away. Reading may do where writing does not: a node that is
        // alone goes on at once, with look-ups and with the next attempt.
        self.peer = None;
        self.reload();
    }

    /// Starts the replica again from the disk.
    fn reload(&mut self) {
        let now = self.now();
        match self.store.load() {
            Ok(Loaded { disk, .. }) => {
                self.unwritten.clear();
                self.late_commit = None;
                self.to_write = Touched::default();
                self.to_show = Touched::default();
                if self.config.alone {
                    self.replica = Replica::resume(self.config.clone(), disk, now);
                    self.fault = None;
                } else {
                    self.replica = Replica::new(self.config.clone(), disk, now);
                }
                self.token = Token::default();
                self.to_write = self.replica.take_touched();
                self.to_show.whole = true;
                self.step(Event::Want(self.want && self.config.alone));
            }
            Err(error) => tracing::error!(%error, "cannot read the session table"),
        }
    }

    /// Tries a store that failed again.
    pub(super) fn recover(&mut self) {
        let Some(fault) = &mut self.fault else { return };
        if Instant::now() < fault.retry {
            return;
        }
        fault.retry = Instant::now() + FAULT_RETRY;
        if self.config.alone {
            return self.reload();
        }
        // A write that changes nothing, but has to reach the disk.
        let promised = Some(self.replica.status().promised);
        let probe = Write { promised, ..Write::default() };
        if self.store.write(&[probe], &[]).is_ok() {
            tracing::info!("the session table can be written again");
            self.fault = None;
            self.reload();
            self.step(Event::Want(self.want));
        }
    }
}

/// Whether a write adds entries, or says that some are committed, and nothing else.
const fn is_only_entries(write: &Write) -> bool {
    let Write { install, truncate, append: _, commit: _, promised, mark, trim, unsure, peer_off } =
        write;
    install.is_none()
        && truncate.is_none()
        && promised.is_none()
        && mark.is_none()
        && trim.is_none()
        && unsure.is_none()
        && peer_off.is_none()
}
