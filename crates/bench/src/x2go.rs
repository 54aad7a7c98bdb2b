//! A client of x2gobroker: asks over HTTP for the server of a session, one connection for each caller, kept open.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::load::{Caller, Speed, measure};

/// Longest answer; theirs has 400 bytes.
const ANSWER_MAX: usize = 16 << 10;

/// What to ask.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Calls in flight
    #[arg(long)]
    in_flight: usize,
    /// How long, in milliseconds; a quarter of it goes before, unmeasured
    #[arg(long)]
    for_ms: u64,
    /// Port of the broker on this host
    #[arg(long)]
    port: u16,
    /// Who asks
    #[arg(long)]
    user: String,
    /// Session profile
    #[arg(long)]
    profile: String,
}

/// Asks for a while.
pub(crate) async fn run(options: Options) -> Result<Speed> {
    let body = format!("user={}&task=selectsession&sid={}", options.user, options.profile);
    let request = format!(
        "POST /json/inifile HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut callers = Vec::new();
    for _ in 0..options.in_flight {
        let stream = TcpStream::connect(("127.0.0.1", options.port)).await?;
        stream.set_nodelay(true)?;
        callers.push(Asker { stream, request: request.clone() });
    }
    measure(callers, Duration::from_millis(options.for_ms)).await
}

struct Asker {
    stream: TcpStream,
    request: String,
}

impl Caller for Asker {
    async fn call(&mut self) -> Result<()> {
        self.stream.write_all(self.request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            ensure!(answer.len() < ANSWER_MAX, "an answer without end");
            let count = self.stream.read_buf(&mut answer).await?;
            ensure!(count > 0, "it hung up");
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if body.len() >= length(head)? {
                let right = head.starts_with("HTTP/1.1 200") && body.contains("\"server\"");
                ensure!(right, "not a session's server: {text}");
                return Ok(());
            }
        }
    }
}

/// The length of the body, by the head of the answer.
fn length(head: &str) -> Result<usize> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("an answer without a length")?;
    Ok(length.trim().parse()?)
}
