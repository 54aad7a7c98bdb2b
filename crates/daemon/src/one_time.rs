//! Keys that are good for one login each, at a session host or, on the way there, at a broker: what is said on a
//! daemon's key socket, one line of JSON each way, and what the daemon keeps. The socket of a broker also answers for
//! web keys, by which browsers log in until a time; these are in its table.
//!
//! sshd has `vsm-authorized-keys` ask whether a key is good, and `vsm-login`, which sshd then runs as the user, takes
//! the right that goes with it up. Both may be of another version than the daemon: unknown fields are skipped, fields
//! may be added, never changed.

mod keys;

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vsm_core::{SessionId, UnixMillis, WebKeyId};

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
    /// Whether this web key is good, and another line when it is no more. Its user only.
    Follow {
        /// Which web key.
        id: WebKeyId,
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
    /// The key is this web key.
    Web {
        /// Which.
        id: WebKeyId,
    },
    /// The web key is good. Another line comes when it is no more; an end without one means that the daemon has gone.
    Following {
        /// When its time is over.
        until_unix_ms: u64,
    },
    /// The web key is good no more.
    Over {
        /// In one line.
        why: String,
    },
}

/// Asks the daemon behind a key socket one thing.
///
/// # Errors
/// If it does not run, or does not answer in time.
pub fn ask(socket: &Path, ask: &Ask) -> io::Result<Answer> {
    Ok(open(socket, ask)?.0)
}

/// What follows a first answer is read from this.
type Lines = BufReader<io::Take<UnixStream>>;

fn open(socket: &Path, ask: &Ask) -> io::Result<(Answer, Lines)> {
    let mut stream = UnixStream::connect(socket)?;
    serves_it(&stream, socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let mut line = serde_json::to_vec(ask).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    line.clear();
    let mut lines = BufReader::new(stream.take(LINE_MAX));
    lines.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(&line).map_err(io::Error::other)?, lines))
}

/// A web key that is followed.
#[derive(Debug)]
pub struct Following {
    lines: Lines,
    line: Vec<u8>,
    /// When its time is over.
    pub until: UnixMillis,
}

/// What becomes of a web key that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is good no more; why, in one line.
    Over(String),
    /// The daemon has gone: it may still be good.
    Gone,
    /// Nothing so far.
    Nothing,
}

/// Whether a web key is good.
#[derive(Debug)]
pub enum Followed {
    /// It is, and is followed.
    Good(Following),
    /// It is not; why, in one line.
    Over(String),
}

/// Has the broker behind a key socket say when a web key is good no more, if it is now.
///
/// # Errors
/// If it does not run, does not answer in time, or does not know.
pub fn follow(socket: &Path, id: WebKeyId) -> io::Result<Followed> {
    let (answer, mut lines) = open(socket, &Ask::Follow { id })?;
    match answer {
        Answer::Following { until_unix_ms } => {
            lines.get_mut().set_limit(LINE_MAX);
            let (line, until) = (Vec::new(), UnixMillis(until_unix_ms));
            Ok(Followed::Good(Following { lines, line, until }))
        }
        Answer::Refused { why } | Answer::Over { why } => Ok(Followed::Over(why)),
        Answer::Good { .. } | Answer::Unknown | Answer::Redeemed | Answer::Web { .. } => {
            Err(io::Error::other("it gave another answer"))
        }
    }
}

impl Following {
    /// Waits at most so long for what becomes of it.
    pub fn wait(&mut self, most: Duration) -> Heard {
        let timed = self.lines.get_ref().get_ref().set_read_timeout(Some(most));
        match timed.and_then(|()| self.lines.read_until(b'\n', &mut self.line)) {
            Ok(_) => match serde_json::from_slice(&self.line) {
                Ok(Answer::Over { why }) => Heard::Over(why),
                _ => Heard::Gone,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }
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

/// What a key lets its user do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// To take this right up.
    OneTime(Uuid),
    /// What a browser's login may, as long as this web key is good.
    Web(WebKeyId),
}

impl Answer {
    /// What the key that was offered is good for.
    #[must_use]
    pub const fn grant(&self) -> Option<Grant> {
        match self {
            Self::Good { right } => Some(Grant::OneTime(*right)),
            Self::Web { id } => Some(Grant::Web(*id)),
            Self::Unknown
            | Self::Redeemed
            | Self::Refused { .. }
            | Self::Following { .. }
            | Self::Over { .. } => None,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneTime(right) => write!(f, "--one-time {right}"),
            Self::Web(id) => write!(f, "--web {id}"),
        }
    }
}

/// The line for sshd that lets a key in for this and nothing else: it runs `login`, which sees to that. Kind and text
/// of the key are those of a [`vsm_core::SshKey`] that a daemon has called good.
#[must_use]
pub fn authorized_line(login: &str, grant: Grant, kind: &str, blob: &str) -> String {
    format!("restrict,command=\"{login} {grant}\" {kind} {blob}\n")
}
