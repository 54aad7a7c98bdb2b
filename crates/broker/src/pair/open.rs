//! Opening the table: alone, or as one of a pair.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vsm_config::{Config, RoleSource, keys};
use vsm_core::{
    AgentName, Incarnation, NodeName,
    replica::{self, WitnessMsg},
};
use vsm_daemon::{
    grpc,
    tls::{Role, Tls},
};
use vsm_sync::{
    Opened as SqliteOpened, Outbox, SessionTable, SqliteStore, Store,
    peer::{Card, MESSAGE_MAX, PeerConfig, PeerStream},
};

use super::{
    Ha, Pair, card,
    health::Health,
    identity::{self, Host, Nodes, NotOfPair},
    roster,
};
use crate::{error::ServeError, site::settings::Settings};

/// Messages that wait for the witnesses' lines.
const WITNESS_BOUND: usize = 256;
/// Fewer entries are never kept for a node that comes back.
const KEEP_MIN: u64 = 4096;

/// What was opened.
pub(crate) struct Opened {
    pub(crate) node: NodeName,
    pub(crate) table: SessionTable,
    pub(crate) ha: Ha,
    pub(crate) card: Arc<RwLock<Card>>,
    /// What is to be carried to the witnesses.
    pub(crate) asked: Option<mpsc::Receiver<(AgentName, WitnessMsg)>>,
}

/// Opens the store and starts the table.
pub(crate) fn open(
    config: &Config,
    settings: &Settings,
    tls: &Tls,
    stop: &CancellationToken,
) -> Result<Opened, ServeError> {
    let SqliteOpened { mut store, damaged } =
        SqliteStore::open(&config.get(&keys::vsmserver::STATE_DIR))?;
    if let Some((aside, why)) = damaged {
        tracing::error!(file = %aside.display(), why, "the session table was damaged and was moved aside; rebuilding it from the other broker and the agents");
    }
    let card = Arc::new(RwLock::new(card::card(config)));
    let incarnation = Incarnation(rand::random());
    let nodes = if config.get(&keys::ha::ENABLED) { Some(nodes(config)) } else { None };
    match nodes {
        Some(Ok(nodes)) => pair(config, settings, tls, stop, nodes, store, card),
        other => {
            let node = own_name()?;
            let unsafe_because = other.and_then(Result::err).map(|why| why.to_string());
            if store.load()?.disk.is_paired() {
                return apart(config, tls, store, card, node, unsafe_because);
            }
            if let Some(why) = &unsafe_because {
                tracing::error!(
                    why,
                    "HA is configured and cannot be turned on; starting without it"
                );
            }
            let config = replica::Config::alone(node.clone(), rand::random());
            // Agents are told which life of the table this is, should there be a pair again.
            let (witnesses, asked) = mpsc::channel(WITNESS_BOUND);
            let table = SessionTable::start(store, config, incarnation, Outbox { witnesses })?;
            let ha = Ha::Off { unsafe_because };
            Ok(Opened { node, table, ha, card, asked: Some(asked) })
        }
    }
}

/// Makes a pair's table a single server's: who decides so knows that the other node serves no more. What was done, and
/// what is to be done now, in one line.
///
/// # Errors
/// If the table is in use, or cannot be written.
pub fn leave(config: &Config) -> Result<String, ServeError> {
    let dir = config.get(&keys::vsmserver::STATE_DIR);
    let mut store = SqliteStore::open(&dir)?.store;
    let node = own_name()?;
    let before = store.load()?.disk;
    let dir = dir.display();
    if !before.joined {
        return Ok(format!("there is no table in {dir}: nothing was done, and a start begins one"));
    }
    store.leave_pair(node.clone(), rand::random())?;
    let now = store.load()?.disk;
    let (was, sessions) = (
        if before.is_paired() { "a pair's" } else { "one server's already" },
        now.table.sessions(),
    );
    let others: Vec<String> = config.get(&keys::ha::NODES);
    let others: Vec<&str> =
        others.iter().map(String::as_str).filter(|other| *other != node.as_str()).collect();
    let other = if others.len() == 1 { others[0] } else { "the other node" };
    let enabled = keys::ha::ENABLED.path();
    let first = if config.get(&keys::ha::ENABLED) {
        format!("set {enabled}=false before vsmserver is started here")
    } else {
        "start vsmserver here".to_owned()
    };
    Ok(format!(
        "the table in {dir}, {was}, with {} session(s), is that of {node} alone from its new life on (epoch {}); {first}; \
         vsmserver of {other} must serve no more with its copy: keep it stopped, or make both a pair anew ({enabled}=true on \
         both), which replaces that copy",
        sessions.len(),
        now.promised
    ))
}

/// Opens a pair's table to look at it: as a standby that nobody will ever want to be active.
fn apart(
    config: &Config,
    tls: &Tls,
    store: SqliteStore,
    card: Arc<RwLock<Card>>,
    node: NodeName,
    unsafe_because: Option<String>,
) -> Result<Opened, ServeError> {
    let switched_off = unsafe_because.is_none();
    let why = match unsafe_because {
        Some(why) => format!("HA is configured and could not be turned on: {why}"),
        None => "HA is switched off (/vsmserver/HA/enabled), and the table here is a pair's: switch it on again; or, if the \
                 other node is to serve no more, stop vsmserver and run `vsmserver --leave-pair`"
            .to_owned(),
    };
    tracing::error!(
        why,
        "this node has a pair's table and cannot be one of the pair: it serves nobody, and sends users on if it can"
    );
    let replica =
        replica::Config { alone: false, ..replica::Config::alone(node.clone(), rand::random()) };
    let table = SessionTable::start(store, replica, Incarnation(rand::random()), Outbox::none())?;
    let port = config.get(&keys::vsmserver::LISTEN_PORT);
    let other = match &other_nodes(config)[..] {
        [other] => Some(grpc::channel_to(Role::Broker, other, port, tls)?),
        _ => None,
    };
    let ha = Ha::Apart(super::Apart { why, switched_off, other });
    Ok(Opened { node, table, ha, card, asked: None })
}

/// The entries of `/vsmserver/HA/nodes` that are other hosts for certain.
fn other_nodes(config: &Config) -> Vec<String> {
    let local = identity::local_addresses().unwrap_or_default();
    let is_other = |entry: &String| {
        identity::resolve(entry).is_ok_and(|addresses| {
            !addresses.is_empty()
                && addresses
                    .iter()
                    .all(|address| !address.is_loopback() && !local.contains(address))
        })
    };
    config.get(&keys::ha::NODES).into_iter().filter(is_other).collect()
}

/// Why a node would not have HA on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HaOff {
    /// It is not wanted.
    #[error("HA is off (vsm-config {}=true)", keys::ha::ENABLED.path())]
    NotEnabled,
    /// It is no node of the pair, as far as can be told.
    #[error(transparent)]
    NotOfPair(#[from] NotOfPair),
}

/// Whether a node with this configuration would have HA on when it starts. Looks names up, which may take long.
///
/// # Errors
/// Why not.
pub(crate) fn could_be_on(config: &Config) -> Result<(), HaOff> {
    if !config.get(&keys::ha::ENABLED) {
        return Err(HaOff::NotEnabled);
    }
    nodes(config)?;
    Ok(())
}

fn nodes(config: &Config) -> Result<Nodes, NotOfPair> {
    let host = Host::of_system().map_err(NotOfPair::Host)?;
    let resource = config.get(&keys::ha::RESOURCE_ADDRESS);
    identity::nodes(&config.get(&keys::ha::NODES), &resource, &host, identity::resolve)
}

fn pair(
    config: &Config,
    settings: &Settings,
    tls: &Tls,
    stop: &CancellationToken,
    nodes: Nodes,
    mut store: SqliteStore,
    card: Arc<RwLock<Card>>,
) -> Result<Opened, ServeError> {
    let Nodes { own, peer } = nodes;
    // Each node was tried by itself before (step 6), and there can be one table. The first node keeps its own in any
    // case: it may be the one that was in use for years, and what was done there is in it.
    if config.get(&keys::ha::NODES).first().is_some_and(|first| *first != own.as_str())
        && let Some(former) = store.set_aside_expendable(&peer)?
    {
        tracing::info!(file = %former.display(), "this node was a server by itself and has no sessions: its table was set aside for the pair's");
    }
    let ack_timeout = config.get(&keys::ha::ACK_TIMEOUT);
    let ack_timeout_ms = u64::try_from(ack_timeout.as_millis()).unwrap_or(u64::MAX);
    let keep = config.get(&keys::ha::CHANGELOG_KEEP).max(KEEP_MIN);
    let replica = replica::Config {
        node: own.clone(),
        witnesses: roster::choose(settings, [own.as_str(), peer.as_str()]),
        ack_timeout_ms,
        heartbeat_ms: (ack_timeout_ms / 10).clamp(10, 1000),
        seed: rand::random(),
        limits: replica::Limits {
            log_keep: usize::try_from(keep).unwrap_or(usize::MAX),
            ..replica::Limits::DEFAULT
        },
        alone: false,
    };
    let (witnesses, asked) = mpsc::channel(WITNESS_BOUND);
    let incarnation = Incarnation(rand::random());
    let table = SessionTable::start(store, replica, incarnation, Outbox { witnesses })?;
    let shared = Arc::clone(&card);
    let stream = PeerConfig {
        node: own.clone(),
        peer: peer.clone(),
        card: Box::new(move || shared.read().clone()),
        idle: (ack_timeout * 3).max(Duration::from_millis(1000)),
        message_max: MESSAGE_MAX,
    };
    let channel = grpc::channel_to(
        Role::Broker,
        peer.as_str(),
        config.get(&keys::vsmserver::LISTEN_PORT),
        tls,
    )?;
    let resource = config.get(&keys::ha::RESOURCE_ADDRESS);
    let source = match config.get(&keys::ha::ROLE_SOURCE) {
        RoleSource::Automatic if resource.is_empty() => RoleSource::Request,
        RoleSource::Automatic => RoleSource::Address,
        source @ (RoleSource::Address | RoleSource::Cluster | RoleSource::Request) => source,
    };
    let pair = Pair {
        own: own.clone(),
        peer,
        nodes: config.get(&keys::ha::NODES),
        state_dir: config.get(&keys::vsmserver::STATE_DIR),
        stream: PeerStream::new(stream, table.clone(), stop.clone()),
        channel,
        source,
        resource,
        holds_address: AtomicBool::new(false),
        health: watch::Sender::new(Health::no("starting")),
        clock: super::fenced::WallClock::new(),
    };
    Ok(Opened { node: own, table, ha: Ha::On(Arc::new(pair)), card, asked: Some(asked) })
}

fn own_name() -> Result<NodeName, ServeError> {
    let name = hostname::get()
        .map_err(|error| ServeError::Config(format!("this host has no name: {error}")))?;
    name.to_string_lossy()
        .parse()
        .map_err(|error| ServeError::Config(format!("this host's name: {error}")))
}
