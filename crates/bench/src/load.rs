//! Calls for a while, so many in flight on one connection, and how many came back: the same code for the broker's
//! look-ups and for the echo that they are compared with.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use prost::Message;
use serde::Serialize;
use tonic::{Status, transport::Channel};
use vsm_daemon::{clock, socket};
use vsm_proto::{
    agent::v1::{VerifyRequest, VerifyResponse, verify_response},
    broker::v1::{LoginResponse, broker_client::BrokerClient},
    session::v1::LiveSession,
};

use crate::{
    echo::{self, pb::echo_client::EchoClient},
    logins, millis,
};

/// What to call.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Calls in flight
    #[arg(long)]
    in_flight: usize,
    /// How long, in milliseconds; a quarter of it goes before, unmeasured
    #[arg(long)]
    for_ms: u64,
    /// Look up the session of this user, who has one
    #[arg(long, required_unless_present = "echo")]
    user: Option<String>,
    /// Call the echo on this socket instead
    #[arg(long, requires_all = ["ask", "answer"])]
    echo: Option<PathBuf>,
    /// Size of a request in bytes, with the echo
    #[arg(long)]
    ask: Option<usize>,
    /// Size of an answer in bytes, with the echo
    #[arg(long)]
    answer: Option<usize>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Sizes of the messages on both hops, where they are the product's.
    sizes: Option<Sizes>,
}

/// Message sizes in bytes.
#[derive(Debug, Serialize)]
struct Sizes {
    login_ask: usize,
    login_answer: usize,
    verify_ask: usize,
    verify_answer: usize,
}

impl Sizes {
    fn of(answer: &LoginResponse) -> Self {
        let session = answer.session.clone().unwrap_or_default();
        let id = session.id.clone();
        let alive = LiveSession { session: Some(session), viewer: None };
        let verify = VerifyResponse { result: Some(verify_response::Result::Alive(alive)) };
        Self {
            login_ask: logins::wish().encoded_len(),
            login_answer: answer.encoded_len(),
            verify_ask: VerifyRequest { id }.encoded_len(),
            verify_answer: verify.encoded_len(),
        }
    }
}

/// Calls for a while.
pub(crate) async fn run(options: Options) -> Result<Load> {
    let time = Duration::from_millis(options.for_ms);
    if let Some(path) = options.echo {
        let client = EchoClient::new(socket::channel(path));
        let (ask, answer) = (options.ask.unwrap_or(0), options.answer.unwrap_or(0));
        let call = move |client: EchoClient<Channel>| echo::call(client, ask, answer);
        return measure(options.in_flight, time, client, call, None).await;
    }
    let user = options.user.unwrap_or_default();
    let mut broker = logins::connect(&user, &logins::user_socket()).await?;
    let answer = broker.login(logins::wish()).await?.into_inner();
    ensure!(!answer.created, "{user} had no session to look up");
    let sizes = Some(Sizes::of(&answer));
    measure(options.in_flight, time, broker, look_up, sizes).await
}

async fn look_up(mut broker: BrokerClient<Channel>) -> Result<(), Status> {
    match broker.login(logins::wish()).await?.into_inner() {
        LoginResponse { created: false, session: Some(_), .. } => Ok(()),
        other => Err(Status::internal(format!("not a look-up: {other:?}"))),
    }
}

async fn measure<C, F>(
    in_flight: usize,
    time: Duration,
    client: C,
    call: impl Fn(C) -> F + Clone + Send + 'static,
    sizes: Option<Sizes>,
) -> Result<Load>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send,
{
    let begin = clock::now() + time / 4;
    let end = begin + time;
    let callers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (client, call) = (client.clone(), call.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let from = clock::now();
                    call(client.clone()).await?;
                    let to = clock::now();
                    if to >= end {
                        return Ok::<_, Status>(times);
                    }
                    if to >= begin {
                        times.push(millis(from, to) * 1000.0);
                    }
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    ensure!(!times.is_empty(), "no call came back");
    times.sort_by(f64::total_cmp);
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).copied().unwrap_or(0.0);
    let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    Ok(Load { per_second: count / time.as_secs_f64(), p50_us: at(50), p99_us: at(99), sizes })
}
