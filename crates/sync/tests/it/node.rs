//! A broker's table with its stream over mutual TLS on loopback, witnesses in memory, and two of them as a pair.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::RoutesBuilder};
use vsm_config::Config;
use vsm_core::{
    AgentName, Change, Incarnation, NodeName, Proposal,
    replica::{self, Witness},
};
use vsm_daemon::{
    access::{ByRole, Caller, Guard, Site},
    grpc,
    tls::{Peer, Tls},
};
use vsm_proto::sync::v1::{observe_server::ObserveServer, peer_server::PeerServer};
use vsm_sync::{
    Outbox, SessionTable,
    observe::{ObserveApi, ObserveConfig},
    peer::{Card, FRAME_MAX, PeerApi, PeerConfig, PeerStream},
};

use super::{id, open_store, reserve};

/// Nothing here takes as long; a test that would hang fails instead.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A stream is given up after so long without a sign of life.
pub(crate) const IDLE: Duration = Duration::from_secs(3);
/// Largest message in parts.
pub(crate) const MESSAGE_MAX: usize = 1 << 20;

/// A certificate authority with certificates of it, as files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The identity of a host, valid for `localhost`.
    pub(crate) fn issue(&self, dir: &Path, role: &str, name: &str) -> Tls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let uri = format!("vsm://{role}/{name}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let dir = dir.join(format!("{role}-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        let files = [("ca", &self.pem), ("cert", &cert.pem()), ("key", &key.serialize_pem())];
        let mut yaml = "tls:\n".to_owned();
        for (what, pem) in files {
            let path = dir.join(format!("{what}.pem"));
            std::fs::write(&path, pem).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            yaml += &format!("  {what}_file: {}\n", path.display());
        }
        let conf = dir.join("conf.d");
        std::fs::create_dir_all(&conf).unwrap();
        std::fs::write(conf.join("tls.yaml"), yaml).unwrap();
        Tls::load(&Config::load(&conf).unwrap()).unwrap()
    }
}

/// Three witnesses whose answers can be held back.
#[derive(Clone, Default)]
pub(crate) struct Witnesses {
    all: Arc<Mutex<BTreeMap<AgentName, Witness>>>,
}

fn agents() -> Vec<AgentName> {
    ["w1", "w2", "w3"].iter().map(|name| name.parse().unwrap()).collect()
}

impl Witnesses {
    /// Carries what a table says to the witnesses and their answers back, until the table is gone.
    fn serve(
        &self,
        mut asked: mpsc::Receiver<(AgentName, replica::WitnessMsg)>,
    ) -> Arc<Mutex<Option<SessionTable>>> {
        let table: Arc<Mutex<Option<SessionTable>>> = Arc::default();
        let (all, to) = (Arc::clone(&self.all), Arc::clone(&table));
        tokio::spawn(async move {
            while let Some((agent, message)) = asked.recv().await {
                let reply = all.lock().unwrap().entry(agent.clone()).or_default().handle(message);
                let table = to.lock().unwrap().clone();
                if let Some(table) = table {
                    let _ = table.witness(agent, reply).await;
                }
            }
        });
        table
    }
}

/// One broker's table with its stream.
pub(crate) struct Node {
    pub(crate) table: SessionTable,
    pub(crate) stream: Arc<PeerStream>,
    /// Where observers are told.
    pub(crate) observe: u16,
    stop: CancellationToken,
    feed: Arc<Mutex<Option<SessionTable>>>,
}

impl Node {
    fn start(
        name: &str,
        peer: &str,
        dir: &Path,
        tls: &Tls,
        at: Socket,
        witnesses: &Witnesses,
    ) -> Self {
        let (sender, asked) = mpsc::channel(64);
        let feed = witnesses.serve(asked);
        let config = replica::Config {
            node: name.parse().unwrap(),
            witnesses: agents(),
            ack_timeout_ms: 300,
            heartbeat_ms: 50,
            seed: 7,
            limits: replica::Limits::DEFAULT,
            alone: false,
        };
        let store = open_store(&dir.join(name));
        let table =
            SessionTable::start(store, config, Incarnation(1), Outbox { witnesses: sender })
                .unwrap();
        *feed.lock().unwrap() = Some(table.clone());
        let stop = CancellationToken::new();
        let peer: NodeName = peer.parse().unwrap();
        let config = PeerConfig {
            node: name.parse().unwrap(),
            peer,
            card: Box::new(Card::default),
            idle: IDLE,
            message_max: MESSAGE_MAX,
        };
        let stream = PeerStream::new(config, table.clone(), stop.clone());
        let observe = observe(name, &table, tls, &stop);
        match at {
            Socket::Dial(port) => {
                assert!(stream.dials());
                let channel = grpc::channel("localhost", port, tls).unwrap();
                tokio::spawn(Arc::clone(&stream).dial(channel));
            }
            Socket::Listen(listener) => {
                let api = PeerServer::new(PeerApi(Arc::clone(&stream)));
                let mut routes = RoutesBuilder::default();
                routes.add_service(api.max_decoding_message_size(FRAME_MAX));
                let (tls, stop) = (tls.clone(), stop.clone());
                tokio::spawn(async move {
                    grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(ByRole), stop)
                        .await
                        .unwrap();
                });
            }
        }
        Self { table, stream, observe, stop, feed }
    }

    /// The process ends: what it has is on the disk.
    pub(crate) fn stop(self) {
        self.stop.cancel();
        *self.feed.lock().unwrap() = None;
    }

    pub(crate) async fn serving(&self) {
        let mut state = self.table.watch();
        let serves = state.wait_for(|state| state.serving().is_some());
        tokio::time::timeout(LONG, serves).await.expect("it serves").unwrap();
    }

    pub(crate) async fn has(&self, seq: u64) {
        let mut state = self.table.watch();
        let caught_up = state.wait_for(|state| state.replica.commit >= seq);
        tokio::time::timeout(LONG, caught_up).await.expect("it catches up").unwrap();
    }
}

pub(crate) enum Socket {
    Dial(u16),
    Listen(TcpListener),
}

/// Observers of one name.
struct Observers(&'static str);

impl Site for Observers {
    fn lets_in(&self, caller: Caller, peer: &Peer, _: Option<IpAddr>) -> Result<(), Status> {
        if caller == Caller::Observer && peer.name != self.0 {
            return Err(Status::permission_denied(format!("{} may not follow", peer.name)));
        }
        Ok(())
    }
}

/// Serves observers on a port of its own.
fn observe(name: &str, table: &SessionTable, tls: &Tls, stop: &CancellationToken) -> u16 {
    let config = ObserveConfig {
        node: name.parse().unwrap(),
        standalone: false,
        version: "1.2.3".to_owned(),
    };
    let api = ObserveApi::new(config, table.clone(), stop.clone());
    let mut routes = RoutesBuilder::default();
    routes.add_service(ObserveServer::new(api));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tls, stop) = (tls.clone(), stop.clone());
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(Observers("watch")), stop)
            .await
            .unwrap();
    });
    port
}

/// A pair that can lose and regain either node.
pub(crate) struct Pair {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) tls: [Tls; 2],
    pub(crate) port: u16,
    witnesses: Witnesses,
}

impl Pair {
    pub(crate) async fn new() -> (Self, Node, Node) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let tls = ["a", "b"].map(|name| authority.issue(dir.path(), "broker", name));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let pair = Self { dir, authority, tls, port, witnesses: Witnesses::default() };
        let b = pair.b().await;
        let a = pair.a();
        (pair, a, b)
    }

    pub(crate) fn a(&self) -> Node {
        let at = Socket::Dial(self.port);
        Node::start("a", "b", self.dir.path(), &self.tls[0], at, &self.witnesses)
    }

    pub(crate) async fn b(&self) -> Node {
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(error) if tries > 500 => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            tries += 1;
        };
        let at = Socket::Listen(listener);
        Node::start("b", "a", self.dir.path(), &self.tls[1], at, &self.witnesses)
    }
}

/// Reserves and runs session `n`.
pub(crate) async fn session(node: &Node, n: u128) {
    let user = format!("user{n}");
    node.table.propose(reserve(n, &user, 1)).await.unwrap();
    let running = Proposal::Running { id: id(n), display: 10 };
    assert!(matches!(node.table.propose(running).await, Ok(Change::Running { .. })));
}

pub(crate) fn same(a: &Node, b: &Node) {
    a.table.read(|a| {
        b.table.read(|b| {
            assert!(a.table.sessions().eq(b.table.sessions()), "the sessions differ");
            assert_eq!((a.last_seq, a.lineage), (b.last_seq, b.lineage));
        });
    });
}
