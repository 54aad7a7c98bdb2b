//! Clients of the stores that a commit is compared with, each with as little around it as possible: Redis by its
//! protocol over a unix socket, a connection for each caller; etcd by gRPC, a connection for sixteen.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use self::pb::{
    PutRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use crate::{
    RECORD_LEN,
    load::{Caller, Speed, measure},
};

/// Generated types.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    clippy::use_self,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod pb {
    tonic::include_proto!("etcdserverpb");
}

/// What to load.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Writes in flight
    #[arg(long)]
    in_flight: usize,
    /// How long, in milliseconds; a quarter of it goes before, unmeasured
    #[arg(long)]
    for_ms: u64,
    #[command(subcommand)]
    store: Store,
}

#[derive(Debug, Subcommand)]
enum Store {
    /// `SET`, then `WAIT` for one replica
    Redis {
        /// Its unix socket
        socket: PathBuf,
    },
    /// `Put` at the leader
    Etcd {
        /// The members' client ports on this host
        ports: Vec<u16>,
    },
}

/// Callers who share a connection to etcd.
const SHARING: usize = 16;
/// What Redis answers when both have it.
const BOTH: &[u8] = b"+OK\r\n:1\r\n";

/// Writes for a while.
pub(crate) async fn run(options: Options) -> Result<Speed> {
    let time = Duration::from_millis(options.for_ms);
    match options.store {
        Store::Redis { socket } => {
            let mut callers = Vec::new();
            for _ in 0..options.in_flight {
                callers.push(Redis::new(UnixStream::connect(&socket).await?));
            }
            measure(callers, time).await
        }
        Store::Etcd { ports } => {
            let leader = leader(&ports).await?;
            let mut callers = Vec::new();
            while callers.len() < options.in_flight {
                let client = Etcd(KvClient::new(leader.connect().await?));
                let some = SHARING.min(options.in_flight - callers.len());
                callers.extend(vec![client; some]);
            }
            measure(callers, time).await
        }
    }
}

struct Redis {
    socket: UnixStream,
    /// First half of its keys.
    own: String,
    count: u64,
    /// The rest of both commands, which is always the same.
    rest: String,
}

impl Redis {
    fn new(socket: UnixStream) -> Self {
        let record = "x".repeat(RECORD_LEN);
        let rest =
            format!("${RECORD_LEN}\r\n{record}\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n5000\r\n");
        Self { socket, own: format!("{:016x}", Uuid::new_v4().as_u64_pair().0), count: 0, rest }
    }
}

impl Caller for Redis {
    async fn call(&mut self) -> Result<()> {
        self.count += 1;
        let Self { socket, own, count, rest } = self;
        let both = format!("*3\r\n$3\r\nSET\r\n$36\r\n{own}{count:020}\r\n{rest}");
        socket.write_all(both.as_bytes()).await?;
        let mut answer = [0; BOTH.len()];
        socket.read_exact(&mut answer).await?;
        ensure!(answer == BOTH, "Redis answered {:?}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

/// The member that needs no other one to pass a write on.
async fn leader(ports: &[u16]) -> Result<Endpoint> {
    for port in ports {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
        let mut client = MaintenanceClient::new(endpoint.connect().await?);
        let status = client.status(StatusRequest {}).await?.into_inner();
        if status.leader != 0 && status.header.is_some_and(|own| own.member_id == status.leader) {
            return Ok(endpoint);
        }
    }
    anyhow::bail!("etcd has no leader")
}

#[derive(Clone)]
struct Etcd(KvClient<Channel>);

impl Caller for Etcd {
    async fn call(&mut self) -> Result<()> {
        let key = Uuid::new_v4().to_string().into_bytes();
        self.0.put(PutRequest { key, value: vec![b'x'; RECORD_LEN] }).await?;
        Ok(())
    }
}
