//! Getting a connection to the sshd of a session's host, from the broker on this one: where users cannot reach session
//! hosts by themselves, their ssh goes through here. The bytes are ssh's, which neither we nor the broker can read.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use uuid::Uuid;
use vsm_daemon::socket::receive_with;

use crate::preface::{Code, Failure};

/// Name of the broker's socket for this, beside its user socket.
pub(crate) const SOCKET: &str = "vsmserver-relay.sock";
/// How long the broker may take: it asks who the user is, and connects to the host.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A refusal, as a daemon tells it in one line.
#[derive(Debug, Deserialize)]
struct Answer {
    event: String,
    #[serde(default)]
    why: String,
}

/// Why a daemon gave no connection.
pub(crate) fn refusal(line: &[u8]) -> Failure {
    let Ok(Answer { event, why }) = serde_json::from_slice(line) else {
        return Failure::new(Code::Internal, "the VSM daemon of this host gave no answer");
    };
    let code = match event.as_str() {
        "no-session" => Code::NoSession,
        "no-host" => Code::NoHost,
        "refused" => Code::Refused,
        _ => Code::Internal,
    };
    Failure::new(code, why)
}

/// A connection to the sshd of the session's host.
pub(crate) fn lead(socket: &Path, session: &Uuid) -> Result<UnixStream, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Code::Internal, format!("the VSM broker does not answer: {error}"))
    };
    let mut broker = crate::broker(socket, None)?;
    broker.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let request = serde_json::json!({ "op": "relay", "session": session });
    broker.write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
    let (line, connections) = receive_with(&broker).map_err(failed)?;
    // A connection is a connection: what is done with it is the same for both kinds.
    let connection = connections.into_iter().next().ok_or_else(|| refusal(&line))?;
    Ok(UnixStream::from(connection))
}
