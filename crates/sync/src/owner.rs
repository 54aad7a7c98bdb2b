//! The table's owner: one thread that takes proposals from a bounded queue, checks each against the table that the
//! ones before it made, writes what may be committed in one transaction, and answers only then.
//!
//! There are two copies of the table, which share their sessions. The owner's working copy runs ahead while a
//! transaction is written; the published one is what readers see and holds nothing that is not durable. Where a
//! transaction fails the working copy is thrown away, so a full disk leaves nothing half done.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    thread,
};

use tokio::sync::{mpsc, oneshot};
use vsm_core::{
    Change, Epoch, Fence, Incarnation, LineageId, Lsn, NodeName, Proposal, Rejected, Table,
};

use crate::store::{Entry, Store, StoreError};

/// Proposals that wait for the owner; beyond it callers wait, each with its own deadline.
const QUEUE_BOUND: usize = 1024;
/// Changes that share one flush. Larger batches would only make the first caller wait.
const BATCH_MAX: usize = 256;

/// Why a proposal was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// A rule forbids it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It could not be made durable; the text says why.
    #[error("the session table cannot be written: {0}")]
    Store(Arc<StoreError>),
    /// The owner is stopping.
    #[error("the broker is stopping")]
    Stopping,
}

/// What readers see: durable, all of it.
#[derive(Debug)]
pub struct View {
    /// The table.
    pub table: Table,
    /// The present reign.
    pub epoch: Epoch,
    /// Number of the last change.
    pub last_seq: u64,
    /// The table's lineage.
    pub lineage: LineageId,
}

enum Command {
    Propose(Proposal, oneshot::Sender<Result<Change, ProposeError>>),
    RaiseAbove(Epoch, oneshot::Sender<Result<Epoch, ProposeError>>),
    TakeUp(LineageId, oneshot::Sender<Result<bool, ProposeError>>),
}

/// A handle on the table; clones share it. The owner ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct SessionTable {
    queue: mpsc::Sender<Command>,
    view: Arc<RwLock<View>>,
    incarnation: Incarnation,
}

impl SessionTable {
    /// Opens the table, begins a reign of `node` above all that the store has seen, and starts the owner.
    ///
    /// # Errors
    /// If the store cannot be read or written, or no thread can be started.
    pub fn start(
        mut store: impl Store + 'static,
        node: NodeName,
        incarnation: Incarnation,
    ) -> Result<Self, StoreError> {
        let loaded = store.load()?;
        let epoch = match loaded.epochs.last() {
            Some((last, _)) => last.next(node),
            None => Epoch { counter: 1, node },
        };
        store.begin_epoch(&epoch, loaded.last_seq + 1)?;
        let published = View {
            table: loaded.table.clone(),
            epoch: epoch.clone(),
            last_seq: loaded.last_seq,
            lineage: loaded.lineage,
        };
        let view = Arc::new(RwLock::new(published));
        let (queue, commands) = mpsc::channel(QUEUE_BOUND);
        let owner = Owner {
            store,
            table: loaded.table,
            epoch,
            last_seq: loaded.last_seq,
            view: Arc::clone(&view),
        };
        thread::Builder::new()
            .name("table-owner".into())
            .spawn(move || owner.run(commands))
            .map_err(|source: io::Error| StoreError::Io {
                path: "thread table-owner".into(),
                source,
            })?;
        Ok(Self { queue, view, incarnation })
    }

    /// Asks for a change; returns once it is durable.
    ///
    /// # Errors
    /// If a rule forbids it, it cannot be made durable, or the owner is stopping.
    pub async fn propose(&self, proposal: Proposal) -> Result<Change, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Command::Propose(proposal, reply))
            .await
            .map_err(|_| ProposeError::Stopping)?;
        answer.await.map_err(|_| ProposeError::Stopping)?
    }

    /// Begins a new reign above `seen`, if the present one is not above it already; the epoch that holds then.
    ///
    /// # Errors
    /// If it cannot be made durable, or the owner is stopping.
    pub async fn raise_above(&self, seen: Epoch) -> Result<Epoch, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Command::RaiseAbove(seen, reply))
            .await
            .map_err(|_| ProposeError::Stopping)?;
        answer.await.map_err(|_| ProposeError::Stopping)?
    }

    /// Takes up a lineage that an agent knows, if this table is new: its broker lost its disk, and the agents are what
    /// is left of the table. Whether the table is of that lineage then.
    ///
    /// # Errors
    /// If it cannot be made durable, or the owner is stopping.
    pub async fn take_up(&self, lineage: LineageId) -> Result<bool, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Command::TakeUp(lineage, reply))
            .await
            .map_err(|_| ProposeError::Stopping)?;
        answer.await.map_err(|_| ProposeError::Stopping)?
    }

    /// Looks at the durable state. Keep it short: the owner waits for readers before it publishes.
    pub fn read<R>(&self, look: impl FnOnce(&View) -> R) -> R {
        look(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// By what right this broker asks agents for something now.
    #[must_use]
    pub fn fence(&self) -> Fence {
        let (epoch, lineage) = self.read(|view| (view.epoch.clone(), view.lineage));
        Fence { epoch, incarnation: self.incarnation, lineage }
    }
}

struct Owner<S> {
    store: S,
    table: Table,
    epoch: Epoch,
    last_seq: u64,
    view: Arc<RwLock<View>>,
}

impl<S: Store> Owner<S> {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while commands.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            self.serve(&mut batch);
        }
    }

    fn serve(&mut self, batch: &mut Vec<Command>) {
        let mut entries = Vec::new();
        let mut replies = Vec::new();
        for command in batch.drain(..) {
            match command {
                Command::Propose(proposal, reply) => match self.table.check(proposal) {
                    Ok(change) => {
                        self.table.apply(&change);
                        self.last_seq += 1;
                        let lsn = Lsn { epoch: self.epoch.clone(), seq: self.last_seq };
                        entries.push(Entry { lsn, change });
                        replies.push(reply);
                    }
                    // A caller that went away needs no answer, here and below.
                    Err(rejected) => drop(reply.send(Err(rejected.into()))),
                },
                Command::RaiseAbove(seen, reply) => {
                    self.commit(&mut entries, &mut replies);
                    drop(reply.send(self.raise_above(&seen)));
                }
                Command::TakeUp(lineage, reply) => {
                    self.commit(&mut entries, &mut replies);
                    drop(reply.send(self.take_up(lineage)));
                }
            }
        }
        self.commit(&mut entries, &mut replies);
    }

    /// Makes the entries durable, publishes them, then answers: in this order, or a reader or a caller would be told of
    /// something that a crash may take back.
    fn commit(
        &mut self,
        entries: &mut Vec<Entry>,
        replies: &mut Vec<oneshot::Sender<Result<Change, ProposeError>>>,
    ) {
        if entries.is_empty() {
            return;
        }
        let written = self.store.append(entries, &self.table).map_err(Arc::new);
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            match &written {
                Ok(()) => {
                    for entry in entries.iter() {
                        view.table.apply(&entry.change);
                    }
                    view.last_seq = self.last_seq;
                }
                Err(error) => {
                    tracing::error!(%error, changes = entries.len(), "cannot write the session table");
                    self.table = view.table.clone();
                    self.last_seq = view.last_seq;
                }
            }
        }
        for (entry, reply) in entries.drain(..).zip(replies.drain(..)) {
            let answer = written.clone().map(|()| entry.change).map_err(ProposeError::Store);
            drop(reply.send(answer));
        }
    }

    fn raise_above(&mut self, seen: &Epoch) -> Result<Epoch, ProposeError> {
        if *seen > self.epoch {
            let next = seen.next(self.epoch.node.clone());
            self.store
                .begin_epoch(&next, self.last_seq + 1)
                .map_err(|error| ProposeError::Store(Arc::new(error)))?;
            tracing::info!(from = %self.epoch, to = %next, "raised the epoch above one that an agent has promised to");
            self.epoch = next.clone();
            self.view.write().unwrap_or_else(PoisonError::into_inner).epoch = next;
        }
        Ok(self.epoch.clone())
    }

    fn take_up(&mut self, lineage: LineageId) -> Result<bool, ProposeError> {
        let own = self.view.read().unwrap_or_else(PoisonError::into_inner).lineage;
        if own == lineage || self.last_seq > 0 {
            return Ok(own == lineage);
        }
        self.store.set_lineage(lineage).map_err(|error| ProposeError::Store(Arc::new(error)))?;
        tracing::warn!(%lineage, "this table is new and the agents know another: taking that up again");
        self.view.write().unwrap_or_else(PoisonError::into_inner).lineage = lineage;
        Ok(true)
    }
}
