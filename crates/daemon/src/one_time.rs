//! Keys that are good for one login each, at a session host or, on the way there, at a broker: what is said on a
//! daemon's key socket, one line of JSON each way, and what the daemon keeps.
//!
//! sshd has `vsm-authorized-keys` ask whether a key is good, and `vsm-login`, which sshd then runs as the user, takes
//! the right that goes with it up. Both may be of another version than the daemon: unknown fields are skipped, fields
//! may be added, never changed.

mod keys;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vsm_core::SessionId;

use crate::account::{self, Account};
pub use keys::{Bearer, Keys, TooMany, VALID_MAX, serve};

/// Name of the agent's key socket, in its run directory.
pub const AGENT_SOCKET: &str = "vsmagent-keys.sock";
/// Name of the broker's key socket, beside its user socket.
pub const BROKER_SOCKET: &str = "vsmserver-keys.sock";
/// How long a daemon may take: sshd waits for it at each login with a key, one that has nothing to do with us among
/// them. It answers from memory.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest line; the longest key is half of it.
const LINE_MAX: u64 = 8192;

/// Asked of a daemon.
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

/// Asks the daemon behind a key socket one thing.
///
/// # Errors
/// If it does not run, or does not answer in time.
pub fn ask(socket: &Path, ask: &Ask) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    serves_it(&stream, socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let mut line = serde_json::to_vec(ask).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    line.clear();
    BufReader::new(stream.take(LINE_MAX)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// Fails unless who listens there may: root, and at the broker's socket the broker's account, which can make sockets in
/// the same folder. (In a test that is whoever runs it.)
fn serves_it(stream: &UnixStream, socket: &Path) -> io::Result<()> {
    let uid = socket_peercred(stream)?.uid;
    let is_brokers = || {
        socket.file_name().is_some_and(|name| name == BROKER_SOCKET)
            && Account::find(account::BROKER).is_ok_and(|account| account.uid == uid.as_raw())
    };
    if uid.is_root() || uid == geteuid() || is_brokers() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else listens there"))
}

/// The line for sshd that lets a key in for this right and nothing else: it runs `login`, which takes the right up.
/// Kind and text of the key are those of a [`vsm_core::SshKey`] that a daemon has called good.
#[must_use]
pub fn authorized_line(login: &str, right: Uuid, kind: &str, blob: &str) -> String {
    format!("restrict,command=\"{login} --one-time {right}\" {kind} {blob}\n")
}
