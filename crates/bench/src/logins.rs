//! Users who log in at the same moment, as they do through `vsm-login`: each on a connection of their own to the
//! broker's socket, known by its peer credentials.

use std::{collections::BTreeMap, os::unix::net::UnixStream as StdStream, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hyper_util::rt::TokioIo;
use nix::unistd::{Uid, User, seteuid};
use serde::Serialize;
use tokio::{net::UnixStream, sync::Barrier};
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};
use uuid::Uuid;
use vsm_config::{Config, keys};
use vsm_daemon::clock;
use vsm_proto::broker::v1::{
    EndSessionRequest, LoginChoice, LoginRequest, LoginResponse, broker_client::BrokerClient,
};

use crate::millis;

/// Who logs in.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Login names
    #[arg(required = true)]
    users: Vec<String>,
}

/// Whose sessions end.
#[derive(Debug, Args)]
pub(crate) struct EndOptions {
    /// Login names
    #[arg(required = true)]
    users: Vec<String>,
}

/// How long each login took.
#[derive(Debug, Serialize)]
pub(crate) struct Logins {
    /// From each user's request to their answer, in milliseconds.
    each_ms: Vec<f64>,
    /// From the first request to the last answer, in milliseconds.
    all_ms: f64,
}

/// What was ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ends {
    ended: usize,
}

/// The socket of the broker on this host.
pub(crate) fn user_socket() -> std::path::PathBuf {
    // The miniature hosts leave it where it is by default.
    Config::defaults().get(&keys::vsmserver::USER_SOCKET)
}

/// Connects as the user: the kernel notes the effective user of the process that connects.
pub(crate) async fn connect(user: &str, socket: &Path) -> Result<BrokerClient<Channel>> {
    let known = User::from_name(user)?.with_context(|| format!("there is no user {user}"))?;
    seteuid(known.uid).with_context(|| format!("become {user}"))?;
    let stream = StdStream::connect(socket);
    seteuid(Uid::from_raw(0)).context("become root again")?;
    let stream = stream.with_context(|| socket.display().to_string())?;
    stream.set_nonblocking(true)?;
    let mut stream = Some(UnixStream::from_std(stream)?);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection is over"));
        async move { stream.map(TokioIo::new) }
    });
    let channel =
        Endpoint::from_static("http://vsm.local").connect_with_connector(connector).await?;
    Ok(BrokerClient::new(channel))
}

/// A wish for a desktop, as `vsm connect` sends it.
pub(crate) fn wish() -> LoginRequest {
    let params = vsm_proto::session::v1::StartParams {
        geometry: None,
        start_command: String::new(),
        language: "C.UTF-8".into(),
        client_name: "client".into(),
        unvoted: false,
        client: BTreeMap::default(),
        profile: String::new(),
    };
    LoginRequest {
        request_id: Uuid::new_v4().to_string(),
        params: Some(params),
        session_id: String::new(),
        choice: Some(LoginChoice::SingleDisconnected.into()),
        public_key: String::new(),
    }
}

/// Logs them all in; every session must be a new one.
pub(crate) async fn run(options: &Options) -> Result<Logins> {
    let socket = user_socket();
    let start = Arc::new(Barrier::new(options.users.len()));
    let mut tasks = Vec::new();
    for user in &options.users {
        // The connection is there before the clock starts; whose it is the broker learns after.
        let broker = connect(user, &socket).await?;
        tasks.push(tokio::spawn(one(broker, user.clone(), Arc::clone(&start))));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await??);
    }
    let first = times.iter().map(|(from, _)| *from).min().context("nobody")?;
    let last = times.iter().map(|(_, to)| *to).max().context("nobody")?;
    Ok(Logins {
        each_ms: times.iter().map(|(from, to)| millis(*from, *to)).collect(),
        all_ms: millis(first, last),
    })
}

async fn one(
    mut broker: BrokerClient<Channel>,
    user: String,
    start: Arc<Barrier>,
) -> Result<(std::time::Instant, std::time::Instant)> {
    start.wait().await;
    let from = clock::now();
    let answer: LoginResponse =
        broker.login(Request::new(wish())).await.with_context(|| user.clone())?.into_inner();
    let to = clock::now();
    if !answer.created {
        bail!("{user} was given a session that was there already");
    }
    Ok((from, to))
}

/// Ends the one session of each, all at the same time.
pub(crate) async fn end(options: &EndOptions) -> Result<Ends> {
    let socket = user_socket();
    let mut tasks = Vec::new();
    for user in &options.users {
        let mut broker = connect(user, &socket).await?;
        let user = user.clone();
        tasks.push(tokio::spawn(async move {
            let request = EndSessionRequest { id: String::new() };
            let answer = broker.end_session(request).await.with_context(|| user.clone())?;
            ensure!(answer.into_inner().done, "the session of {user} does not end");
            Ok(())
        }));
    }
    let ended = tasks.len();
    for task in tasks {
        task.await??;
    }
    Ok(Ends { ended })
}
