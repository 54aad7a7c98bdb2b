//! The stream between the two brokers: one gRPC call both ways, opened by the node whose name is the lower one, and
//! opened again when it breaks.
//!
//! The first frame of each side is its introduction; a stranger (another table, another node, a certificate that is
//! not a broker's) is refused there, and the table hears nothing of it. A message that is too large for a frame goes in
//! parts, and whoever is at a large one says so, so that it is not taken for away.

mod converse;
mod end;
mod frame;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Channel};
use tracing::Instrument as _;
use vsm_core::{NodeName, UnixMillis};
use vsm_daemon::{backoff::Backoff, clock, span, tls};
use vsm_proto::sync::v1::{PeerFrame, peer_client::PeerClient, peer_server};

pub use self::end::{Garbled, Refused, StreamEnd};
use crate::SessionTable;

/// Version of the protocol that this software speaks; it also speaks the one before.
pub const PROTOCOL: u32 = 1;
/// Largest frame, with room for what is around a part.
pub const FRAME_MAX: usize = 512 << 10;
/// Largest message when it is put together: a table of a million sessions fits.
pub const MESSAGE_MAX: usize = 512 << 20;
/// Frames on their way to the socket.
const OUT_BOUND: usize = 16;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a node tells of itself when a stream is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Software version, for people.
    pub software: String,
    /// Digest of each cluster-wide parameter, by path.
    pub parameters: BTreeMap<String, u64>,
    /// Fingerprints of the SSH host keys.
    pub host_keys: Vec<String>,
}

/// The other broker, as it introduced itself and was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Its card.
    pub card: Card,
    /// Since when the stream is open.
    pub since: UnixMillis,
    /// Its process' random number.
    pub incarnation: u64,
    /// Round trip in microseconds, the last that was measured; 0 = none yet.
    pub rtt_us: u64,
    /// Its clock minus ours in milliseconds, the last that was measured.
    pub skew_ms: i64,
}

/// How the stream is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// Open.
    Open(Met),
    /// Not open.
    Closed {
        /// Why not.
        why: StreamEnd,
        /// Since when.
        since: UnixMillis,
    },
}

/// What went by since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Streams that were opened.
    pub opened: AtomicU64,
    /// Introductions that were refused.
    pub refused: AtomicU64,
    /// Frames that could not be understood.
    pub garbled: AtomicU64,
    /// Messages that were sent.
    pub sent: AtomicU64,
    /// Messages that came.
    pub received: AtomicU64,
}

/// What the stream is told once.
pub struct PeerConfig {
    /// This node.
    pub node: NodeName,
    /// The other one.
    pub peer: NodeName,
    /// What this node tells of itself; asked at each opening.
    pub card: Box<dyn Fn() -> Card + Send + Sync>,
    /// A stream on which nothing came for so long is given up.
    pub idle: Duration,
    /// Largest message that is put together from parts, in bytes; see [`MESSAGE_MAX`].
    pub message_max: usize,
}

/// The stream to the other broker.
pub struct PeerStream {
    config: PeerConfig,
    table: SessionTable,
    stream: watch::Sender<Stream>,
    counters: Counters,
    /// The stream that is open: its connection's number, and what ends it when another is opened.
    current: Mutex<(u64, CancellationToken)>,
    /// How often both sides were to introduce themselves anew.
    reopened: AtomicU64,
    stop: CancellationToken,
}

impl std::fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerConfig({} to {})", self.node, self.peer)
    }
}

impl std::fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerStream({} to {})", self.config.node, self.config.peer)
    }
}

impl PeerStream {
    /// Makes it; nothing is dialled yet.
    #[must_use]
    pub fn new(config: PeerConfig, table: SessionTable, stop: CancellationToken) -> Arc<Self> {
        let closed = Stream::Closed { why: StreamEnd::NotOpened, since: clock::unix_millis() };
        Arc::new(Self {
            config,
            table,
            stream: watch::Sender::new(closed),
            counters: Counters::default(),
            current: Mutex::default(),
            reopened: AtomicU64::new(0),
            stop,
        })
    }

    /// Whether this node is the one that opens the stream.
    #[must_use]
    pub fn dials(&self) -> bool {
        self.config.node < self.config.peer
    }

    /// How the stream is now.
    #[must_use]
    pub fn state(&self) -> Stream {
        self.stream.borrow().clone()
    }

    /// What went by.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The other node.
    #[must_use]
    pub const fn peer(&self) -> &NodeName {
        &self.config.peer
    }

    /// Drops the stream, so that both sides introduce themselves anew.
    pub fn reopen(&self) {
        self.reopened.fetch_add(1, Ordering::Relaxed);
        self.current().1.cancel();
    }

    fn current(&self) -> MutexGuard<'_, (u64, CancellationToken)> {
        self.current.lock()
    }

    /// Opens the stream, and again whenever it breaks, until the stop. Only for the node that dials.
    pub async fn dial(self: Arc<Self>, channel: Channel) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
        while !self.stop.is_cancelled() {
            let why = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                why = self.open(channel.clone(), &mut backoff) => why,
            };
            self.closed(None, &why);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    async fn open(&self, channel: Channel, backoff: &mut Backoff) -> StreamEnd {
        let mut client = PeerClient::new(channel).max_decoding_message_size(FRAME_MAX);
        let (out, frames) = mpsc::channel(OUT_BOUND);
        let call = client.exchange(ReceiverStream::new(frames));
        // The other side answers the call when it has taken it, before it says anything.
        let inbound = match tokio::time::timeout(vsm_daemon::grpc::DIAL_TIMEOUT, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return StreamEnd::Failed(status.message().to_owned()),
            Err(_) => return StreamEnd::NoAnswer,
        };
        let before = self.counters.opened.load(Ordering::Relaxed);
        let why = self.converse(inbound, out).await;
        if self.counters.opened.load(Ordering::Relaxed) > before {
            backoff.reset();
        }
        why
    }

    /// Has a conversation over a stream that is open, whoever opened it, until it ends; why it ended. Once the other
    /// side has introduced itself this stream replaces a former one.
    pub async fn converse(
        &self,
        inbound: impl tokio_stream::Stream<Item = Result<PeerFrame, Status>> + Unpin + Send,
        out: mpsc::Sender<PeerFrame>,
    ) -> StreamEnd {
        let span = span::peer(&self.config.peer);
        let why = converse::converse(self, inbound, out).instrument(span).await;
        self.closed(None, &why);
        why
    }

    /// The other side was met: what ends this stream when another one is opened.
    fn opened(&self, link: u64, met: Met) -> CancellationToken {
        let token = self.stop.child_token();
        let mut current = self.current();
        std::mem::replace(&mut *current, (link, token.clone())).1.cancel();
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        self.stream.send_replace(Stream::Open(met));
        token
    }

    /// A connection is gone, or none came to be: it says nothing of one that was opened since.
    fn closed(&self, link: Option<u64>, why: &StreamEnd) {
        let current = self.current();
        let open = link.is_some_and(|link| link == current.0);
        self.stream.send_modify(|state| match state {
            Stream::Open(_) if open => {
                tracing::warn!(peer = %self.config.peer, %why, "the other broker is away");
                *state = Stream::Closed { why: why.clone(), since: clock::unix_millis() };
            }
            Stream::Open(_) => {}
            Stream::Closed { why: known, .. } => known.clone_from(why),
        });
    }

    fn refuse(&self, why: Refused) -> Refused {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        // At each attempt once, and attempts are a second apart.
        tracing::error!(peer = %self.config.peer, %why, "refused a broker");
        why
    }
}

/// The side that is dialled.
#[derive(Debug, Clone)]
pub struct PeerApi(pub Arc<PeerStream>);

#[tonic::async_trait]
impl peer_server::Peer for PeerApi {
    type ExchangeStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<PeerFrame, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<PeerFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let stream = Arc::clone(&self.0);
        let caller = tls::peer(request.extensions())?;
        if stream.dials() {
            return Err(Status::failed_precondition(format!(
                "{} opens the stream of this pair",
                stream.config.node
            )));
        }
        let peer = &stream.config.peer;
        if caller.name != peer.as_str() && peer.as_str().parse::<std::net::IpAddr>().is_err() {
            let why = Refused::Stranger { name: caller.name, peer: peer.clone() };
            return Err(Status::permission_denied(stream.refuse(why).to_string()));
        }
        let (out, frames) = mpsc::channel(OUT_BOUND);
        let inbound = request.into_inner();
        tokio::spawn(async move {
            stream.converse(inbound, out).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames).map(Ok))))
    }
}
