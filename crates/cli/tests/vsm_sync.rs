//! `vsm-sync` against two nodes over loopback with real TLS: what it prints, and that it goes on with the other node.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{
    io::{BufRead, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::RoutesBuilder};
use uuid::Uuid;
use vsm_cli::pki;
use vsm_config::Config;
use vsm_core::{
    Incarnation, LineageId, Proposal, RequestId, Session, SessionId, State, UnixMillis, replica,
};
use vsm_daemon::{
    access::{self, Caller, Guard},
    grpc,
    tls::{Peer, Tls},
};
use vsm_proto::sync::v1::observe_server::ObserveServer;
use vsm_sync::{
    MemoryStore, Outbox, SessionTable,
    observe::{ObserveApi, ObserveConfig},
};

/// Nothing here takes as long; a test that would hang fails instead.
const LONG: Duration = Duration::from_secs(30);

#[derive(clap::Parser)]
struct Pki {
    #[command(subcommand)]
    command: PkiCommand,
}

#[derive(clap::Subcommand)]
enum PkiCommand {
    Init(pki::InitArgs),
    Issue(pki::IssueArgs),
}

/// A cluster's authority with a configuration directory for each host.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.pki(&["init"]);
        site
    }

    fn pki(&self, arguments: &[&str]) {
        let ca = self.dir.path().join("ca");
        let line = ["pki"].iter().chain(arguments).copied().chain(["--dir", ca.to_str().unwrap()]);
        match <Pki as clap::Parser>::try_parse_from(line).unwrap().command {
            PkiCommand::Init(arguments) => pki::init(&arguments).unwrap(),
            PkiCommand::Issue(arguments) => pki::issue(&arguments).unwrap(),
        }
    }

    /// The configuration directory of a host with a certificate.
    fn host(&self, name: &str, role: &str) -> PathBuf {
        let out = self.dir.path().join(name);
        let path = out.to_str().unwrap();
        self.pki(&["issue", name, "--role", role, "--address", "localhost", "--out", path]);
        let conf = out.join("conf.d");
        std::fs::create_dir_all(&conf).unwrap();
        let yaml = format!(
            "tls:\n  ca_file: {path}/ca.pem\n  cert_file: {path}/host.pem\n  key_file: {path}/host.key\n"
        );
        std::fs::write(conf.join("tls.yaml"), yaml).unwrap();
        conf
    }

    /// A node that serves a table of its own: the pair's replication has its own tests.
    async fn node(&self, name: &str) -> Node {
        let tls = Tls::load(&Config::load(&self.host(name, "broker")).unwrap()).unwrap();
        let store = MemoryStore::new(LineageId::new(Uuid::from_u128(1)));
        let (witnesses, _) = tokio::sync::mpsc::channel(1);
        let config = replica::Config::alone(name.parse().unwrap(), 1);
        let table =
            SessionTable::start(store, config, Incarnation(1), Outbox { witnesses }).unwrap();
        let stop = CancellationToken::new();
        let config =
            ObserveConfig { node: name.parse().unwrap(), standalone: false, version: "1".into() };
        let api = ObserveServer::new(ObserveApi::new(config, table.clone(), stop.clone()));
        let mut routes = RoutesBuilder::default();
        routes.add_service(api);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let stopped = stop.clone();
        tokio::spawn(async move {
            grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(Observers), stopped)
                .await
                .unwrap();
        });
        Node { table, address, stop }
    }
}

/// The observers that a node knows: one.
struct Observers;

impl access::Site for Observers {
    fn lets_in(&self, caller: Caller, peer: &Peer, _: Option<IpAddr>) -> Result<(), Status> {
        if caller == Caller::Observer && peer.name != "observer" {
            return Err(Status::permission_denied(format!("{} may not follow", peer.name)));
        }
        Ok(())
    }
}

struct Node {
    table: SessionTable,
    address: String,
    stop: CancellationToken,
}

impl Node {
    async fn session(&self, n: u128) {
        let session = Session {
            id: SessionId::new(Uuid::from_u128(n)),
            user: format!("user{n}").parse().unwrap(),
            agent: "agent1".parse().unwrap(),
            state: State::Running { display: 10 },
            request: RequestId::new(Uuid::from_u128(n)),
            params: Default::default(),
            created: UnixMillis(1),
        };
        self.table.propose(Proposal::Adopt(session)).await.unwrap();
    }

    async fn gone(&self, n: u128) {
        let id = SessionId::new(Uuid::from_u128(n));
        self.table.propose(Proposal::Gone { id }).await.unwrap();
    }
}

fn observer(conf: &Path, nodes: &[&Node], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsm-sync"));
    let nodes: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    command.arg("--config").arg(conf).arg("--nodes").arg(nodes.join(",")).args(arguments);
    command
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// `follow` with its lines; ended when dropped.
struct Follow {
    child: Child,
    lines: Receiver<Value>,
}

impl Follow {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                if sender.send(serde_json::from_str(&line.unwrap()).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(LONG).unwrap()
    }

    /// The ids of the sessions of the next events, shortened, and whether each is there.
    fn session(&self) -> (String, bool) {
        let event = self.next();
        assert_eq!(event["event"], "session", "{event}");
        let id = event["id"].as_str().unwrap().trim_start_matches(['0', '-']).to_owned();
        (id, !event["record"].is_null())
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_dumped_and_both_nodes_are_shown() {
    let site = Site::new();
    let conf = site.host("observer", "admin");
    let (a, b) = (site.node("a").await, site.node("b").await);
    a.session(1).await;
    a.session(2).await;
    let out = run(observer(&conf, &[&a, &b], &["dump", "--output", "json"])).await;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let dump: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&dump["from"]["node"], dump["sessions"].as_array().unwrap().len()),
        (&"a".into(), 2)
    );
    assert_eq!(dump["sessions"][1]["user"], "user2");
    // More than one page.
    for n in 3..=1500 {
        a.session(n).await;
    }
    let out = run(observer(&conf, &[&a, &b], &["dump"])).await;
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text.lines().count(), 1 + 1500 + 1, "heading, sessions, summary");
    assert!(text.contains("1500 session(s) at change"), "{text}");
    b.stop.cancel();
    let out = run(observer(&conf, &[&a, &b], &["status", "--output", "json"])).await;
    assert!(out.status.success());
    let nodes: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&nodes[0]["role"], &nodes[0]["ready"]), (&"active".into(), &true.into()));
    assert!(nodes[1]["unreachable"].is_string(), "{nodes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_named_observer_with_the_right_role_hears_anything() {
    let site = Site::new();
    let a = site.node("a").await;
    for (name, role, why) in [
        ("stranger", "admin", "stranger may not follow"),
        ("observer", "agent", "the certificate of observer is not that of a broker or an admin"),
    ] {
        let conf = site.host(name, role);
        let out = run(observer(&conf, &[&a], &["status"])).await;
        assert_eq!(out.status.code(), Some(69), "{name}");
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_as_they_happen_and_from_the_other_node_once_one_dies() {
    let site = Site::new();
    let conf = site.host("observer", "broker");
    let (a, b) = (site.node("a").await, site.node("b").await);
    a.session(1).await;
    a.session(2).await;
    let follow = Follow::start(observer(&conf, &[&a, &b], &["follow", "--output", "json"]));
    let first = follow.next();
    assert_eq!((&first["event"], &first["node"]), (&"following".into(), &"a".into()));
    let table = follow.next();
    assert_eq!((&table["event"], &table["sessions"]), (&"table".into(), &2.into()));
    a.session(3).await;
    assert_eq!(follow.session(), ("3".into(), true));
    a.gone(1).await;
    assert_eq!(follow.session(), ("1".into(), false));
    // What the other node has: the same, and one more that the first did not live to tell.
    b.session(1).await;
    b.gone(1).await;
    for n in [2, 3, 4] {
        b.session(n).await;
    }
    a.stop.cancel();
    let other = follow.next();
    assert_eq!((&other["event"], &other["node"]), (&"following".into(), &"b".into()), "{other}");
    assert_eq!(follow.session(), ("4".into(), true), "only what is new");
    b.session(5).await;
    assert_eq!(follow.session(), ("5".into(), true));
}
