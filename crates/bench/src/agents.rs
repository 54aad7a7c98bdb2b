//! Many agents in one process: each has an address, a certificate and a listener of its own, serves the real interface
//! by gRPC over mutual TLS, and has sessions that are nothing but records. What a broker has to do with a thousand
//! agents is the same as with real ones, short of starting desktops.

use std::{
    collections::BTreeMap, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::RoutesBuilder};
use uuid::Uuid;
use vsm_config::Config;
use vsm_core::{
    RequestId, Session, SessionId, StartParams, State,
    replica::{Witness, WitnessMsg},
};
use vsm_daemon::{
    access::{ByRole, Guard},
    clock, grpc,
    tls::Tls,
};
use vsm_proto::{
    agent::v1::{
        self as pb,
        agent_server::{Agent, AgentServer},
        report_response::Item,
        verify_response,
    },
    session::v1::LiveSession,
    sync::v1::{
        QuarantineRequest, QuarantineResponse, WitnessRequest, WitnessResponse,
        witness_server::{self, WitnessServer},
    },
};

/// A real agent tells its load at least as often.
const LOAD_EVERY: Duration = Duration::from_secs(30);
/// Sessions of an agent, at most.
const SESSIONS_MAX: usize = 1000;
/// A UUID of version 7, to which numbers are added.
const ID_FIRST: u128 = 0x0190_0000_0000_7000_8000 << 48;
/// First display number.
const DISPLAY_MIN: u32 = 10;

/// Which agents.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many: sim0000, sim0001, …
    #[arg(long)]
    count: usize,
    /// Sessions on each, at most 999
    #[arg(long)]
    sessions: usize,
    /// A folder with a configuration for each, which names its certificate
    #[arg(long)]
    configs: PathBuf,
    /// Port on which each listens, on its address
    #[arg(long)]
    port: u16,
}

/// Name and address of an agent.
fn place(number: usize, port: u16) -> Result<(String, SocketAddr)> {
    let (high, low) = (u8::try_from(number / 250)?, u8::try_from(number % 250 + 1)?);
    Ok((format!("sim{number:04}"), SocketAddr::from(([10, 1, high, low], port))))
}

/// When which agent heard that which identity counts no more, in milliseconds since 1970 UTC.
#[derive(Debug, Default)]
struct Heard(Mutex<BTreeMap<String, BTreeMap<String, u64>>>);

impl Heard {
    fn note(&self, agent: &str, identities: Vec<pb::RevokedIdentity>) {
        let now = clock::unix_millis().0;
        let mut all = self.0.lock();
        for identity in identities {
            all.entry(identity.name).or_default().entry(agent.to_owned()).or_insert(now);
        }
    }

    /// How many have heard of one, and until when 50 and 99 of 100 of these had.
    fn of(&self, identity: &str) -> Revoked {
        let all = self.0.lock();
        let mut times: Vec<u64> =
            all.get(identity).into_iter().flat_map(BTreeMap::values).copied().collect();
        times.sort_unstable();
        let at =
            |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
        let at = |percent| at(percent).copied().unwrap_or_default();
        Revoked { told: times.len(), p50_unix_ms: at(50), p99_unix_ms: at(99) }
    }
}

/// Told of an identity that is asked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Revoked {
    told: usize,
    p50_unix_ms: u64,
    p99_unix_ms: u64,
}

/// One of them.
#[derive(Debug)]
struct Simulated {
    name: String,
    sessions: Vec<Session>,
    /// Where it notes what it is told of identities; all have the same.
    heard: Arc<Heard>,
    /// What it promised. Every agent is greeted; one that never answered would be asked again and again, at rest too.
    witness: Mutex<Witness>,
}

impl Simulated {
    fn new(name: String, number: usize, options: &Options, heard: &Arc<Heard>) -> Result<Self> {
        let session = |offset: usize| {
            // The same ones each time: more sessions are more, and not others.
            let user = number * SESSIONS_MAX + offset;
            Ok(Session {
                id: SessionId::new(Uuid::from_u128(ID_FIRST + u128::try_from(user)?)),
                user: format!("someone{user:06}").parse()?,
                agent: name.parse()?,
                state: State::Running { display: DISPLAY_MIN + u32::try_from(offset)? },
                request: RequestId::new(Uuid::from_u128(u128::try_from(user)?)),
                params: StartParams {
                    geometry: Some("1920x1080".parse()?),
                    language: "en_GB.UTF-8".into(),
                    client_name: format!("laptop{user:06}.example.org").into(),
                    ..StartParams::default()
                },
                created: clock::unix_millis(),
            })
        };
        let sessions = (0..options.sessions).map(session).collect::<Result<_>>()?;
        let witness = Mutex::new(Witness::fresh(u64::try_from(number)?));
        Ok(Self { name, sessions, heard: Arc::clone(heard), witness })
    }

    fn inventory(&self) -> pb::Inventory {
        pb::Inventory {
            boot_id: "simulated".into(),
            public_name: self.name.clone(),
            sessions: self.sessions.iter().map(live).collect(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..pb::Inventory::default()
        }
    }
}

fn live(session: &Session) -> LiveSession {
    LiveSession { session: Some(session.into()), ..LiveSession::default() }
}

const LOAD: pb::Load = pb::Load {
    load1_milli: 4_000,
    cpus: 64,
    memory_total_mib: 262_144,
    memory_available_mib: 150_000,
    cpu_pressure_milli: 2,
    cpu_busy_milli: 60,
    run_queue_milli: 4_000,
    memory_pressure_milli: 0,
    clock_unix_ms: 0,
};

type Answer<T> = Result<Response<T>, Status>;

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("a simulated agent only tells what it has"))
}

#[tonic::async_trait]
impl Agent for Simulated {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<pb::ReportResponse, Status>> + Send>>;

    async fn report(&self, _: Request<pb::ReportRequest>) -> Answer<Self::ReportStream> {
        let (sender, receiver) = mpsc::channel(4);
        let inventory = Item::Inventory(self.inventory());
        tokio::spawn(async move {
            let mut next = Some(inventory);
            let mut ticks = tokio::time::interval(LOAD_EVERY);
            loop {
                let item = Some(next.take().unwrap_or(Item::Load(LOAD)));
                if sender.send(Ok(pb::ReportResponse { item })).await.is_err() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    _ = ticks.tick() => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn verify(&self, request: Request<pb::VerifyRequest>) -> Answer<pb::VerifyResponse> {
        let id = request.into_inner().id;
        let found = self.sessions.iter().find(|session| session.id.to_string() == id);
        let found = found.ok_or_else(|| Status::internal("no such session"))?;
        let result = Some(verify_response::Result::Alive(live(found)));
        Ok(Response::new(pb::VerifyResponse { result }))
    }

    async fn start(&self, _: Request<pb::StartRequest>) -> Answer<pb::StartResponse> {
        not_here()
    }

    async fn terminate(&self, _: Request<pb::TerminateRequest>) -> Answer<pb::TerminateResponse> {
        not_here()
    }

    async fn disconnect_viewer(
        &self,
        _: Request<pb::DisconnectViewerRequest>,
    ) -> Answer<pb::DisconnectViewerResponse> {
        not_here()
    }

    async fn renew_certificate(
        &self,
        _: Request<pb::RenewCertificateRequest>,
    ) -> Answer<pb::RenewCertificateResponse> {
        not_here()
    }

    async fn set_revoked(
        &self,
        request: Request<pb::SetRevokedRequest>,
    ) -> Answer<pb::SetRevokedResponse> {
        self.heard.note(&self.name, request.into_inner().identities);
        Ok(Response::new(pb::SetRevokedResponse {}))
    }

    async fn set_limits(&self, _: Request<pb::SetLimitsRequest>) -> Answer<pb::SetLimitsResponse> {
        not_here()
    }

    async fn extend(&self, _: Request<pb::ExtendRequest>) -> Answer<pb::ExtendResponse> {
        not_here()
    }

    async fn cancel_start(
        &self,
        _: Request<pb::CancelStartRequest>,
    ) -> Answer<pb::CancelStartResponse> {
        not_here()
    }

    async fn session_log(
        &self,
        _: Request<pb::SessionLogRequest>,
    ) -> Answer<pb::SessionLogResponse> {
        not_here()
    }

    async fn accept_key(&self, _: Request<pb::AcceptKeyRequest>) -> Answer<pb::AcceptKeyResponse> {
        not_here()
    }

    async fn allow_shadow(
        &self,
        _: Request<pb::AllowShadowRequest>,
    ) -> Answer<pb::AllowShadowResponse> {
        not_here()
    }

    async fn notify(&self, _: Request<pb::NotifyRequest>) -> Answer<pb::NotifyResponse> {
        not_here()
    }
}

#[tonic::async_trait]
impl witness_server::Witness for Simulated {
    async fn ask(&self, request: Request<WitnessRequest>) -> Answer<WitnessResponse> {
        let message = WitnessMsg::try_from(request.into_inner())?;
        Ok(Response::new((&self.witness.lock().handle(message)).into()))
    }

    async fn quarantine(&self, _: Request<QuarantineRequest>) -> Answer<QuarantineResponse> {
        not_here()
    }
}

/// Told once all listen.
#[derive(Debug, Serialize)]
struct Ready {
    agents: usize,
}

/// Serves until standard input ends. Each line of it names an identity, and is answered by how many have heard that its
/// certificates count no more.
pub(crate) async fn run(options: Options) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Three for each agent: its listener and a connection of each broker.
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let stop = CancellationToken::new();
    let heard = Arc::new(Heard::default());
    let mut servers = JoinSet::new();
    for number in 0..options.count {
        let (name, address) = place(number, options.port)?;
        let config = options.configs.join(&name);
        let tls = Tls::load(&Config::load(&config)?)?;
        let agent = Simulated::new(name, number, &options, &heard)?;
        let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let agent = Arc::new(agent);
        let mut routes = RoutesBuilder::default();
        routes.add_service(
            AgentServer::from_arc(Arc::clone(&agent)).max_encoding_message_size(grpc::MESSAGE_MAX),
        );
        routes.add_service(WitnessServer::from_arc(agent));
        let stop = stop.clone();
        servers.spawn(async move {
            grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(ByRole), stop).await
        });
    }
    crate::print(&Ready { agents: options.count })?;
    let asked =
        move || std::io::stdin().lines().try_for_each(|line| crate::print(&heard.of(line?.trim())));
    tokio::task::spawn_blocking(asked).await??;
    // What is under way is a report that would never end.
    servers.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_counts_once_and_by_what_it_heard_first() {
        let heard = Heard::default();
        let revoked = |name: &str| pb::RevokedIdentity { name: name.to_owned(), before_unix_ms: 1 };
        heard.note("sim0000", vec![revoked("agent/a")]);
        heard.note("sim0000", vec![revoked("agent/a"), revoked("agent/b")]);
        heard.note("sim0001", vec![revoked("agent/a")]);
        assert_eq!((heard.of("agent/a").told, heard.of("agent/b").told), (2, 1));
        assert!(heard.of("agent/a").p50_unix_ms <= heard.of("agent/a").p99_unix_ms);
        let nobody = Revoked { told: 0, p50_unix_ms: 0, p99_unix_ms: 0 };
        assert_eq!(heard.of("agent/c"), nobody);
    }
}
