//! One broker's session table with its store on disk and the real stream to the other node, and nothing else of a
//! broker: what commits and resynchronisations are measured on. It obeys lines on its standard input and answers each
//! with a line of JSON; it ends with its input.
//!
//! The node that dials is the active one. The witnesses are in its memory, so that it can go on without the other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use prost::Message;
use serde::Serialize;
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::Channel};
use uuid::Uuid;
use vsm_config::Config;
use vsm_core::{
    AgentName, Incarnation, NodeName, Proposal, RequestId, Session, SessionId, StartParams, State,
    replica::{self, Standing, Witness, WitnessMsg},
};
use vsm_daemon::{
    access::{ByRole, Guard},
    clock, grpc,
    tls::Tls,
};
use vsm_proto::{session::v1 as pb, sync::v1::peer_server::PeerServer};
use vsm_sync::{
    Outbox, ProposeError, SessionTable, SqliteStore,
    peer::{Card, FRAME_MAX, PeerApi, PeerConfig, PeerStream},
};

use crate::{
    RECORD_LEN,
    load::{Caller, Speed, measure},
    millis,
};

/// The name that the certificates are for.
const HOST: &str = "localhost";
/// Witnesses, and messages that wait for them.
const WITNESSES: [&str; 3] = ["w1", "w2", "w3"];
const WITNESS_BOUND: usize = 1024;
/// Sessions that are added at the same time.
const FILL_AT_ONCE: usize = 512;
/// Between two commits where the table's owner is not to be kept busy by them.
const PACE: Duration = Duration::from_millis(2);
/// Between two attempts of one commit.
const RETRY: Duration = Duration::from_millis(1);
/// Nothing here takes as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which node.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of this node; the lower one dials
    #[arg(long)]
    name: NodeName,
    /// Name of the other one
    #[arg(long)]
    peer: NodeName,
    /// Its state directory
    #[arg(long)]
    dir: PathBuf,
    /// Configuration with the TLS files
    #[arg(long)]
    config: PathBuf,
    /// Port of the node that is dialled, on this host
    #[arg(long)]
    port: u16,
    /// How long an answer may take, in milliseconds
    #[arg(long, default_value_t = 500)]
    ack_timeout_ms: u64,
}

/// How the node is.
#[derive(Debug, Serialize)]
struct Now {
    serving: bool,
    /// Active: the other node has everything.
    synced: bool,
    commit: u64,
    sessions: usize,
}

/// How the other node was brought up to date.
#[derive(Debug, Serialize)]
struct Joined {
    /// From the first attempt to connect until it had everything, in milliseconds.
    synced_ms: f64,
    /// Commits meanwhile.
    meanwhile: Speed,
}

/// A session whose record is as long as those of the rivals.
pub(crate) fn session(number: usize) -> Result<Session> {
    let mut session = Session {
        id: SessionId::new(Uuid::now_v7()),
        user: format!("someone{number:06}").parse()?,
        agent: format!("host{:03}.example.org", number % 100).parse()?,
        state: State::Running { display: u32::try_from(10 + number / 100)? },
        request: RequestId::new(Uuid::new_v4()),
        params: StartParams {
            geometry: Some("1920x1080".parse()?),
            start_command: Box::default(),
            language: "en_GB.UTF-8".into(),
            client_name: format!("laptop{number:06}.example.org").into(),
            unvoted: false,
            client: BTreeMap::default(),
            profile: Box::default(),
        },
        created: clock::unix_millis(),
    };
    let len = |session: &Session| pb::Session::from(session).encoded_len();
    // A field, and a length of the message around it, take up to five bytes more than what is in them.
    session.params.start_command = "x".repeat(RECORD_LEN.saturating_sub(len(&session) + 5)).into();
    ensure!(len(&session).abs_diff(RECORD_LEN) <= 5, "a record of {} bytes", len(&session));
    Ok(session)
}

#[derive(Clone)]
struct Proposer {
    table: SessionTable,
    number: usize,
}

impl Caller for Proposer {
    async fn call(&mut self) -> Result<()> {
        self.number += 1;
        self.table.propose(Proposal::Adopt(session(self.number)?)).await?;
        Ok(())
    }
}

/// Commits one after the other at a steady pace until told to stop; how long each took in microseconds, with all
/// attempts of one that was refused because the reign was beginning anew.
async fn paced(mut proposer: Proposer, stop: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        proposer.number += 1;
        let (session, from) = (session(proposer.number)?, clock::now());
        let mut unknown = false;
        loop {
            match proposer.table.propose(Proposal::Adopt(session.clone())).await {
                Ok(_) => break,
                // The reign ended while it was under way, and the next one has it.
                Err(ProposeError::Rejected(_)) if unknown => break,
                Err(ProposeError::Unknown) => unknown = true,
                Err(ProposeError::NotActive | ProposeError::NoVotes | ProposeError::Busy) => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
            ensure!(clock::now() < from + DEADLINE, "a commit took longer than {DEADLINE:?}");
        }
        times.push(millis(from, clock::now()) * 1000.0);
    }
    Ok(times)
}

struct Node {
    options: Options,
    table: SessionTable,
    /// To the node that is dialled.
    channel: Option<Channel>,
    /// Ends the stream.
    stop: CancellationToken,
    proposed: usize,
}

fn agents() -> Result<Vec<AgentName>> {
    Ok(WITNESSES.iter().map(|name| name.parse()).collect::<Result<_, _>>()?)
}

/// Witnesses in memory: they answer at once.
fn witnesses(table: SessionTable, mut asked: mpsc::Receiver<(AgentName, WitnessMsg)>) {
    tokio::spawn(async move {
        let mut all = BTreeMap::<AgentName, Witness>::new();
        while let Some((agent, message)) = asked.recv().await {
            let reply = all.entry(agent.clone()).or_default().handle(message);
            if table.witness(agent, reply).await.is_err() {
                return;
            }
        }
    });
}

fn tls(config: &Path) -> Result<Tls> {
    Ok(Tls::load(&Config::load(config)?)?)
}

impl Node {
    async fn start(options: Options) -> Result<Self> {
        let config = replica::Config {
            node: options.name.clone(),
            witnesses: agents()?,
            ack_timeout_ms: options.ack_timeout_ms,
            heartbeat_ms: 50,
            seed: 7,
            limits: replica::Limits::DEFAULT,
            alone: false,
        };
        let (to_witnesses, asked) = mpsc::channel(WITNESS_BOUND);
        let store = SqliteStore::open(&options.dir)?.store;
        let outbox = Outbox { witnesses: to_witnesses };
        let table = SessionTable::start(store, config, Incarnation(rand_number()), outbox)?;
        let tls = tls(&options.config)?;
        let mut node =
            Self { table, channel: None, stop: CancellationToken::new(), proposed: 0, options };
        if node.options.name < node.options.peer {
            witnesses(node.table.clone(), asked);
            node.channel = Some(grpc::channel(HOST, node.options.port, &tls)?);
            node.table.want(true).await?;
        } else {
            node.listen(tls).await?;
        }
        Ok(node)
    }

    fn stream(&self) -> Arc<PeerStream> {
        let config = PeerConfig {
            message_max: vsm_sync::peer::MESSAGE_MAX,
            node: self.options.name.clone(),
            peer: self.options.peer.clone(),
            card: Box::new(Card::default),
            idle: Duration::from_millis(self.options.ack_timeout_ms * 4),
        };
        PeerStream::new(config, self.table.clone(), self.stop.clone())
    }

    async fn listen(&self, tls: Tls) -> Result<()> {
        let mut routes = RoutesBuilder::default();
        let api = PeerServer::new(PeerApi(self.stream()));
        routes.add_service(api.max_decoding_message_size(FRAME_MAX));
        let port = self.options.port;
        let listener =
            TcpListener::bind((HOST, port)).await.with_context(|| format!("port {port}"))?;
        let stop = self.stop.clone();
        tokio::spawn(async move {
            grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(ByRole), stop).await
        });
        Ok(())
    }

    fn now(&self) -> Now {
        let state = self.table.state();
        let synced = is_synced(&state.replica.standing);
        let sessions = self.table.read(|view| view.table.sessions().len());
        Now { serving: state.serving().is_some(), synced, commit: state.replica.commit, sessions }
    }

    fn proposer(&mut self) -> Proposer {
        // Numbers are only for names: two sessions of one user do no harm.
        self.proposed += 100_000;
        Proposer { table: self.table.clone(), number: self.proposed % 900_000 }
    }

    async fn fill(&mut self, sessions: usize) -> Result<Now> {
        let proposer = self.proposer();
        let mut left = sessions;
        while left > 0 {
            let some = left.min(FILL_AT_ONCE);
            let one = |offset| {
                let mut proposer =
                    Proposer { table: proposer.table.clone(), number: left + offset };
                async move { proposer.call().await }
            };
            let tasks: Vec<JoinHandle<Result<()>>> =
                (0..some).map(|offset| tokio::spawn(one(offset))).collect();
            for task in tasks {
                task.await??;
            }
            left -= some;
        }
        Ok(self.now())
    }

    async fn load(&mut self, in_flight: usize, for_ms: u64) -> Result<Speed> {
        let callers = vec![self.proposer(); in_flight];
        measure(callers, Duration::from_millis(for_ms)).await
    }

    async fn pace(&mut self, for_ms: u64) -> Result<Speed> {
        let (stop, from) = (Arc::new(AtomicBool::new(false)), clock::now());
        let commits = tokio::spawn(paced(self.proposer(), Arc::clone(&stop)));
        tokio::time::sleep(Duration::from_millis(for_ms)).await;
        stop.store(true, Ordering::Relaxed);
        Speed::of(commits.await??, clock::now().duration_since(from))
    }

    /// Ends the stream, and waits until the active node knows that the other one is away.
    async fn cut(&mut self) -> Result<Now> {
        std::mem::take(&mut self.stop).cancel();
        // It finds out when it wants something.
        self.proposer().call().await?;
        let mut state = self.table.watch();
        let away = state.wait_for(|state| !is_synced(&state.replica.standing));
        tokio::time::timeout(DEADLINE, away).await.context("the other node is not away")??;
        Ok(self.now())
    }

    /// Connects to the other node while commits go on.
    async fn join(&mut self) -> Result<Joined> {
        let channel = self.channel.clone().context("this is the node that is dialled")?;
        let (stop, from) = (Arc::new(AtomicBool::new(false)), clock::now());
        let commits = tokio::spawn(paced(self.proposer(), Arc::clone(&stop)));
        tokio::spawn(self.stream().dial(channel));
        let mut state = self.table.watch();
        let synced = state.wait_for(|state| is_synced(&state.replica.standing));
        let synced = tokio::time::timeout(DEADLINE, synced).await;
        let to = clock::now();
        stop.store(true, Ordering::Relaxed);
        synced.with_context(|| format!("the other node is not in sync after {DEADLINE:?}"))??;
        let meanwhile = Speed::of(commits.await??, to.duration_since(from))?;
        Ok(Joined { synced_ms: millis(from, to), meanwhile })
    }

    async fn obey(&mut self, line: &str) -> Result<()> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["now"] => crate::print(&self.now()),
            ["load", in_flight, for_ms] => {
                crate::print(&self.load(in_flight.parse()?, for_ms.parse()?).await?)
            }
            ["pace", for_ms] => crate::print(&self.pace(for_ms.parse()?).await?),
            ["fill", sessions] => crate::print(&self.fill(sessions.parse()?).await?),
            ["cut"] => crate::print(&self.cut().await?),
            ["join"] => crate::print(&self.join().await?),
            _ => bail!("{line:?} is no order; there are now, load, pace, fill, cut, join"),
        }
    }
}

const fn is_synced(standing: &Standing) -> bool {
    matches!(standing, Standing::Active { synced: true, .. })
}

/// Of this process.
fn rand_number() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

/// Runs a node until its input ends.
pub(crate) fn run(options: Options, runtime: &Runtime) -> Result<()> {
    let mut node = runtime.block_on(Node::start(options))?;
    for line in std::io::stdin().lines() {
        runtime.block_on(node.obey(&line?))?;
    }
    node.stop.cancel();
    Ok(())
}
