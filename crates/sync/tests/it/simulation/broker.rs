//! One broker on a simulated host: the table with its owner on the simulated clock, the stream over simulated TCP,
//! witnesses that are asked with delay and loss, and users who come to this node.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use turmoil::net::{TcpListener, TcpStream};
use uuid::Uuid;
use vsm_core::{
    AgentName, Incarnation, LineageId, Proposal, Row, SessionId, State, UserName,
    replica::{self, Limits, WitnessMsg, Write},
};
use vsm_proto::sync::v1::PeerFrame;
use vsm_sync::{
    Failing, Loaded, MemoryStore, Outbox, ProposeError, SessionTable, Store, StoreError,
    StoreSwitch,
    peer::{Card, MESSAGE_MAX, PeerConfig, PeerStream},
};

use super::{
    ledger::{CAP, Ledger},
    witness::{WITNESSES, Witnesses},
};
use crate::{NOW, id, reserve};

pub(crate) const NAMES: [&str; 2] = ["a", "b"];
const PORT: u16 = 904;
const USERS: u64 = 4;

/// Writes that a disk which lies keeps in its cache.
const CACHED: u32 = 8;

/// A disk: it outlives the process.
#[derive(Clone)]
struct Disk(Arc<Mutex<Platter>>);

struct Platter {
    store: MemoryStore,
    /// What is really there, if the disk lies.
    behind: Option<(MemoryStore, u32)>,
}

impl Store for Disk {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.0.lock().unwrap().store.load()
    }

    fn set_lineage(&mut self, lineage: LineageId) -> Result<(), StoreError> {
        self.0.lock().unwrap().store.set_lineage(lineage)
    }

    fn write(&mut self, writes: &[Write], rows: &[Row]) -> Result<(), StoreError> {
        let Platter { store, behind } = &mut *self.0.lock().unwrap();
        store.write(writes, rows)?;
        if let Some((there, count)) = behind {
            *count += 1;
            if count.is_multiple_of(CACHED) {
                there.clone_from(store);
            }
        }
        Ok(())
    }
}

/// Whether what was written is there after a crash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disks {
    /// It is.
    Keep,
    /// The last of it is not.
    Lie,
}

/// What makes a disk fail, and how often it had failed when its process began.
struct Switch {
    of: StoreSwitch,
    failed_before: AtomicU64,
}

/// What is outside of both brokers.
pub(crate) struct World {
    disks: [Disk; 2],
    tables: [Mutex<Option<SessionTable>>; 2],
    switches: [Switch; 2],
    witnesses: Mutex<Witnesses>,
    cut: [AtomicBool; 2],
    /// HA is switched off there, from the next start on.
    off: [AtomicBool; 2],
    stops: [Mutex<CancellationToken>; 2],
    /// Bits of witnesses that can be reached again, for each node.
    up: [AtomicU8; 2],
    address: AtomicU8,
    take_over: [AtomicBool; 2],
    users: AtomicBool,
    ledger: Mutex<Ledger>,
    next_id: AtomicU64,
    /// One for each thing that needs chance, in the order in which they come.
    seed: AtomicU64,
}

impl World {
    pub(crate) fn new(seed: u64, disks: Disks) -> Self {
        let disk = |n| {
            let store = MemoryStore::new(LineageId::new(Uuid::from_u128(n)));
            let behind = matches!(disks, Disks::Lie).then(|| (store.clone(), 0));
            Disk(Arc::new(Mutex::new(Platter { store, behind })))
        };
        let disks = [disk(1), disk(2)];
        let switches = [0, 1].map(|n: usize| Switch {
            of: disks[n].0.lock().unwrap().store.switch(),
            failed_before: AtomicU64::new(0),
        });
        Self {
            disks,
            tables: Default::default(),
            switches,
            witnesses: Mutex::new(Witnesses::new(&mut StdRng::seed_from_u64(seed))),
            cut: Default::default(),
            off: Default::default(),
            stops: Default::default(),
            up: [AtomicU8::new(7), AtomicU8::new(7)],
            address: AtomicU8::new(1),
            take_over: Default::default(),
            users: AtomicBool::new(true),
            ledger: Mutex::default(),
            next_id: AtomicU64::new(1),
            seed: AtomicU64::new(seed << 32),
        }
    }

    fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed.fetch_add(1, Ordering::SeqCst))
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(crate) fn crashed(&self, node: usize) {
        let Switch { of, failed_before } = &self.switches[node];
        failed_before.store(of.failed(), Ordering::SeqCst);
        *self.tables[node].lock().unwrap() = None;
        let Platter { store, behind } = &mut *self.disks[node].0.lock().unwrap();
        if let Some((there, _)) = behind {
            store.clone_from(there);
        }
    }

    pub(crate) fn cut_witnesses(&self, node: usize, cut: bool) {
        self.cut[node].store(cut, Ordering::SeqCst);
    }

    pub(crate) fn witnesses(&self) -> MutexGuard<'_, Witnesses> {
        self.witnesses.lock().unwrap()
    }

    /// Lines to a witness that restarted are there again.
    pub(crate) fn witness_up(&self, index: usize) {
        for up in &self.up {
            up.fetch_or(1 << index, Ordering::SeqCst);
        }
    }

    /// The disk fails, or is well again.
    pub(crate) fn fail_disk(&self, node: usize, failing: Option<Failing>) {
        let Switch { of, failed_before } = &self.switches[node];
        if failing.is_none()
            && of.failed() > failed_before.load(Ordering::SeqCst)
            && let Some(table) = self.table(node)
            && table.state().fault.is_none()
        {
            self.ledger().wrongs.push(format!("{} does not report its disk", NAMES[node]));
        }
        of.set(failing);
        failed_before.store(of.failed(), Ordering::SeqCst);
    }

    /// The first write that was not what it should have been.
    pub(crate) fn wrong_write(&self) -> Option<String> {
        self.switches.iter().find_map(|switch| switch.of.wrong())
    }

    /// Switches HA there; it counts at the next start.
    pub(crate) fn set_off(&self, node: usize, off: bool) {
        self.off[node].store(off, Ordering::SeqCst);
    }

    /// The process is told to stop, and tells its peer.
    pub(crate) fn stop(&self, node: usize) {
        self.stops[node].lock().unwrap().cancel();
    }

    pub(crate) fn move_address(&self, holders: u8) {
        self.address.store(holders, Ordering::SeqCst);
    }

    pub(crate) fn take_over(&self, node: usize) {
        self.take_over[node].store(true, Ordering::SeqCst);
    }

    pub(crate) fn stop_users(&self) {
        self.users.store(false, Ordering::SeqCst);
    }

    fn table(&self, node: usize) -> Option<SessionTable> {
        self.tables[node].lock().unwrap().clone()
    }

    pub(crate) fn rows(&self, node: usize) -> Vec<Row> {
        self.table(node).unwrap().read(|view| view.table.rows().collect())
    }

    /// P6: one serves, the other follows, nothing is under way and both have the same.
    pub(crate) fn is_settled(&self) -> bool {
        let (Some(a), Some(b)) = (self.table(0), self.table(1)) else { return false };
        let (one, other) = (a.state(), b.state());
        let done = |state: &vsm_sync::State| state.replica.last.seq == state.replica.commit;
        a.is_serving() != b.is_serving()
            && done(&one)
            && done(&other)
            && one.replica.last == other.replica.last
            && a.read(|a| b.read(|b| a.lineage == b.lineage))
            && self.rows(0) == self.rows(1)
            && one.fault.is_none()
            && other.fault.is_none()
            && self.witnesses().all_vote()
    }

    pub(crate) fn tell(&self) -> String {
        let of = |node: usize| {
            self.table(node).map(|table| {
                let replica = table.state().replica.clone();
                (replica.standing, replica.last, replica.commit, replica.link)
            })
        };
        format!("a {:?}, b {:?}", of(0), of(1))
    }
}

/// One process.
pub(crate) struct Broker {
    world: Arc<World>,
    index: usize,
    table: SessionTable,
    stream: Arc<PeerStream>,
}

impl Broker {
    /// From the start to the crash.
    pub(crate) async fn run(world: Arc<World>, index: usize) -> turmoil::Result {
        let (node, peer) = (NAMES[index], NAMES[1 - index]);
        let mut random = world.random();
        let config = replica::Config {
            node: node.parse()?,
            witnesses: WITNESSES.map(|name| name.parse().unwrap()).to_vec(),
            ack_timeout_ms: 200,
            heartbeat_ms: 50,
            seed: random.random(),
            // Small, so that what happens at a limit happens.
            limits: Limits { append_max: 4, near: 4, keys_max: 8, log_keep: 64 },
            alone: false,
        };
        let (witnesses, asked) = mpsc::channel(64);
        let incarnation = Incarnation(random.random());
        let mut disk = world.disks[index].clone();
        // One that cannot be read ends the process, which is started again.
        let held = loop {
            match disk.load() {
                Ok(held) => break held.disk,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        };
        if world.off[index].load(Ordering::SeqCst) && held.is_paired() {
            return Self::apart(world, index, disk, config.seed).await;
        }
        world.up[index].store(7, Ordering::SeqCst);
        let table = SessionTable::start(disk, config, incarnation, Outbox { witnesses })?;
        let peer = PeerConfig {
            node: node.parse()?,
            peer: peer.parse()?,
            card: Box::new(Card::default),
            idle: Duration::from_millis(1000),
            message_max: MESSAGE_MAX,
        };
        let stop = CancellationToken::new();
        let stream = PeerStream::new(peer, table.clone(), stop.clone());
        *world.stops[index].lock().unwrap() = stop;
        *world.tables[index].lock().unwrap() = Some(table.clone());
        let broker = Arc::new(Self { world, index, table, stream });
        tokio::spawn(Arc::clone(&broker).carry_to_witnesses(asked));
        tokio::spawn(Arc::clone(&broker).follow_address());
        for user in 0..USERS {
            tokio::spawn(Arc::clone(&broker).user(user));
        }
        if broker.stream.dials() { broker.dial().await } else { broker.listen().await }
    }

    /// A pair's table on a node where HA is switched off: whatever it is told, it serves nobody.
    async fn apart(world: Arc<World>, index: usize, disk: Disk, seed: u64) -> turmoil::Result {
        let config =
            replica::Config { alone: false, ..replica::Config::alone(NAMES[index].parse()?, seed) };
        let table = SessionTable::start(disk, config, Incarnation(seed), Outbox::none())?;
        *world.tables[index].lock().unwrap() = Some(table.clone());
        loop {
            let _ = table.want(true).await;
            let _ = table.take_over().await;
            if table.is_serving() {
                world.ledger().wrongs.push(format!("{} serves with HA off", NAMES[index]));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn dial(&self) -> turmoil::Result {
        let mut random = self.world.random();
        loop {
            let call = TcpStream::connect((NAMES[1 - self.index], PORT));
            if let Ok(Ok(socket)) = tokio::time::timeout(Duration::from_millis(300), call).await {
                converse(&self.stream, socket).await;
            }
            sleep(Duration::from_millis(random.random_range(20..100))).await;
        }
    }

    async fn listen(&self) -> turmoil::Result {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        loop {
            let (socket, _) = listener.accept().await?;
            let stream = Arc::clone(&self.stream);
            tokio::spawn(async move { converse(&stream, socket).await });
        }
    }

    /// Each message and each answer is delayed by itself, so that they overtake each other, and some are lost.
    async fn carry_to_witnesses(
        self: Arc<Self>,
        mut asked: mpsc::Receiver<(AgentName, WitnessMsg)>,
    ) {
        let mut random = self.world.random();
        while let Some((agent, message)) = asked.recv().await {
            let [there, back] = [0; 2].map(|_| Duration::from_millis(random.random_range(1..15)));
            let lost = random.random_bool(0.02);
            let broker = Arc::clone(&self);
            tokio::spawn(async move {
                sleep(there).await;
                let cut = || broker.world.cut[broker.index].load(Ordering::SeqCst);
                if cut() {
                    return;
                }
                let reply = { broker.world.witnesses().ask(&agent, message) };
                sleep(back).await;
                if !lost && !cut() {
                    let _ = broker.table.witness(agent, reply).await;
                }
            });
        }
    }

    async fn follow_address(self: Arc<Self>) {
        loop {
            let holds = self.world.address.load(Ordering::SeqCst) & (1 << self.index) != 0;
            let _ = self.table.want(holds).await;
            let up = self.world.up[self.index].swap(0, Ordering::SeqCst);
            for (bit, name) in WITNESSES.iter().enumerate() {
                if up & (1 << bit) != 0 {
                    let _ = self.table.witness_up(name.parse().unwrap()).await;
                }
            }
            if self.world.take_over[self.index].swap(false, Ordering::SeqCst) {
                let _ = self.table.take_over().await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// One user who comes to this node, again and again.
    async fn user(self: Arc<Self>, number: u64) {
        let name: UserName = format!("user{number}").parse().unwrap();
        let mut random = self.world.random();
        loop {
            sleep(Duration::from_millis(random.random_range(10..150))).await;
            if !self.world.users.load(Ordering::SeqCst) || !self.table.is_serving() {
                continue;
            }
            let own: Vec<(SessionId, State)> = self
                .table
                .read(|view| view.table.of_user(&name).map(|own| (own.id, own.state)).collect());
            match own.first() {
                None => self.log_in(&name).await,
                Some((id, State::Starting)) if random.random_bool(0.1) => {
                    self.end(*id, Proposal::GiveUp { id: *id, now: NOW }).await;
                }
                Some((id, State::Starting)) => self.hand_out(*id, &name).await,
                Some((id, _)) if random.random_bool(0.3) => {
                    self.end(*id, Proposal::Gone { id: *id }).await;
                }
                Some(_) => {}
            }
        }
    }

    async fn log_in(&self, user: &UserName) {
        let new = u128::from(self.world.next_id.fetch_add(1, Ordering::SeqCst));
        if self.table.propose(reserve(new, user.as_str(), CAP)).await.is_ok() {
            self.world.ledger().reserved(id(new), user);
            self.hand_out(id(new), user).await;
        }
    }

    async fn hand_out(&self, id: SessionId, user: &UserName) {
        if self.table.propose(Proposal::Running { id, display: 10 }).await.is_ok() {
            self.world.ledger().handed(id, user);
        }
    }

    /// Ends a session, or a start: from the asking on it may be gone.
    async fn end(&self, id: SessionId, proposal: Proposal) {
        self.world.ledger().ending(id);
        match self.table.propose(proposal).await {
            Ok(_) => self.world.ledger().ended(id),
            // Nothing was done, or it may yet happen.
            Err(
                ProposeError::Rejected(_)
                | ProposeError::Store(_)
                | ProposeError::NotActive
                | ProposeError::NoVotes
                | ProposeError::Unknown,
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A conversation over a socket: frames with their length before them.
async fn converse(stream: &PeerStream, socket: TcpStream) {
    let (read, write) = socket.into_split();
    let (out, frames) = mpsc::channel(16);
    let (heard, inbound) = mpsc::channel(16);
    let writer = tokio::spawn(send(write, frames));
    let reader = tokio::spawn(receive(read, heard));
    stream.converse(ReceiverStream::new(inbound), out).await;
    reader.abort();
    // What was said last, as why it is turned away, goes out; nothing waits for one that is cut off.
    let _ = tokio::time::timeout(Duration::from_millis(100), writer).await;
}

async fn send(mut socket: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<PeerFrame>) {
    while let Some(frame) = frames.recv().await {
        let mut bytes = Vec::new();
        frame.encode_length_delimited(&mut bytes).unwrap();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let whole = [&length[..], &bytes].concat();
        if socket.write_all(&whole).await.is_err() {
            return;
        }
    }
}

async fn receive(
    mut socket: impl AsyncRead + Unpin,
    heard: mpsc::Sender<Result<PeerFrame, Status>>,
) {
    while let Ok(length) = socket.read_u32().await {
        let mut bytes = vec![0; length as usize];
        if socket.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let frame = PeerFrame::decode_length_delimited(bytes.as_slice()).unwrap();
        if heard.send(Ok(frame)).await.is_err() {
            return;
        }
    }
}
