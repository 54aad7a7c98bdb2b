//! The table's owner: one task that drives the replica. It takes commands from a bounded queue, hands them to the
//! replica together, sends what is to be sent, makes the replica's writes durable in one transaction, and answers.
//!
//! A write of a few entries is made where the task runs: handing it to another thread and back takes as long as a good
//! disk. Whatever may take longer hands the thread's other tasks over first (`long`). The runtime has two threads at
//! least.
//!
//! There are two copies of the table, which share their sessions: the replica's, and the one that readers see.
//!
//! What somebody waits for is that entries are in the log: that alone is written at once. That they are committed, and
//! the rows that they change, follow for many of them together, a little later: a node that starts learns from its log
//! and from the votes what was committed.

mod durable;
mod tell;

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use vsm_core::{
    AgentName, Change, Epoch, LineageId, Proposal, Table,
    replica::{
        Action, Config, Event, PeerMsg, Replica, Standing, Token, Touched, WitnessMsg, Write,
    },
};

use crate::{
    store::{Loaded, Store, StoreError},
    view::{ProposeError, State, View},
};

/// Commands that share one flush. Larger batches would only make the first caller wait.
const BATCH_MAX: usize = 256;
/// Changes that wait for votes.
const PENDING_MAX: usize = 8192;
/// After so long a write on which nothing waits is made.
const LAZY: Duration = Duration::from_millis(200);
/// How often a store that failed is tried again.
const FAULT_RETRY: Duration = Duration::from_millis(500);

type Reply = oneshot::Sender<Result<Change, ProposeError>>;

pub(crate) enum Command {
    Propose(Proposal, Reply),
    Event(Event),
    PeerUp(u64, mpsc::Sender<PeerMsg>),
    PeerDown(u64),
    Peer(u64, PeerMsg),
    PeerBusy(u64),
    /// The peer was switched off so long ago.
    PeerOff(Duration, oneshot::Sender<bool>),
    TakeUp(LineageId, oneshot::Sender<Result<bool, ProposeError>>),
    Ping(oneshot::Sender<()>),
    Flush(oneshot::Sender<()>),
}

impl Command {
    /// Whether it is of those that come again and again, none of which has to do with the whole table.
    const fn is_short(&self) -> bool {
        match self {
            Self::Propose(..) | Self::PeerBusy(_) | Self::Ping(_) => true,
            Self::Event(event) => matches!(event, Event::Want(_)),
            Self::Peer(_, message) => {
                matches!(message, PeerMsg::Append { .. } | PeerMsg::Ack { .. })
            }
            Self::PeerUp(..)
            | Self::PeerDown(_)
            | Self::PeerOff(..)
            | Self::TakeUp(..)
            | Self::Flush(_) => false,
        }
    }
}

/// Where messages to the witnesses go; one that finds it full is lost, and asked again.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Messages to witnesses.
    pub witnesses: mpsc::Sender<(AgentName, WitnessMsg)>,
}

impl Outbox {
    /// For a node that is alone.
    #[must_use]
    pub fn none() -> Self {
        Self { witnesses: mpsc::channel(1).0 }
    }
}

struct Fault {
    error: Arc<StoreError>,
    retry: Instant,
}

pub(crate) struct Owner<S> {
    store: S,
    config: Config,
    replica: Replica,
    outbox: Outbox,
    began: Instant,
    peer: Option<(u64, mpsc::Sender<PeerMsg>)>,
    want: bool,
    replies: HashMap<u64, Reply>,
    next_id: u64,
    answers: Vec<(u64, Result<Change, ProposeError>)>,
    unwritten: Vec<Write>,
    /// Committed up to here, and the rows in `to_write` are not written yet.
    late_commit: Option<u64>,
    /// When the first of `unwritten`, or `late_commit`, was made.
    since: Instant,
    token: Token,
    to_write: Touched,
    to_show: Touched,
    fault: Option<Fault>,
    view: Arc<RwLock<View>>,
    state: watch::Sender<Arc<State>>,
    /// Whether `state` serves: for those who would be woken by each commit otherwise.
    pub(crate) serving: watch::Sender<bool>,
}

type Opened<S> = (Owner<S>, Arc<RwLock<View>>, watch::Receiver<Arc<State>>);

impl<S: Store + 'static> Owner<S> {
    pub(crate) fn open(
        mut store: S,
        config: Config,
        outbox: Outbox,
    ) -> Result<Opened<S>, StoreError> {
        let Loaded { lineage, disk } = store.load()?;
        let replica = Replica::new(config.clone(), disk, 0);
        // What may be of one voter alone is shown once a reign has committed it.
        let known = replica.is_sure() && replica.status().joined;
        let (table, last_seq) = match replica.is_sure() {
            true => (replica.table().clone(), replica.commit()),
            false => (Table::default(), 0),
        };
        let view = View { table, epoch: Epoch::zero(), last_seq, known, lineage };
        let view = Arc::new(RwLock::new(view));
        let first = State { replica: replica.status(), fault: None };
        let (state, watched) = watch::channel(Arc::new(first));
        let mut owner = Self {
            store,
            config,
            replica,
            outbox,
            began: Instant::now(),
            peer: None,
            want: false,
            replies: HashMap::new(),
            next_id: 0,
            answers: Vec::new(),
            unwritten: Vec::new(),
            late_commit: None,
            since: Instant::now(),
            token: Token::default(),
            to_write: Touched::default(),
            to_show: Touched { whole: true, ..Touched::default() },
            fault: None,
            view: Arc::clone(&view),
            state,
            serving: watch::Sender::new(false),
        };
        if owner.config.alone {
            owner.want = true;
            owner.step(Event::Want(true));
            owner.write(true)?;
            owner.publish();
        }
        Ok((owner, view, watched))
    }

    /// As a task of the runtime that this is called in, on its clock: beside the stream's tasks, so that what is sent
    /// and what comes needs no other thread to wake up.
    pub(crate) fn spawn(self, commands: mpsc::Receiver<Command>) {
        tokio::spawn(self.run(commands));
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let received = match self.patience() {
                Some(wait) => {
                    let next = commands.recv_many(&mut batch, BATCH_MAX);
                    tokio::time::timeout(wait, next).await.ok()
                }
                None => Some(commands.recv_many(&mut batch, BATCH_MAX).await),
            };
            if received == Some(0) {
                // A crash here would lose nothing either.
                if let Err(error) = self.write(true) {
                    tracing::warn!(%error, "the last write before the stop failed; nothing that was answered is in it");
                }
                return;
            }
            self.serve(&mut batch).await;
        }
    }

    /// How long to wait for a command before there is something else to do.
    fn patience(&self) -> Option<Duration> {
        let beat = Duration::from_millis((self.config.heartbeat_ms / 4).max(5));
        let lazy = self.has_unwritten().then_some(LAZY);
        let fault = self.fault.as_ref().map(|_| FAULT_RETRY);
        [(!self.config.alone).then_some(beat), lazy, fault].into_iter().flatten().min()
    }

    async fn serve(&mut self, batch: &mut Vec<Command>) {
        if self.fault.is_none() && batch.iter().all(Command::is_short) {
            self.take_all(batch);
        } else {
            long(|| self.take_all(batch));
        }
        if self.has_unwritten() {
            // What was sent leaves first: the peer writes at the same time.
            tokio::task::yield_now().await;
        }
        if self.is_short() {
            self.settle();
        } else {
            long(|| self.settle());
        }
    }

    fn take_all(&mut self, batch: &mut Vec<Command>) {
        if self.fault.is_some() {
            self.recover();
        }
        let mut proposals = Vec::new();
        for command in batch.drain(..) {
            if let Command::Propose(proposal, reply) = command {
                if let Some(id) = self.accept(reply) {
                    proposals.push((id, proposal));
                }
                continue;
            }
            if !proposals.is_empty() {
                self.step(Event::Propose(mem::take(&mut proposals)));
            }
            self.take(command);
        }
        let last = if proposals.is_empty() { Event::Tick } else { Event::Propose(proposals) };
        self.step(last);
    }

    /// Makes durable what somebody waits for, then shows and answers.
    fn settle(&mut self) {
        if let Err(error) = self.write(false) {
            self.fail(error);
        }
        self.publish();
    }

    /// Room for one more proposal.
    fn accept(&mut self, reply: Reply) -> Option<u64> {
        let refusal = match &self.fault {
            Some(fault) => Some(ProposeError::Store(Arc::clone(&fault.error))),
            None if self.replies.len() >= PENDING_MAX => Some(ProposeError::Busy),
            None => None,
        };
        if let Some(refusal) = refusal {
            // A caller that went away needs no answer, here and below.
            drop(reply.send(Err(refusal)));
            return None;
        }
        self.next_id += 1;
        self.replies.insert(self.next_id, reply);
        Some(self.next_id)
    }

    fn take(&mut self, command: Command) {
        let current = |id: u64| self.peer.as_ref().is_some_and(|(own, _)| *own == id);
        match command {
            Command::Propose(..) => {}
            Command::Event(Event::Want(want)) => {
                self.want = want;
                self.step(Event::Want(want));
            }
            Command::Event(event) => self.step(event),
            Command::PeerUp(id, sender) if self.fault.is_none() => {
                if self.peer.replace((id, sender)).is_some() {
                    self.step(Event::Link(false));
                }
                self.step(Event::Link(true));
            }
            // Dropped: a node that cannot write is away.
            Command::PeerUp(..) => {}
            Command::PeerDown(id) if current(id) => self.cut(),
            Command::Peer(id, message) if current(id) => self.step(Event::Peer(message)),
            Command::PeerBusy(id) if current(id) => self.step(Event::PeerBusy),
            // Of a connection that was replaced.
            Command::PeerDown(_) | Command::Peer(..) | Command::PeerBusy(_) => {}
            Command::PeerOff(ago, reply) => {
                self.peer_off(ago);
                // Who asked may have gone.
                let _ = reply.send(self.replica.takes_peer_off());
            }
            Command::TakeUp(lineage, reply) => drop(reply.send(self.take_up(lineage))),
            Command::Ping(reply) => drop(reply.send(())),
            Command::Flush(reply) => {
                if self.fault.is_none()
                    && let Err(error) = self.write(true)
                {
                    self.fail(error);
                }
                // Who asked may have gone.
                let _ = reply.send(());
            }
        }
    }

    fn peer_off(&mut self, ago: Duration) {
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        self.step(Event::PeerOff(self.now().saturating_sub(ago_ms)));
        if !self.replica.status().link {
            // It took the word for it: whatever still comes on that connection is late.
            self.peer = None;
        }
    }

    fn cut(&mut self) {
        self.peer = None;
        self.step(Event::Link(false));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&mut self, event: Event) {
        let mut overrun = false;
        for action in self.replica.handle(self.now(), event) {
            match action {
                Action::Store(token, write) => {
                    if !self.has_unwritten() {
                        self.since = Instant::now();
                    }
                    self.unwritten.push(write);
                    self.token = token;
                }
                Action::ToPeer(message) => {
                    let gone =
                        |(_, peer): &(u64, mpsc::Sender<PeerMsg>)| peer.try_send(message).is_err();
                    overrun |= self.peer.as_ref().is_some_and(gone);
                }
                Action::ToWitness(agent, message) => {
                    // It is asked again when it does not answer.
                    let _ = self.outbox.witnesses.try_send((agent, message));
                }
                Action::Answer { id, result } => {
                    self.answers.push((id, result.map_err(Into::into)));
                }
            }
        }
        let touched = self.replica.take_touched();
        for list in [&mut self.to_write, &mut self.to_show] {
            list.whole |= touched.whole;
            list.keys.extend(touched.keys.iter().cloned());
        }
        if overrun {
            tracing::warn!(
                "the other broker does not keep up, or is gone; it will be brought up to date"
            );
            self.cut();
        }
    }

    fn take_up(&mut self, lineage: LineageId) -> Result<bool, ProposeError> {
        let table = self.replica.table();
        let holds = table.sessions().len() > 0 || table.tombstones().next().is_some();
        let own = self.view.read().lineage;
        if own == lineage || holds {
            return Ok(own == lineage);
        }
        self.store.set_lineage(lineage).map_err(|error| ProposeError::Store(Arc::new(error)))?;
        tracing::warn!(from = %own, to = %lineage, "this table is empty: taking up the lineage that others know");
        self.view.write().lineage = lineage;
        Ok(true)
    }

    /// Shows what was committed, then answers: a caller finds what it was told of.
    fn publish(&mut self) {
        let status = self.replica.status();
        {
            let table = self.replica.table();
            let mut view = self.view.write();
            if self.replica.is_sure() {
                let touched = mem::take(&mut self.to_show);
                if touched.whole {
                    view.table = table.clone();
                } else {
                    for row in touched.keys.iter().filter_map(|key| table.row(key)) {
                        view.table.set_row(&row);
                    }
                }
                view.last_seq = status.commit;
                view.known = status.joined;
            }
            if let Standing::Active { epoch, .. } = &status.standing {
                view.epoch.clone_from(epoch);
            }
        }
        let fault = self.fault.as_ref().map(|fault| Arc::clone(&fault.error));
        self.state.send_if_modified(|state| {
            let same = state.replica == status && state.fault.is_some() == fault.is_some();
            if !same {
                tell::tell(&state.replica.standing, &status.standing);
                *state = Arc::new(State { replica: status, fault });
            }
            !same
        });
        // After the state: whoever is woken finds it.
        let serves = self.state.borrow().serving().is_some();
        self.serving.send_if_modified(|before| mem::replace(before, serves) != serves);
        for (id, answer) in self.answers.drain(..) {
            if let Some(reply) = self.replies.remove(&id) {
                drop(reply.send(answer));
            }
        }
    }
}

/// Does what may take long. The other tasks of this thread go on elsewhere meanwhile, where there are other threads:
/// in a simulation there are none.
fn long<T>(work: impl FnOnce() -> T) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    tokio::task::block_in_place(work)
}
