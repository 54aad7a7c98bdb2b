//! Why a session did not start.

use serde::{Deserialize, Serialize};

/// Why a session did not start, as the broker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The host does not know the user.
    UnknownUser,
    /// PAM refuses the account.
    Account,
    /// Home directory missing, of another owner, or not accessible.
    Home,
    /// X server missing, or not up in time.
    XServer,
    /// No free display, or the agent's cap is reached.
    Full,
    /// Records cannot be written.
    Storage,
    /// Cancelled before it was done.
    Cancelled,
    /// No such profile, or it is hidden from the user.
    Profile,
    /// Anything else.
    Internal,
}

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// Kind.
    pub reason: Refusal,
    /// One line that names the thing.
    pub detail: String,
}

impl Refused {
    /// Makes one; line ends and control characters are taken out of the detail, and it is bounded.
    #[must_use]
    pub fn new(reason: Refusal, detail: impl AsRef<str>) -> Self {
        Self { reason, detail: one_line(detail.as_ref()) }
    }
}

/// Makes a text from outside fit into one line for people.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
