//! `vsmctl ha`: what administrators and the HA software ask about the pair, on the local admin socket.

mod findings;
mod model;
mod node;
mod simulate;
mod status;
mod todo;

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use tonic::transport::Channel;
use vsm_daemon::grpc;
use vsm_proto::admin::v1::{self as pb, ha_client::HaClient};

pub(crate) use node::position;
pub(crate) use simulate::cells as forecast;
pub use status::PairShown;

use crate::{
    admin::{AdminOptions, DEADLINE},
    broker::with_deadline,
    exit::Failure,
    output,
};

/// keepalived asks each second and must have its answer before it asks again.
const HEALTH_DEADLINE: Duration = Duration::from_millis(900);
/// What `health` ends with when the broker cannot be asked.
const CANNOT_BE_ASKED: u8 = 2;
/// A comparison waits until both nodes are at the same change, and asks every agent.
const LONG_DEADLINE: Duration = Duration::from_secs(120);

/// What can be asked about the pair.
#[derive(Debug, Subcommand)]
pub enum HaCommand {
    /// Show both nodes as each sees itself, the witnesses, and what needs to be done
    Status {
        /// Exit with 1 if something needs to be done
        #[arg(long)]
        exit_code: bool,
    },
    /// Tell the HA software whether this node may have the resource address
    #[command(
        after_help = "Exit codes: 0 it may, 1 it may not, 2 the broker could not be asked within 0.9 s"
    )]
    Health,
    /// Make this node the active one, in an orderly hand-over
    Takeover {
        /// Only show what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what each node could still do after each single cut or loss, for the pair as it is now
    Simulate,
    /// Check the nine steps of setting up a pair
    Check,
    /// Compare the tables of both nodes with each other and with the agents
    Verify,
    /// Tell this node to be active; for cluster software (/vsmserver/HA/role_source = cluster)
    Promote,
    /// Tell this node not to be active; for cluster software
    Demote,
    /// Report that the other node's power was cut, and that this was confirmed; for cluster software
    #[command(
        after_help = "Without witnesses, the other node's vote then counts as given until it is heard again. Exit codes: 0 it counts, 1 it does not, and why"
    )]
    Fenced {
        /// When it was cut, in seconds since 1970 UTC by this host's clock
        #[arg(long, value_name = "SECONDS")]
        at: u64,
    },
}

/// Runs it.
///
/// # Errors
/// If the broker cannot be asked, or the answer is no.
pub async fn run(options: &AdminOptions, command: &HaCommand) -> Result<(), Failure> {
    match command {
        HaCommand::Status { exit_code } => status::run(options, *exit_code).await,
        HaCommand::Health => health(options).await,
        HaCommand::Takeover { dry_run } => take_over(options, *dry_run).await,
        HaCommand::Simulate => simulate::run(options).await,
        HaCommand::Check => findings::check(options).await,
        HaCommand::Verify => findings::verify(options).await,
        HaCommand::Promote => want(options, true).await,
        HaCommand::Demote => want(options, false).await,
        HaCommand::Fenced { at } => fenced(options, *at).await,
    }
}

async fn dial(options: &AdminOptions) -> Result<HaClient<Channel>, Failure> {
    Ok(HaClient::new(options.channel().await?).max_decoding_message_size(grpc::MESSAGE_MAX))
}

/// Both nodes, the one that was asked first.
async fn nodes(options: &AdminOptions) -> Result<Vec<pb::NodeView>, Failure> {
    let request = with_deadline(pb::ListNodesRequest { local_only: false }, DEADLINE);
    Ok(dial(options).await?.list_nodes(request).await?.into_inner().nodes)
}

/// What `vsmctl ha health` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    reason: String,
    role: String,
    ready: bool,
    wanted: bool,
    preference: u32,
    peer: String,
    fencing_counts: bool,
}

impl From<pb::HealthResponse> for Health {
    fn from(answer: pb::HealthResponse) -> Self {
        let pb::HealthResponse { healthy, reason, role, ready, wanted, preference, peer, .. } =
            answer;
        let fencing_counts = answer.fencing_counts;
        Self { healthy, reason, role, ready, wanted, preference, peer, fencing_counts }
    }
}

async fn health(options: &AdminOptions) -> Result<(), Failure> {
    let ask = async {
        let request = with_deadline(pb::HealthRequest {}, HEALTH_DEADLINE);
        Ok(dial(options).await?.health(request).await?.into_inner())
    };
    // The deadline of the call alone would not bound a broker that takes the connection and does not speak.
    let answer = tokio::time::timeout(HEALTH_DEADLINE, ask).await.unwrap_or_else(|_| {
        Err(Failure::new(CANNOT_BE_ASKED, "the broker does not answer within 0.9 s"))
    });
    let answer = answer.map_err(|failure: Failure| Failure { code: CANNOT_BE_ASKED, ..failure })?;
    let health = Health::from(answer);
    output::report(options.output, &health, |health| {
        let word = if health.healthy { "healthy" } else { "not healthy" };
        let reason = if health.reason.is_empty() { "" } else { ": " };
        format!("{word}{reason}{}\n", health.reason)
    })?;
    if health.healthy { Ok(()) } else { Err(Failure::silent(1)) }
}

/// What `vsmctl ha takeover` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct TakenOver {
    dry_run: bool,
    done: bool,
    detail: String,
    took_ms: u64,
}

async fn take_over(options: &AdminOptions, dry_run: bool) -> Result<(), Failure> {
    let request = with_deadline(pb::TakeOverRequest { dry_run }, DEADLINE);
    let answer = dial(options).await?.take_over(request).await?.into_inner();
    let (done, detail, took_ms) = (answer.done, answer.detail, answer.took_ms);
    let report = TakenOver { dry_run, done, detail, took_ms };
    output::report(options.output, &report, |report| match (report.dry_run, report.done) {
        (true, true) => format!("would be done: {}\n", report.detail),
        (false, true) => format!("done in {} ms: {}\n", report.took_ms, report.detail),
        // The reason goes to standard error.
        (_, false) => String::new(),
    })?;
    if report.done {
        return Ok(());
    }
    let word = if dry_run { "it would not be done" } else { "not done" };
    Err(Failure::new(1, format!("{word}: {}", report.detail)))
}

async fn fenced(options: &AdminOptions, at: u64) -> Result<(), Failure> {
    let at_unix_ms = at.saturating_mul(1000);
    let request = with_deadline(pb::PeerFencedRequest { at_unix_ms }, DEADLINE);
    let answer = dial(options).await?.peer_fenced(request).await?.into_inner();
    if !answer.counts {
        return Err(Failure::new(1, format!("it does not count: {}", answer.detail)));
    }
    output::say(&answer.detail)
}

async fn want(options: &AdminOptions, wanted: bool) -> Result<(), Failure> {
    let request = with_deadline(pb::SetWantedRequest { wanted }, DEADLINE);
    dial(options).await?.set_wanted(request).await?;
    Ok(())
}
