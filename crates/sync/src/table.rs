//! The handle on the session table: proposing changes, looking, and telling the replica what happened outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};
use vsm_core::{
    AgentName, Change, Epoch, Fence, Incarnation, LineageId, Proposal,
    replica::{Config, Event, PeerMsg, WitnessReply},
};

use crate::{
    owner::{Command, Outbox, Owner},
    store::{Store, StoreError},
    view::{ProposeError, State, View},
};

/// Commands that wait for the owner; beyond it callers wait, each with its own deadline.
const QUEUE_BOUND: usize = 1024;
/// Messages that wait to be sent to the peer; beyond it the connection is given up, and what was missed follows later.
pub(crate) const PEER_BOUND: usize = 1024;
/// Reigns are counted one by one: whoever names an epoch further ahead than this is damaged or lies, and following it
/// would use up the counter.
pub const EPOCH_JUMP_MAX: u64 = 1 << 32;
/// How long a new reign above an agent's promise may take, its disk flushes included.
const RAISE_WAIT: Duration = Duration::from_secs(5);

/// A handle on the table; clones share it. The owner ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct SessionTable {
    queue: mpsc::Sender<Command>,
    view: Arc<RwLock<View>>,
    state: watch::Receiver<Arc<State>>,
    serving: watch::Receiver<bool>,
    incarnation: Incarnation,
    alone: bool,
    links: Arc<AtomicU64>,
}

impl SessionTable {
    /// Opens the table and starts the owner, a task of the runtime that this is called in. A node that is alone reigns
    /// when this returns; another one once it is told to ([`SessionTable::want`]) and has the votes.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub fn start(
        store: impl Store + 'static,
        config: Config,
        incarnation: Incarnation,
        outbox: Outbox,
    ) -> Result<Self, StoreError> {
        let alone = config.alone;
        let (queue, commands) = mpsc::channel(QUEUE_BOUND);
        let (owner, view, state) = Owner::open(store, config, outbox)?;
        let serving = owner.serving.subscribe();
        owner.spawn(commands);
        Ok(Self { queue, view, state, serving, incarnation, alone, links: Arc::default() })
    }

    /// Asks for a change; returns once it is committed.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, proposal: Proposal) -> Result<Change, ProposeError> {
        self.ask(|reply| Command::Propose(proposal, reply)).await?
    }

    /// Tells that an agent has promised to `seen`. A node that is alone begins a reign above it, if its own is not, and
    /// this returns when it reigns; one of a pair is active no more. The epoch that holds then.
    ///
    /// # Errors
    /// If the owner is stopping, or the new reign cannot be made durable.
    pub async fn raise_above(&self, seen: Epoch) -> Result<Epoch, ProposeError> {
        self.send(Command::Event(Event::Fenced(seen.clone()))).await?;
        if self.alone {
            let mut state = self.state.clone();
            let above = state.wait_for(|state| state.serving().is_some_and(|own| *own >= seen));
            if tokio::time::timeout(RAISE_WAIT, above).await.is_err() {
                let fault = self.state.borrow().fault.clone();
                return Err(fault.map_or(ProposeError::NotActive, ProposeError::Store));
            }
        }
        Ok(self.read(|view| view.epoch.clone()))
    }

    /// Takes up a lineage that an agent, or the other broker, knows, if this table holds nothing. Whether the table is
    /// of that lineage then.
    ///
    /// # Errors
    /// If it cannot be made durable, or the owner is stopping.
    pub async fn take_up(&self, lineage: LineageId) -> Result<bool, ProposeError> {
        self.ask(|reply| Command::TakeUp(lineage, reply)).await?
    }

    /// Tells whether this node is to be active.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn want(&self, want: bool) -> Result<(), ProposeError> {
        self.send(Command::Event(Event::Want(want))).await
    }

    /// Says that the peer was switched off so long ago, by something that is certain of it. Whether its vote counts as
    /// given from then on; it does once [`Status::peer_off`](vsm_core::replica::Status::peer_off) says so.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn peer_off(&self, ago: Duration) -> Result<bool, ProposeError> {
        let (reply, taken) = oneshot::channel();
        let command = Command::PeerOff(ago, reply);
        self.queue.send(command).await.map_err(|_| ProposeError::Stopping)?;
        taken.await.map_err(|_| ProposeError::Stopping)
    }

    /// Asks an active peer to step down in good order, and this node to follow it on.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn take_over(&self) -> Result<(), ProposeError> {
        self.send(Command::Event(Event::TakeOver)).await
    }

    /// What a witness answered.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn witness(&self, agent: AgentName, reply: WitnessReply) -> Result<(), ProposeError> {
        if let WitnessReply::Refused { promised } = &reply
            && self.is_beyond_reason(promised)
        {
            tracing::error!(%agent, %promised, "a witness names an epoch beyond all reason; not following it");
            return Ok(());
        }
        self.send(Command::Event(Event::Witness(agent, reply))).await
    }

    /// A witness can be reached.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn witness_up(&self, agent: AgentName) -> Result<(), ProposeError> {
        self.send(Command::Event(Event::WitnessUp(agent))).await
    }

    /// Writes also what no answer waits for, before a stop: that a change is committed, say. Without it a crash loses
    /// nothing, but a node that starts again shows that change only when it has heard once more that it is committed.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Command::Flush(reply)).await.is_ok() {
            // An owner that is gone has nothing left to write.
            let _ = done.await;
        }
    }

    /// Waits until the task that owns the table has ended: then nothing can be read or changed any more.
    /// What is returned is no handle: it keeps the task from nothing that it does when the last one is dropped.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut states = self.watch();
        async move { while states.changed().await.is_ok() {} }
    }

    /// Opens a connection to the peer; it replaces a former one. What is to be sent comes out of the receiver, which
    /// ends when another connection was opened or too much waited in it.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn connect(&self) -> Result<(PeerLink, mpsc::Receiver<PeerMsg>), ProposeError> {
        let id = self.links.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = mpsc::channel(PEER_BOUND);
        self.send(Command::PeerUp(id, sender)).await?;
        Ok((PeerLink { id, queue: self.queue.clone() }, receiver))
    }

    /// Looks at the committed state. Keep it short: the owner waits for readers before it publishes.
    pub fn read<R>(&self, look: impl FnOnce(&View) -> R) -> R {
        look(&self.view.read())
    }

    /// How the replica is now.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Follows how the replica is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Follows whether this node serves, and nothing else: it changes seldom, where [`SessionTable::watch`] changes
    /// with each commit.
    #[must_use]
    pub fn watch_serving(&self) -> watch::Receiver<bool> {
        self.serving.clone()
    }

    /// Whether an epoch is so far above all that this node has heard of that whoever names it is damaged.
    #[must_use]
    pub fn is_beyond_reason(&self, epoch: &Epoch) -> bool {
        let seen = self.state.borrow().replica.seen.counter;
        epoch.counter > seen.saturating_add(EPOCH_JUMP_MAX)
    }

    /// Whether this node serves: it is active, and all that was committed before is committed again.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.state.borrow().serving().is_some()
    }

    /// Whether this node knows who has a session: [`View::known`](crate::View::known).
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.read(|view| view.known)
    }

    /// By what right this broker asks agents for something now.
    #[must_use]
    pub fn fence(&self) -> Fence {
        let (epoch, lineage) = self.read(|view| (view.epoch.clone(), view.lineage));
        Fence { epoch, incarnation: self.incarnation, lineage }
    }

    /// The process' random number.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    async fn send(&self, command: Command) -> Result<(), ProposeError> {
        self.queue.send(command).await.map_err(|_| ProposeError::Stopping)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| ProposeError::Stopping)
    }
}

/// An open connection to the peer.
#[derive(Debug, Clone)]
pub struct PeerLink {
    id: u64,
    queue: mpsc::Sender<Command>,
}

impl PeerLink {
    /// Its number: a later connection has a higher one.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// The peer says something.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn receive(&self, message: PeerMsg) -> Result<(), ProposeError> {
        let command = Command::Peer(self.id, message);
        self.queue.send(command).await.map_err(|_| ProposeError::Stopping)
    }

    /// Room for one message of the peer's: when it is got, the one before was taken.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn taken(&self) -> Result<(), ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command::Ping(reply)).await.map_err(|_| ProposeError::Stopping)?;
        answer.await.map_err(|_| ProposeError::Stopping)
    }

    /// The peer is at something that takes long.
    ///
    /// # Errors
    /// If the owner is stopping.
    pub async fn busy(&self) -> Result<(), ProposeError> {
        self.queue.send(Command::PeerBusy(self.id)).await.map_err(|_| ProposeError::Stopping)
    }

    /// The connection is gone.
    pub async fn close(self) {
        // An owner that has stopped needs to be told nothing.
        let _ = self.queue.send(Command::PeerDown(self.id)).await;
    }
}
