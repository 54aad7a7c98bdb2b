//! Getting the desktop's connection from its `vsm-session`, over the session's control socket.

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

/// How long the session may take to answer; it takes less than a millisecond.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What a session tells on its control socket, as far as a viewer cares.
#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    cause: String,
}

/// Why a viewer was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Disconnected,
    Replaced,
    Ended,
    Idle,
}

/// Connects to a session's control socket, which its owner and root can.
pub(crate) fn control(run_dir: &Path, id: &Uuid) -> Result<UnixStream, Failure> {
    let socket = run_dir.join("sessions").join(id.to_string()).join("control.sock");
    UnixStream::connect(socket).map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            Failure::new(Code::NoSession, format!("there is no session {id} on this host"))
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Failure::new(Code::Refused, format!("session {id} is not yours"))
        } else {
            Failure::new(Code::Internal, format!("session {id} cannot be reached: {error}"))
        }
    })
}

/// Asks for the desktop: the control connection, which is to stay open while the desktop is viewed, and the desktop's
/// own connection.
pub(crate) fn attach(
    run_dir: &Path,
    id: &Uuid,
    address: &str,
) -> Result<(UnixStream, UnixStream), Failure> {
    let mut control = control(run_dir, id)?;
    let failed = |error: io::Error| {
        Failure::new(Code::Internal, format!("session {id} does not answer: {error}"))
    };
    control.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let request = serde_json::json!({ "op": "attach", "address": address });
    control.write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
    let gone = || Failure::new(Code::NoSession, format!("session {id} has just ended"));
    let (line, descriptors) = receive_with(&control).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof { gone() } else { failed(error) }
    })?;
    match (descriptors.into_iter().next(), why(&line)) {
        (Some(descriptor), _) => Ok((control, UnixStream::from(descriptor))),
        (None, Some(why)) => Err(Failure::new(Code::Refused, why)),
        // It is being ended.
        (None, None) => Err(gone()),
    }
}

/// The reason in an event that has one: that the viewer was dropped, or refused.
pub(crate) fn why(line: &[u8]) -> Option<String> {
    let event: Event = serde_json::from_slice(line).ok()?;
    matches!(event.event.as_str(), "dropped" | "refused").then_some(event.why)
}

/// Why the viewer is dropped, in an event that says so.
pub(crate) fn cause(line: &[u8]) -> Option<Cause> {
    let event: Event =
        serde_json::from_slice(line).ok().filter(|e: &Event| e.event == "dropped")?;
    Some(match &*event.cause {
        "replaced" => Cause::Replaced,
        "ended" => Cause::Ended,
        "idle" => Cause::Idle,
        _ => Cause::Disconnected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found() {
        assert_eq!(why(br#"{"event":"dropped","why":"replaced","new":1}"#).unwrap(), "replaced");
        assert_eq!(why(br#"{"event":"attached"}"#), None);
        assert_eq!(cause(br#"{"event":"dropped","why":""}"#), Some(Cause::Disconnected));
        assert_eq!(cause(br#"{"event":"dropped","cause":"ended"}"#), Some(Cause::Ended));
        assert_eq!(cause(br#"{"event":"refused","cause":"ended"}"#), None);
        assert_eq!(why(b"{"), None);
    }

    #[test]
    fn a_session_that_is_not_there_is_named() {
        let id = Uuid::from_u128(7);
        let failure = attach(Path::new("/nonexistent"), &id, "").unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("no-session there is no session {id} on this host")
        );
    }
}
