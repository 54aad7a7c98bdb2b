//! A session table of any size, made with the store's own code, and the question whether the broker serves it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;
use vsm_config::{Config, keys};
use vsm_core::{Incarnation, Proposal, RequestId, Session, SessionId, StartParams, State, replica};
use vsm_daemon::{clock, socket};
use vsm_proto::admin::v1::{StatusRequest, admin_client::AdminClient};
use vsm_sync::{Outbox, SessionTable, SqliteStore};

/// First display number on an agent.
const DISPLAY_MIN: usize = 10;

/// What to fill in.
#[derive(Debug, Args)]
pub(crate) struct FillOptions {
    /// The broker's state directory; it must not run
    #[arg(long)]
    dir: PathBuf,
    /// How many sessions, each of a user of its own
    #[arg(long)]
    sessions: usize,
    /// How many agents they are on
    #[arg(long)]
    agents: usize,
}

/// What a table has.
#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    sessions: usize,
}

/// Adds running sessions.
pub(crate) async fn fill(options: FillOptions) -> Result<Sessions> {
    let store = SqliteStore::open(&options.dir)?.store;
    let config = replica::Config::alone("filler".parse()?, 1);
    let table = SessionTable::start(store, config, Incarnation(1), Outbox::none())?;
    let mut proposed = Vec::new();
    for number in 0..options.sessions {
        let display = u32::try_from(DISPLAY_MIN + number / options.agents)?;
        let session = Session {
            id: SessionId::new(Uuid::now_v7()),
            user: format!("someone{number:05}").parse()?,
            agent: format!("host{:03}.example.org", number % options.agents).parse()?,
            state: State::Running { display },
            request: RequestId::new(Uuid::new_v4()),
            params: StartParams {
                geometry: Some("1920x1080".parse()?),
                start_command: Box::default(),
                language: "en_GB.UTF-8".into(),
                client_name: format!("laptop{number:05}.example.org").into(),
                unvoted: false,
                client: BTreeMap::default(),
                profile: Box::default(),
            },
            created: clock::unix_millis(),
        };
        let table = table.clone();
        proposed.push(tokio::spawn(async move { table.propose(Proposal::Adopt(session)).await }));
    }
    for proposal in proposed {
        proposal.await??;
    }
    Ok(Sessions { sessions: options.sessions })
}

/// Asks the broker on this host.
pub(crate) async fn serving() -> Result<Sessions> {
    let path = Config::defaults().get(&keys::vsmserver::ADMIN_SOCKET);
    let mut admin = AdminClient::new(socket::channel(path));
    let status = admin.status(StatusRequest {}).await.context("the broker")?.into_inner();
    Ok(Sessions { sessions: usize::try_from(status.sessions)? })
}
