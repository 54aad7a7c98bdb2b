//! Hosts in the wrong hands, for tests: a session host that says what is not so, and a broker that uses its certificate
//! at a session host directly. Each has what root on that host has: its certificate and key, and nothing else.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, service::RoutesBuilder};
use uuid::Uuid;
use vsm_daemon::{
    access::{ByRole, Guard},
    grpc,
};
use vsm_proto::{
    agent::v1::{
        self as pb,
        agent_client::AgentClient,
        agent_server::{Agent, AgentServer},
        report_response::Item,
        terminate_response,
    },
    session::v1::{Ended, Epoch, Fence, LiveSession, Session, SessionState},
    sync::v1::{
        QuarantineRequest, WitnessClaim, WitnessRequest, witness_client::WitnessClient,
        witness_request::Kind, witness_response::Kind as Reply,
    },
};

use crate::echo::{tls, until_stdin_closes};

/// Where users are told to connect, if that were believed: their terminal would take it for orders.
const NAME: &str = "a\x1b]0;title\x07\x1b[2J";
/// A key that somebody holds who is nobody's user.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
/// So long the key is to be valid, in milliseconds.
const KEY_MS: u32 = 60_000;

/// What to say as an agent.
#[derive(Debug, Args)]
pub(crate) struct AgentOptions {
    /// Lineage of the table, which the agent of this host knows
    #[arg(long)]
    lineage: String,
    /// The epoch that the first report promises to; each report after it promises to the next one
    #[arg(long)]
    epoch: u64,
    /// Whose the epochs are
    #[arg(long)]
    node: String,
    /// Sessions of somebody else that are said to run here
    #[arg(long, default_value_t = 0)]
    sessions: usize,
    /// Sessions, perhaps of other hosts, that are said to be shadowed and then to have ended; the report stays open
    #[arg(long = "ended")]
    ended: Vec<String>,
}

#[derive(Debug)]
struct Hostile {
    options: AgentOptions,
    promised: AtomicU64,
    sessions: Vec<LiveSession>,
}

/// What is told of a session that may be another host's: somebody looks at it, and it ends.
fn ending(id: &str) -> [Item; 2] {
    let session = Session { id: id.to_owned(), ..invented().session.unwrap_or_default() };
    let shadowers = vec!["dr-house".to_owned()];
    let live = LiveSession { session: Some(session), shadowers, ..LiveSession::default() };
    let ended = Ended { id: id.to_owned(), reason: 1, detail: NAME.to_owned(), at_unix_ms: 1 };
    [Item::Changed(live), Item::Ended(ended)]
}

fn invented() -> LiveSession {
    let session = Session {
        id: Uuid::now_v7().to_string(),
        user: "alice".to_owned(),
        agent: "agent1".to_owned(),
        display: 10,
        state: SessionState::Running.into(),
        request_id: Uuid::new_v4().to_string(),
        ..Session::default()
    };
    LiveSession { session: Some(session), last_client: NAME.to_owned(), ..LiveSession::default() }
}

type Items = Pin<Box<dyn Stream<Item = Result<pb::ReportResponse, Status>> + Send>>;

macro_rules! agent {
    ($($call:ident: $request:ident -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl Agent for Hostile {
            $(async fn $call(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(Status::internal(NAME))
            })*

            type ReportStream = Items;

            /// Ends at once, so that the next one is soon asked for.
            async fn report(&self, _: Request<pb::ReportRequest>) -> Result<Response<Items>, Status> {
                let counter = self.promised.fetch_add(1, Ordering::Relaxed);
                let promised = Epoch { nonce: 0, counter, node: self.options.node.clone() };
                let inventory = pb::Inventory {
                    public_name: NAME.to_owned(),
                    version: NAME.to_owned(),
                    promised: Some(promised),
                    lineage: self.options.lineage.clone(),
                    sessions: self.sessions.clone(),
                    ..pb::Inventory::default()
                };
                let lies = self.options.ended.iter().flat_map(|id| ending(id));
                let items: Vec<_> = std::iter::once(Item::Inventory(inventory)).chain(lies)
                    .map(|item| Ok(pb::ReportResponse { item: Some(item) })).collect();
                let items = tokio_stream::iter(items);
                if self.options.ended.is_empty() {
                    return Ok(Response::new(Box::pin(items)));
                }
                Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(items, tokio_stream::pending()))))
            }
        }
    };
}

agent! {
    start: StartRequest -> StartResponse;
    verify: VerifyRequest -> VerifyResponse;
    terminate: TerminateRequest -> TerminateResponse;
    disconnect_viewer: DisconnectViewerRequest -> DisconnectViewerResponse;
    set_limits: SetLimitsRequest -> SetLimitsResponse;
    set_revoked: SetRevokedRequest -> SetRevokedResponse;
    renew_certificate: RenewCertificateRequest -> RenewCertificateResponse;
    extend: ExtendRequest -> ExtendResponse;
    notify: NotifyRequest -> NotifyResponse;
    session_log: SessionLogRequest -> SessionLogResponse;
    accept_key: AcceptKeyRequest -> AcceptKeyResponse;
    allow_shadow: AllowShadowRequest -> AllowShadowResponse;
    cancel_start: CancelStartRequest -> CancelStartResponse;
}

/// Serves in place of the agent until standard input ends.
pub(crate) async fn agent(options: AgentOptions) -> Result<()> {
    let tls = tls()?;
    let listener = grpc::listen(904).await.context("port 904")?;
    let sessions = (0..options.sessions).map(|_| invented()).collect();
    let promised = AtomicU64::new(options.epoch);
    let agent = Arc::new(Hostile { options, promised, sessions });
    let mut routes = RoutesBuilder::default();
    routes.add_service(AgentServer::from_arc(agent).max_encoding_message_size(grpc::MESSAGE_MAX));
    Ok(grpc::serve_tls(listener, &tls, routes.routes(), Guard::new(ByRole), until_stdin_closes())
        .await?)
}

/// What to ask for as a broker.
#[derive(Debug, Args)]
pub(crate) struct BrokerOptions {
    /// The session host that is asked
    #[arg(long)]
    agent: String,
    /// A session that lives there
    #[arg(long)]
    session: String,
    /// Its owner
    #[arg(long)]
    user: String,
    /// Lineage of the table
    #[arg(long)]
    lineage: String,
    /// Ask for nothing but that a key is accepted
    #[arg(long)]
    only_key: bool,
    /// By which epochs, each `COUNTER@NODE`
    epochs: Vec<String>,
}

/// How one call went.
#[derive(Debug, Serialize)]
struct Answer {
    call: &'static str,
    epoch: String,
    /// Whether it was done.
    done: bool,
    /// What was said.
    said: String,
}

fn answer<T: std::fmt::Debug>(
    call: &'static str,
    epoch: &str,
    result: Result<Response<T>, Status>,
    is_done: impl Fn(&T) -> bool,
) -> Answer {
    let (done, said) = match result {
        Ok(answer) => (is_done(answer.get_ref()), format!("{:?}", answer.get_ref())),
        Err(status) => (false, format!("{:?}: {}", status.code(), status.message())),
    };
    Answer { call, epoch: epoch.to_owned(), done, said }
}

/// Asks for all that opens or changes something, and prints what is answered.
pub(crate) async fn broker(options: BrokerOptions) -> Result<()> {
    let channel = grpc::channel(&options.agent, 904, &tls()?)?;
    let mut agent = AgentClient::new(channel.clone());
    let mut witness = WitnessClient::new(channel);
    let mut all = Vec::new();
    for by in &options.epochs {
        let (counter, node) = by.split_once('@').context("no COUNTER@NODE")?;
        let epoch = Epoch { nonce: 0, counter: counter.parse()?, node: node.to_owned() };
        let lineage = || options.lineage.clone();
        let id = || options.session.clone();
        let fence = Fence { epoch: Some(epoch.clone()), incarnation: 1, lineage: lineage() };
        let fence = || Some(fence.clone());
        let key = pb::AcceptKeyRequest {
            id: id(),
            user: options.user.clone(),
            public_key: KEY.to_owned(),
            valid_ms: KEY_MS,
            fence: fence(),
        };
        all.push(answer("key", by, agent.accept_key(key).await, |_| true));
        if options.only_key {
            continue;
        }
        let look = pb::AllowShadowRequest {
            id: id(),
            by: "bob".to_owned(),
            control: true,
            public_key: KEY.to_owned(),
            valid_ms: KEY_MS,
            fence: fence(),
        };
        all.push(answer("shadow", by, agent.allow_shadow(look).await, |_| true));
        let apart = QuarantineRequest {
            lineage: lineage(),
            journal: u64::MAX,
            journal_id: 0,
            fence: fence(),
        };
        all.push(answer("quarantine", by, witness.quarantine(apart).await, |answer| answer.done));
        let kind = Some(Kind::Claim(WitnessClaim { life: None }));
        let claim = WitnessRequest { lineage: lineage(), epoch: Some(epoch), kind };
        all.push(answer("claim", by, witness.ask(claim).await, |answer| {
            matches!(answer.kind, Some(Reply::Promised(_)))
        }));
        let end = pb::TerminateRequest { fence: fence(), id: id() };
        all.push(answer("end", by, agent.terminate(end).await, |answer| {
            matches!(answer.result, Some(terminate_response::Result::Ended(_)))
        }));
    }
    crate::print(&all)
}
