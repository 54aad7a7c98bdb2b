//! A session and where it is in its life.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{AgentName, RequestId, SessionId, UserName};

/// Wall-clock time in milliseconds since 1970 UTC, by the recording node's clock. For people and records only:
/// every timer is monotonic.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct UnixMillis(pub u64);

/// Where a session is in its life. A start that fails leaves no record, and an ended one leaves the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Promised to its user on an agent; no desktop has been handed out.
    Starting,
    /// Its agent started it; it may be handed to its user.
    Running {
        /// X display number on its agent.
        display: u32,
    },
    /// Its end was asked for; carried out as soon as its agent can be reached.
    Ending {
        /// X display number on its agent.
        display: u32,
    },
}

impl State {
    /// The word for people and for JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Ending { .. } => "ending",
        }
    }

    /// The display number, once known.
    #[must_use]
    pub const fn display(self) -> Option<u32> {
        match self {
            Self::Starting => None,
            Self::Running { display } | Self::Ending { display } => Some(display),
        }
    }
}

/// Size of a desktop in pixels; each side 1 to 16384.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Geometry {
    width: u16,
    height: u16,
}

/// A size that is not two numbers, or out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a size is WIDTHxHEIGHT in pixels, each 1 to 16384, not {0:?}")]
pub struct InvalidGeometry(String);

impl Geometry {
    /// Checks the range.
    ///
    /// # Errors
    /// If a side is 0 or above 16384, the largest that Xvnc takes.
    pub fn new(width: u32, height: u32) -> Result<Self, InvalidGeometry> {
        let side = |n: u32| u16::try_from(n).ok().filter(|n| (1..=16384).contains(n));
        match (side(width), side(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(InvalidGeometry(format!("{width}x{height}"))),
        }
    }

    /// Width in pixels.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(self) -> u16 {
        self.height
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Geometry {
    type Err = InvalidGeometry;

    fn from_str(text: &str) -> Result<Self, InvalidGeometry> {
        let bad = || InvalidGeometry(text.chars().take(40).collect());
        let (width, height) = text.split_once('x').ok_or_else(bad)?;
        let side = |n: &str| n.parse().map_err(|_| bad());
        Self::new(side(width)?, side(height)?)
    }
}

impl TryFrom<String> for Geometry {
    type Error = InvalidGeometry;

    fn try_from(text: String) -> Result<Self, InvalidGeometry> {
        text.parse()
    }
}

impl From<Geometry> for String {
    fn from(geometry: Geometry) -> Self {
        geometry.to_string()
    }
}

/// What the client asked for; kept with the session for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StartParams {
    /// Size of the desktop; none = the agent's default.
    pub geometry: Option<Geometry>,
    /// Command to run instead of the full desktop; empty = the desktop.
    #[serde(default)]
    pub start_command: Box<str>,
    /// The client's language as in LANG; empty = the agent's.
    #[serde(default)]
    pub language: Box<str>,
    /// The client's machine as it named itself; for people only.
    #[serde(default)]
    pub client_name: Box<str>,
    /// It was made by a broker without votes, as the administrator allowed (`solo_create`): its user may have another
    /// one elsewhere.
    #[serde(default)]
    pub unvoted: bool,
    /// What else the client told of itself, by key, for hooks and for programs in the session. [`CLIENT_PARAMS_MAX`]
    /// and its neighbours bound it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client: BTreeMap<String, String>,
    /// Key of the profile that was asked for; empty = none: the agent's default, or the user's choice.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub profile: Box<str>,
}

/// Longest key of a profile, in bytes.
pub const PROFILE_KEY_MAX: usize = 64;

/// Most client parameters of a session.
pub const CLIENT_PARAMS_MAX: usize = 64;
/// Longest key of a client parameter, in bytes: lower-case letters, digits, `_`, `-`, `.` and `/`.
pub const CLIENT_KEY_MAX: usize = 64;
/// Longest value of a client parameter, in bytes; control characters are not allowed.
pub const CLIENT_VALUE_MAX: usize = 1024;
/// Keys and values of all client parameters of a session together, in bytes: a session's record stays small.
pub const CLIENT_BYTES_MAX: usize = 4096;

/// Client parameters that are not as they may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("client parameter {key:?}: {why}")]
pub struct InvalidClientParam {
    key: String,
    why: &'static str,
}

/// Checks number, keys and values of client parameters.
///
/// # Errors
/// If there are too many, or one is too long or has characters that are not allowed.
pub fn check_client_params(params: &BTreeMap<String, String>) -> Result<(), InvalidClientParam> {
    let bad = |key: &str, why| {
        Err(InvalidClientParam { key: key.chars().take(CLIENT_KEY_MAX).collect(), why })
    };
    let allowed = |b: u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'/')
    };
    let mut bytes = 0;
    for (place, (key, value)) in params.iter().enumerate() {
        bytes += key.len() + value.len();
        if place >= CLIENT_PARAMS_MAX {
            return bad(key, "there are more than 64 of them");
        }
        if key.is_empty() || key.len() > CLIENT_KEY_MAX || !key.bytes().all(allowed) {
            return bad(key, "a key is 1 to 64 of a-z, 0-9, _ - . /");
        }
        if value.len() > CLIENT_VALUE_MAX || value.chars().any(char::is_control) {
            return bad(key, "a value is at most 1024 bytes, without control characters");
        }
        if bytes > CLIENT_BYTES_MAX {
            return bad(key, "all of them together are more than 4096 bytes");
        }
    }
    Ok(())
}

/// One session as the table and the agent's record file hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Never changes, never used again.
    pub id: SessionId,
    /// Owner.
    pub user: UserName,
    /// Where it runs.
    pub agent: AgentName,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: State,
    /// The request that made it.
    pub request: RequestId,
    /// What the client asked for.
    pub params: StartParams,
    /// When it was reserved.
    pub created: UnixMillis,
}

/// The viewer that is connected to a session. Its agent knows; the table does not keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// Where it comes from, as the agent's sshd saw it; empty = not known.
    pub address: String,
    /// Since when, by the agent's clock.
    pub since: UnixMillis,
}

/// What ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The session script returned.
    Logout,
    /// Its user or an administrator asked for it.
    Terminated,
    /// The X server went away by itself or was killed.
    XServer,
    /// The session script failed within seconds of its start.
    ScriptFailed,
    /// The agent's host was restarted.
    HostReboot,
    /// Its monitor process was killed; the agent ended what was left.
    Lost,
    /// A limit that the administrator set.
    Limit,
    /// It used more memory than it may, or the host had none left.
    OutOfMemory,
    /// The session script was killed by a signal.
    Killed,
}

impl EndReason {
    /// Whether the user may wonder why: it was neither their doing nor an administrator's.
    #[must_use]
    pub const fn is_a_surprise(self) -> bool {
        !matches!(self, Self::Logout | Self::Terminated)
    }
}

/// What one session may take of its host; 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory in MiB.
    pub memory_max_mib: u64,
    /// CPU time in percent of one CPU.
    pub cpu_max_percent: u32,
    /// Processes and threads.
    pub pids_max: u32,
}

/// Why and when a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// Why.
    pub reason: EndReason,
    /// One line for people.
    pub detail: String,
    /// When, by the agent's clock.
    pub at: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_params_are_bounded() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(check_client_params(&one("screen/size", "1920x1080")).is_ok());
        for (key, value) in [("", ""), ("A", ""), ("a b", ""), ("a", "x\ny")] {
            assert!(check_client_params(&one(key, value)).is_err(), "{key:?} {value:?}");
        }
        assert!(check_client_params(&one("a", &"x".repeat(1025))).is_err());
        let many =
            |n: usize, value: &str| (0..n).map(|n| (format!("k{n}"), value.to_owned())).collect();
        assert!(check_client_params(&many(64, "v")).is_ok());
        let error = check_client_params(&many(65, "v")).unwrap_err().to_string();
        assert!(error.contains("more than 64"), "{error}");
        assert!(check_client_params(&many(5, &"x".repeat(1000))).is_err());
    }

    #[test]
    fn geometry_has_a_range() {
        assert_eq!("1280x800".parse::<Geometry>().unwrap().to_string(), "1280x800");
        for bad in ["0x1", "1280", "1280x", "1280x99999", "-1x5", "axb"] {
            assert!(bad.parse::<Geometry>().is_err(), "{bad}");
        }
    }
}
