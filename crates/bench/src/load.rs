//! Calls for a while, so many in flight on one connection, and how many came back: the same code for the broker's
//! look-ups and for the echo that they are compared with.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail, ensure};
use clap::Args;
use prost::Message;
use serde::Serialize;
use tonic::transport::Channel;
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

/// How fast something was.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

impl Speed {
    /// Of calls that took so many microseconds each, within this time.
    pub(crate) fn of(mut times_us: Vec<f64>, within: Duration) -> Result<Self> {
        ensure!(!times_us.is_empty(), "no call came back");
        times_us.sort_by(f64::total_cmp);
        let count = times_us.len();
        let at = |hundredth: usize| times_us.get(count * hundredth / 100).copied().unwrap_or(0.0);
        let per_second = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / within.as_secs_f64();
        let max_us = times_us.last().copied().unwrap_or(0.0);
        Ok(Self { per_second, p50_us: at(50), p99_us: at(99), max_us })
    }
}

/// One of those who call at the same time.
pub(crate) trait Caller: Send + 'static {
    /// Calls once.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    #[serde(flatten)]
    speed: Speed,
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
        let alive = LiveSession { session: Some(session), ..LiveSession::default() };
        let verify = VerifyResponse { result: Some(verify_response::Result::Alive(alive)) };
        Self {
            login_ask: logins::wish().encoded_len(),
            login_answer: answer.encoded_len(),
            verify_ask: VerifyRequest {
                id,
                client: logins::wish().params,
                standing: false,
                fence: None,
            }
            .encoded_len(),
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
        let mut echo = EchoCaller { client, ask, answer };
        // By its answer the server has said how many it takes at a time.
        echo.call().await?;
        let speed = measure(vec![echo; options.in_flight], time).await?;
        return Ok(Load { speed, sizes: None });
    }
    let user = options.user.unwrap_or_default();
    let mut broker = logins::connect(&user, &logins::user_socket()).await?;
    let answer = broker.login(logins::wish()).await?.into_inner();
    ensure!(!answer.created, "{user} had no session to look up");
    let sizes = Some(Sizes::of(&answer));
    Ok(Load { speed: measure(vec![LookUp(broker); options.in_flight], time).await?, sizes })
}

#[derive(Clone)]
struct EchoCaller {
    client: EchoClient<Channel>,
    ask: usize,
    answer: usize,
}

impl Caller for EchoCaller {
    async fn call(&mut self) -> Result<()> {
        Ok(echo::call(&mut self.client, self.ask, self.answer).await?)
    }
}

#[derive(Clone)]
struct LookUp(BrokerClient<Channel>);

impl Caller for LookUp {
    async fn call(&mut self) -> Result<()> {
        match self.0.login(logins::wish()).await?.into_inner() {
            LoginResponse { created: false, session: Some(_), .. } => Ok(()),
            other => bail!("not a look-up: {other:?}"),
        }
    }
}

/// Has all of them call, each again when it was answered; a quarter of the time goes before, unmeasured.
pub(crate) async fn measure<C: Caller>(callers: Vec<C>, time: Duration) -> Result<Speed> {
    let begin = clock::now() + time / 4;
    let end = begin + time;
    let one = |mut caller: C| async move {
        let mut times = Vec::new();
        loop {
            let from = clock::now();
            caller.call().await?;
            let to = clock::now();
            if to >= end {
                return anyhow::Ok(times);
            }
            if to >= begin {
                times.push(millis(from, to) * 1000.0);
            }
        }
    };
    let callers: Vec<_> = callers.into_iter().map(|caller| tokio::spawn(one(caller))).collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    Speed::of(times, time)
}
