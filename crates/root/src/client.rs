//! The broker's end: one connection for each request.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};
use vsm_daemon::socket;

use crate::{
    mail,
    message::{ANSWER_MAX, Act, Answer},
    server,
};

/// How long an answer may take beyond what is asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long taking parameters may take: a lock is waited for ten seconds.
const ADOPT_MAX: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Nobody takes the request.
    #[error("the root helper (vsm-root) cannot be reached: {0}")]
    Away(#[source] io::Error),
    /// It has taken the request and is gone.
    #[error("the root helper (vsm-root) ended before it was done")]
    Ended,
    /// It takes too long.
    #[error("the root helper (vsm-root) gave no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It says something else than an answer.
    #[error("the root helper (vsm-root) gave an answer that cannot be read: {0}")]
    Unreadable(#[source] serde_json::Error),
}

/// Where the helper is asked.
#[derive(Debug, Clone)]
pub struct Helper {
    socket: PathBuf,
}

impl Default for Helper {
    fn default() -> Self {
        Self { socket: Path::new(server::DIR).join(server::SOCKET) }
    }
}

impl Helper {
    /// The helper at another socket.
    #[must_use]
    pub const fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Whether somebody takes requests.
    ///
    /// # Errors
    /// Why nobody does.
    pub fn look(&self) -> Result<(), Lost> {
        socket::connect_now(&self.socket).map(drop).map_err(Lost::Away)
    }

    /// Has it read the configuration that is about to be taken, and look at the keys that it names: where the next one
    /// is bad, this is the last good one. Returns when it has, or is away.
    pub async fn look_again(&self) {
        let looked = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            // Who says nothing asks for nothing but this.
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        // It reads it by itself a little later too.
        let _ = tokio::time::timeout(GRACE, looked).await;
    }

    /// Asks for something; a hook may take as long as `hook`.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn ask(&self, act: Act, hook: Duration) -> Result<Answer, Lost> {
        let most = GRACE
            + match &act {
                Act::Hook(_) => hook,
                Act::Mail { .. } => mail::SEND_MAX,
                Act::Adopt { .. } => ADOPT_MAX,
            };
        let line = act.line().map_err(Lost::Unreadable)?;
        match tokio::time::timeout(most, self.exchange(&line)).await {
            Ok(answer) => answer,
            Err(_) => Err(Lost::Late(most)),
        }
    }

    async fn exchange(&self, line: &[u8]) -> Result<Answer, Lost> {
        let mut stream = UnixStream::connect(&self.socket).await.map_err(Lost::Away)?;
        // One that refuses without reading has said why, or is gone: what it says is read in either case.
        let _ = stream.write_all(line).await;
        let mut answer = Vec::new();
        let mut reader = BufReader::new((&mut stream).take(ANSWER_MAX));
        match reader.read_until(b'\n', &mut answer).await {
            Ok(_) if answer.ends_with(b"\n") => {
                serde_json::from_slice(&answer).map_err(Lost::Unreadable)
            }
            Ok(_) | Err(_) => Err(Lost::Ended),
        }
    }
}
