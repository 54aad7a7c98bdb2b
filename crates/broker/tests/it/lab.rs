//! Two brokers of a pair in one process: tables in memory that talk to each other directly, and the real services on
//! loopback with mutual TLS, and on a unix socket.

use std::{
    net::IpAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;
use vsm_broker::{
    api::access,
    pair::{Ha, Pair, health::Health},
    reload::Reloader,
    rooms::{Parts, Rooms},
    server::{Services, services},
    site::settings::Settings,
};
use vsm_config::{Config, RoleSource};
use vsm_core::{
    Hash, Incarnation, LineageId, Proposal, RequestId, Session, SessionId, StartParams, State,
    UnixMillis, replica,
};
use vsm_daemon::{
    access::Door,
    account::Account,
    grpc,
    pki::{self, Signer},
    socket::{self, Access},
    tls::Tls,
};
use vsm_root::{client::Helper, server as helper};
use vsm_sync::{
    MemoryStore, Outbox, PeerLink, SessionTable,
    peer::{Card, MESSAGE_MAX, PeerConfig, PeerStream},
};

/// Nothing here takes as long; a test that would hang fails instead.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A certificate authority and the files of those whom it knows.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let (dir, private) = (tempfile::tempdir().unwrap(), key.serialize_pem());
        let authority = Self { dir, issuer: Issuer::new(params, key), pem };
        authority.write("ca.pem", &authority.pem);
        authority.write("ca.key", &private);
        authority
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    /// The hash of its public key.
    pub(crate) fn key(&self) -> Hash {
        pki::key_of(&self.path("ca.pem")).unwrap()
    }

    /// What signs for a broker, whose configuration goes on with this.
    fn issuer_of(&self, broker: &str) -> String {
        let signer = Signer::load(&self.path("ca.pem"), &self.path("ca.key")).unwrap();
        let (certificate, key) = signer.make_issuer(broker, 30).unwrap();
        let names = [format!("{broker}-issuer.pem"), format!("{broker}-issuer.key")];
        self.write(&names[0], &certificate);
        self.write(&names[1], &key);
        let [certificate, key] = names.map(|name| self.path(&name).display().to_string());
        format!("  issuer_cert_file: {certificate}\n  issuer_key_file: {key}\n")
    }

    /// What a broker signs with.
    pub(crate) fn signer_of(&self, broker: &str) -> Signer {
        let path = |end: &str| self.path(&format!("{broker}-issuer.{end}"));
        Signer::load(&path("pem"), &path("key")).unwrap()
    }

    /// The identity that a host has by these certificates, of which the first is its own, and this key.
    pub(crate) fn host(&self, name: &str, (chain, key): (&str, &str)) -> Tls {
        let mut yaml = "tls:\n".to_owned();
        std::fs::create_dir_all(self.path(&format!("{name}/conf.d"))).unwrap();
        for (what, pem) in [("ca", self.pem.as_str()), ("cert", chain), ("key", key)] {
            let file = format!("{name}/{what}.pem");
            self.write(&file, pem);
            yaml += &format!("  {what}_file: {}\n", self.path(&file).display());
        }
        self.write(&format!("{name}/conf.d/tls.yaml"), &yaml);
        Tls::load(&Config::load(&self.path(&format!("{name}/conf.d"))).unwrap()).unwrap()
    }

    /// A certificate by the authority itself that ended a minute ago, and its key.
    pub(crate) fn ended(&self, role: &str, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let uri = format!("vsm://{role}/{name}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        let ended = vsm_daemon::clock::unix_millis().0 - 60_000;
        params.not_after = (std::time::UNIX_EPOCH + Duration::from_millis(ended)).into();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration of a host with a certificate for `localhost`, and for its name where that is an address.
    fn config(&self, role: &str, name: &str) -> Config {
        let key = KeyPair::generate().unwrap();
        let address = name.parse::<IpAddr>().is_ok().then(|| name.to_owned());
        let names: Vec<_> = ["localhost".to_owned()].into_iter().chain(address).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uri = format!("vsm://{role}/{name}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let dir = self.path(&format!("{role}-{name}"));
        let conf = dir.join("conf.d");
        std::fs::create_dir_all(&conf).unwrap();
        let mut yaml = "tls:\n".to_owned();
        let files = [("ca", &self.pem), ("cert", &cert.pem()), ("key", &key.serialize_pem())];
        for (what, pem) in files {
            let path = dir.join(format!("{what}.pem"));
            std::fs::write(&path, pem).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            yaml += &format!("  {what}_file: {}\n", path.display());
        }
        if role == "broker" {
            yaml += &self.issuer_of(name);
        }
        std::fs::write(conf.join("tls.yaml"), yaml).unwrap();
        Config::load(&conf).unwrap()
    }

    pub(crate) fn issue(&self, role: &str, name: &str) -> Tls {
        Tls::load(&self.config(role, name)).unwrap()
    }
}

/// The root helper of a broker; here both are whoever runs the test.
fn serve_helper(conf: &Path, dir: &Path, stop: &CancellationToken) {
    let own = std::fs::metadata(conf).unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    let (conf, dir, stop) = (conf.to_owned(), dir.to_owned(), stop.clone());
    tokio::spawn(async move {
        helper::serve(Account { name: "nobody", uid, gid }, &conf, &dir, stop).await.unwrap();
    });
}

/// One broker.
pub(crate) struct Node {
    pub(crate) broker: Rooms,
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    /// The administrators'.
    pub(crate) admin: PathBuf,
    /// That of `vsm-web`.
    pub(crate) web: PathBuf,
    /// What its configuration says of certificates.
    tls_yaml: PathBuf,
}

impl Node {
    /// A broker whose other one listens on `there`.
    fn start(
        authority: &Authority,
        name: &str,
        peer: &str,
        listener: TcpListener,
        there: u16,
    ) -> Self {
        let config = authority.config("broker", name);
        let tls = Tls::load(&config).unwrap();
        let stop = CancellationToken::new();
        let table = table(name);
        let stream = PeerConfig {
            node: name.parse().unwrap(),
            peer: peer.parse().unwrap(),
            card: Box::new(Card::default),
            idle: Duration::from_secs(1),
            message_max: MESSAGE_MAX,
        };
        let pair = Pair {
            own: name.parse().unwrap(),
            peer: peer.parse().unwrap(),
            nodes: vec![name.to_owned(), peer.to_owned()],
            state_dir: "/nowhere".into(),
            stream: PeerStream::new(stream, table.clone(), stop.clone()),
            channel: grpc::channel("localhost", there, &tls).unwrap(),
            source: RoleSource::Address,
            resource: String::new(),
            holds_address: AtomicBool::new(false),
            health: watch::Sender::new(Health { healthy: false, reason: "starting".into() }),
            clock: vsm_broker::pair::fenced::WallClock::new(),
        };
        let root = authority.path(&format!("{name}-root"));
        serve_helper(&authority.path(&format!("broker-{name}/conf.d")), &root, &stop);
        let broker = Rooms::new(Parts {
            table,
            ha: Ha::On(Arc::new(pair)),
            helper: Helper::at(root.join(helper::SOCKET)),
            card: Arc::default(),
            settings: Settings::new(&config).unwrap(),
            node: name.parse().unwrap(),
            tls,
            started: vsm_daemon::clock::Since::now(),
            stop,
        });
        let port = listener.local_addr().unwrap().port();
        let socket = authority.path(&format!("{name}.sock"));
        let admin = authority.path(&format!("{name}-admin.sock"));
        let web = authority.path(&format!("{name}-web.sock"));
        let conf = authority.path(&format!("broker-{name}/conf.d"));
        let reloader =
            Reloader::new(Arc::clone(&broker.sessions), Arc::clone(&broker.side), config, conf);
        serve(&broker, &reloader, listener, [&socket, &admin, &web]);
        tokio::spawn(Arc::clone(&broker.identities).follow());
        tokio::spawn(Arc::clone(&broker.web_keys).watch());
        tokio::spawn(Arc::clone(&broker.web_keys).look_after());
        tokio::spawn(Arc::clone(&broker.openid).follow());
        tokio::spawn(vsm_broker::journal::record(Arc::clone(&broker.journal)));
        let tls_yaml = authority.path(&format!("broker-{name}/conf.d/tls.yaml"));
        Self { broker, port, socket, admin, web, tls_yaml }
    }

    pub(crate) fn table(&self) -> &SessionTable {
        &self.broker.authority.table
    }

    pub(crate) async fn serving(&self) {
        self.table().want(true).await.unwrap();
        let mut state = self.table().watch();
        let serves = state.wait_for(|state| state.serving().is_some());
        tokio::time::timeout(LONG, serves).await.expect("it serves").unwrap();
    }

    /// Has it follow the agents of this configuration, all of which answer on one port.
    pub(crate) fn has_agents(&self, port: u16, yaml: &str) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("vsm: {{vsm_agent_port: {port}}}\n{yaml}");
        std::fs::write(dir.path().join("a.yaml"), text).unwrap();
        std::fs::copy(&self.tls_yaml, dir.path().join("b.yaml")).unwrap();
        self.broker.site.set_settings(Settings::new(&Config::load(dir.path()).unwrap()).unwrap());
        self.broker.sessions.follow_agents();
    }

    /// A session of root's, as if an agent had told of it.
    pub(crate) async fn session_of_root(&self) -> SessionId {
        let id = SessionId::new(Uuid::from_u128(7));
        let session = Session {
            id,
            user: "root".parse().unwrap(),
            agent: "agent1".parse().unwrap(),
            state: State::Running { display: 10 },
            request: RequestId::new(Uuid::from_u128(8)),
            params: StartParams::default(),
            created: UnixMillis(1),
        };
        self.table().propose(Proposal::Adopt(session)).await.unwrap();
        id
    }
}

fn table(name: &str) -> SessionTable {
    let config = replica::Config {
        node: name.parse().unwrap(),
        witnesses: Vec::new(),
        ack_timeout_ms: 500,
        heartbeat_ms: 50,
        seed: 7,
        limits: replica::Limits::DEFAULT,
        alone: false,
    };
    let store = MemoryStore::new(LineageId::new(Uuid::from_u128(1)));
    SessionTable::start(store, config, Incarnation(1), Outbox::none()).unwrap()
}

/// What `vsmserver` offers, at sockets of its own.
fn serve(broker: &Rooms, reloader: &Arc<Reloader>, listener: TcpListener, sockets: [&Path; 3]) {
    let (Services { user, admin, web, tcp }, guard) =
        (services(broker, reloader), access::guard(&broker.edge));
    let (tls, stop, before) = (broker.process.tls.clone(), &broker.process.stop, guard.clone());
    let until = stop.clone();
    tokio::spawn(async move {
        grpc::serve_tls(listener, &tls, tcp.routes(), before, until).await.unwrap();
    });
    let doors = [(Door::Users, user), (Door::Administrators, admin), (Door::Web, web)];
    for ((door, routes), path) in doors.into_iter().zip(sockets) {
        let access = Access { mode: 0o600, group: None };
        let (socket, until) = (socket::keep(path, access).unwrap(), stop.clone());
        let guard = guard.clone();
        tokio::spawn(async move {
            grpc::serve_unix(socket, routes.routes(), door, guard, until).await.unwrap();
        });
    }
}

/// Both brokers; nobody is active and they do not know of each other yet.
pub(crate) struct Lab {
    pub(crate) authority: Authority,
    pub(crate) a: Node,
    pub(crate) b: Node,
    cut: CancellationToken,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let authority = Authority::new();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (one, other) = (bind().await.unwrap(), bind().await.unwrap());
        let ports = [&one, &other].map(|listener| listener.local_addr().unwrap().port());
        let a = Node::start(&authority, "a", "b", one, ports[1]);
        let b = Node::start(&authority, "b", "a", other, ports[0]);
        Self { authority, a, b, cut: CancellationToken::new() }
    }

    /// Has the two tables hear each other.
    pub(crate) async fn join(&self) {
        let (to_a, from_a) = self.a.table().connect().await.unwrap();
        let (to_b, from_b) = self.b.table().connect().await.unwrap();
        tokio::spawn(carry(from_a, to_b, self.cut.clone()));
        tokio::spawn(carry(from_b, to_a, self.cut.clone()));
    }

    /// Has them hear each other no more. There are no witnesses: neither has votes then.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// The pair with `b` active and `a` its standby.
    pub(crate) async fn with_b_active() -> Self {
        let lab = Self::new().await;
        lab.join().await;
        lab.b.serving().await;
        let mut state = lab.a.table().watch();
        let follows = state.wait_for(|state| {
            let standing = &state.replica.standing;
            state.replica.joined
                && matches!(standing, replica::Standing::Standby { leader: Some(_) })
        });
        tokio::time::timeout(LONG, follows).await.expect("a follows").unwrap();
        lab
    }

    /// A line to a node's port with a certificate.
    pub(crate) fn call(&self, node: &Node, role: &str, name: &str) -> Channel {
        grpc::channel("localhost", node.port, &self.authority.issue(role, name)).unwrap()
    }
}

async fn carry(
    mut from: tokio::sync::mpsc::Receiver<replica::PeerMsg>,
    to: PeerLink,
    cut: CancellationToken,
) {
    while let Some(Some(message)) = cut.run_until_cancelled(from.recv()).await {
        if to.receive(message).await.is_err() {
            return;
        }
    }
    to.close().await;
}
