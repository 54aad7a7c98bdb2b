//! Getting the connections to somebody else's desktop from the agent on this host, by a right to shadow it.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use uuid::Uuid;
use vsm_daemon::socket::receive_with;

use crate::{
    preface::{Code, Failure},
    relay,
};

/// Name of the agent's socket for this, in its run directory.
const SOCKET: &str = "vsmagent-shadow.sock";
/// How long the agent may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The control connection, which is to stay open while the desktop is shadowed, and the desktop's own.
pub(crate) fn join(
    run_dir: &Path,
    session: &Uuid,
    right: &Uuid,
    address: &str,
) -> Result<(UnixStream, UnixStream), Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Code::NoSession,
            format!("the VSM agent of this host does not answer: {error}"),
        )
    };
    let mut agent = UnixStream::connect(run_dir.join(SOCKET)).map_err(failed)?;
    agent.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let request = serde_json::json!({ "op": "shadow", "session": session, "right": right, "address": address });
    agent.write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
    let (line, descriptors) = receive_with(&agent).map_err(failed)?;
    let mut descriptors = descriptors.into_iter().map(UnixStream::from);
    match (descriptors.next(), descriptors.next()) {
        (Some(control), Some(desktop)) => Ok((control, desktop)),
        _ => Err(relay::refusal(&line)),
    }
}
