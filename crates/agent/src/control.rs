//! What is said on a session's control socket: JSON lines, requests one way, events the other.
//!
//! `vsmagent` subscribes, ends sessions and drops viewers; `vsm-login` attaches as the owner. Both may be of another
//! version than the `vsm-session` that they speak to: unknown fields are skipped, an unknown request is answered with
//! [`Event::Refused`]. Fields may be added, never changed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vsm_core::{EndReason, Limits, SessionId, Standing, UnixMillis, Viewer};

use crate::{record::Record, spec::FileRules};

/// Asked of a `vsm-session`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Status now, then every change until the connection ends. Root only.
    Subscribe,
    /// Status once. Root only.
    Status,
    /// End the session. Root only.
    Terminate {
        /// Why.
        reason: EndReason,
        /// One line for people.
        detail: String,
    },
    /// Drop the viewer. Root or the owner.
    Disconnect {
        /// Shown to the viewer.
        reason: String,
    },
    /// The session's environment. Root or the owner.
    Environment,
    /// Which files may go between its page in a browser and this host. Root or the owner.
    Files,
    /// Show a text on the desktop; the answer comes once it is shown, or is not. Root only.
    Notify {
        /// Program that shows it, as the user; the text is its argument.
        program: PathBuf,
        /// What.
        text: String,
    },
    /// May somebody shadow the desktop? Its user may be asked first. Root only.
    AskShadow {
        /// Who.
        by: String,
        /// Whether they want to do more than look.
        control: bool,
        /// Program that asks the user, as the user.
        program: PathBuf,
    },
    /// Shadow the desktop: the answer bears a connection, as for [`Request::Attach`]. Root only; afterwards nothing
    /// more can be asked on this connection, which is handed to the one who shadows.
    Shadow {
        /// Who.
        by: String,
        /// Where they are, for people.
        #[serde(default)]
        address: String,
        /// Whether they may do more than look.
        control: bool,
    },
    /// End all shadowing. Root or the owner.
    EndShadows,
    /// Keep to these limits from now on. Root only.
    Limits {
        /// All of them.
        limits: Box<Limits>,
    },
    /// How it stands against its limits, once the X server has said when the last input was. Root only.
    Standing,
    /// Put off what a limit would do next. Root or the owner.
    Extend,
    /// View the desktop: the answer bears a connection to the X server, and the session counts as viewed until this
    /// control connection ends. Root or the owner.
    Attach {
        /// Where the viewer is, for people.
        #[serde(default)]
        address: String,
    },
}

/// Where a session is, as its monitor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The X server has not shown that it is ready.
    Starting,
    /// It can be viewed.
    Running,
    /// What runs in it is being ended.
    Ending,
}

/// Why a viewer is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropCause {
    /// Somebody asked for it.
    #[default]
    Disconnected,
    /// Another viewer came.
    Replaced,
    /// The session ends, and not by a log-out.
    Ended,
    /// The user was away for longer than the administrator allows.
    Idle,
}

/// Told by a `vsm-session`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// All there is to know.
    Status {
        /// The record, as it should be on disk; none while the session is being prepared.
        record: Option<Box<Record>>,
        /// Phase.
        phase: Phase,
        /// Connected viewer.
        viewer: Option<Viewer>,
        /// How it stands against its limits; none = it has none.
        #[serde(default)]
        standing: Option<Box<Standing>>,
    },
    /// The viewer came, changed or went.
    Viewer {
        /// Connected viewer.
        viewer: Option<Viewer>,
    },
    /// Nothing is left of the session.
    Ended {
        /// Why.
        reason: EndReason,
        /// One line for people.
        detail: String,
        /// When.
        at: UnixMillis,
    },
    /// The terminate has begun; [`Event::Ended`] follows to subscribers.
    Terminating,
    /// The connection to the X server comes with this line.
    Attached,
    /// The attached viewer is being dropped.
    Dropped {
        /// Why.
        why: String,
        /// The same for programs.
        #[serde(default)]
        cause: DropCause,
    },
    /// Viewers were dropped.
    Disconnected {
        /// Whether there was one.
        was_connected: bool,
    },
    /// The session's environment.
    Environment {
        /// Variables, by name.
        variables: BTreeMap<String, String>,
    },
    /// Which files may go between its page in a browser and this host.
    Files {
        /// In which directions.
        #[serde(flatten)]
        rules: FileRules,
    },
    /// How it stands against its limits.
    Standing {
        /// All of it.
        standing: Box<Standing>,
    },
    /// The limits hold, and are on disk.
    LimitsSet,
    /// An end was put off.
    Extended {
        /// The parameter that sets the limit.
        limit: String,
        /// How long there is until what comes next, in milliseconds.
        left_ms: u64,
        /// How often it can be put off still.
        more: u32,
    },
    /// The text is on the desktop.
    Shown,
    /// Whether the desktop may be shadowed.
    ShadowAnswer {
        /// Whether it may.
        granted: bool,
        /// Whether by more than looking.
        control: bool,
        /// Why not, in one line.
        why: String,
    },
    /// Who shadows the desktop has changed.
    Shadowers {
        /// All of them.
        by: Vec<String>,
    },
    /// Not done.
    Refused {
        /// Why.
        why: String,
    },
}

/// The folder of a session's sockets: owned by root, so that the owner cannot put a socket of their own in its place.
#[must_use]
pub fn session_dir(run_dir: &Path, id: SessionId) -> PathBuf {
    run_dir.join("sessions").join(id.to_string())
}

/// The control socket in a session's folder.
#[must_use]
pub fn socket(session_dir: &Path) -> PathBuf {
    session_dir.join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_sender_is_understood_as_far_as_known() {
        let attach: Request =
            serde_json::from_str(r#"{"op":"attach","address":"10.0.0.9","colour":"red"}"#).unwrap();
        assert!(matches!(attach, Request::Attach { address } if address == "10.0.0.9"));
        assert!(serde_json::from_str::<Request>(r#"{"op":"dance"}"#).is_err());
        let event = serde_json::to_string(&Event::Disconnected { was_connected: true }).unwrap();
        assert_eq!(event, r#"{"event":"disconnected","was_connected":true}"#);
    }
}
