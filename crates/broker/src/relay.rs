//! The way to session hosts that users cannot reach by themselves: `vsm-login` on this host asks for a connection to the
//! sshd of the agent that has the caller's desktop, and carries the user's ssh over it. The bytes never come through this
//! process, so a desktop that is viewed does not depend on it.
//!
//! What is said is one line of JSON each way. With the answer `joined` comes the connection; the others bear the reason.

use std::{
    io::{self, IoSlice},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{TcpStream, UnixStream},
};
use vsm_core::SessionId;
use vsm_daemon::socket::{self, Access};

use crate::{broker::Broker, find};

/// Name of the socket, beside the user socket.
pub(crate) const SOCKET: &str = "vsmserver-relay.sock";
/// How long a caller may take to say what they want.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long an agent's sshd may take to be reached.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest request.
const LINE_MAX: u64 = 4096;
/// Callers at a time; others wait in the socket's queue.
const CALLERS_MAX: usize = 256;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
enum Ask {
    /// A connection to the sshd of this session's agent.
    Relay { session: SessionId },
}

/// Why there is no connection: a word for the client, a line for the user.
#[derive(Debug)]
struct Refused(&'static str, String);

/// Serves callers on the socket at `path` until the broker stops.
pub(crate) async fn serve(broker: Arc<Broker>, path: PathBuf) {
    let access = Access { mode: 0o666, group: None };
    let one = |stream| {
        let broker = Arc::clone(&broker);
        async move { answer(&broker, stream).await }
    };
    if let Err(error) = socket::serve(&path, access, CALLERS_MAX, &broker.stop, one).await {
        tracing::error!(%error, "users cannot be led to session hosts through this one");
    }
}

async fn answer(broker: &Arc<Broker>, mut stream: UnixStream) -> io::Result<()> {
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(LINE_MAX));
    tokio::time::timeout(ASK_MAX, reader.read_until(b'\n', &mut line)).await??;
    let uid = stream.peer_cred()?.uid();
    let done = lead(broker, uid, &line).await;
    let stream = stream.into_std()?;
    let (text, connection) = match &done {
        Ok(connection) => (serde_json::json!({ "event": "joined" }), Some(connection)),
        Err(Refused(word, why)) => (serde_json::json!({ "event": word, "why": why }), None),
    };
    let descriptors: Vec<_> = connection.iter().map(|connection| connection.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    // A fresh socket has room for one line.
    let line = format!("{text}\n");
    let (to, line) = (stream.as_raw_fd(), [IoSlice::new(line.as_bytes())]);
    sendmsg::<UnixAddr>(to, &line, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Connects to the sshd of the session's agent.
async fn lead(broker: &Arc<Broker>, uid: u32, line: &[u8]) -> Result<std::net::TcpStream, Refused> {
    let asked = serde_json::from_slice(line);
    let Ask::Relay { session: id } =
        asked.map_err(|error| Refused("bad-request", error.to_string()))?;
    let off = "this service does not lead to session hosts (/vsmserver/bastion)";
    let port = broker.settings().bastion.ok_or_else(|| Refused("refused", off.to_owned()))?;
    let who = broker.identity(uid).await.map_err(|error| Refused("refused", error.to_string()))?;
    if !broker.settings().allows(&who) {
        return Err(Refused("refused", format!("{} may not use this service", who.user)));
    }
    let own = find::sessions(broker, &who).into_iter().find(|session| session.id == id);
    let session = own.ok_or_else(|| Refused("no-session", format!("you have no desktop {id}")))?;
    let agent = session.agent.as_str();
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect((agent, port))).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let connection = connected.and_then(|connection| {
        connection.set_nodelay(true)?;
        connection.into_std()
    });
    connection.map_err(|error| {
        tracing::warn!(user = %who.user, session = %id, agent, port, %error, "a user cannot be led to a session host");
        Refused("no-host", format!("{agent} does not answer on port {port}: {error}"))
    })
}
