//! What is said on the agent's key socket: one line of JSON each way, then the connection ends.
//!
//! sshd has `vsm-authorized-keys` ask whether a key is good, and `vsm-login`, which sshd then runs as the user, takes the
//! right that goes with it up. Both may be of another version than `vsmagent`: unknown fields are skipped, fields may be
//! added, never changed.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vsm_core::SessionId;

use crate::lines::{self, Lines};

/// How long the agent may take: sshd waits for it at each login with a key, one that has nothing to do with us among
/// them. It answers from memory.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Asked of `vsmagent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Ask {
    /// Whether this user may log in with this key now. Anybody may ask who knows the key.
    Offered {
        /// Login name.
        user: String,
        /// Kind of the key, as in `ssh-ed25519`.
        kind: String,
        /// The key in base64.
        blob: String,
    },
    /// Take the right up, which can be done once. The session's owner only.
    Redeem {
        /// Which right.
        right: Uuid,
        /// The session that is asked for with it.
        session: SessionId,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Answer {
    /// The key is good for this right.
    Good {
        /// Which right.
        right: Uuid,
    },
    /// It is not one of ours, or not now, or not this user's.
    Unknown,
    /// The right was taken up.
    Redeemed,
    /// It was not.
    Refused {
        /// In one line.
        why: String,
    },
}

/// The agent's key socket.
#[must_use]
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("keys.sock")
}

/// Asks the agent one thing.
///
/// # Errors
/// If it does not run, or does not answer in time.
pub fn ask(run_dir: &Path, ask: &Ask) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket(run_dir))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&lines::line(ask).map_err(io::Error::other)?)?;
    let mut lines = Lines::default();
    let mut buffer = [0; 1024];
    loop {
        if let Some(answer) = lines.next_message().map_err(io::Error::other)? {
            return Ok(answer);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => lines.push(buffer.get(..count).unwrap_or_default()),
        }
    }
}
