//! Values of calls that check themselves, or hide what they are.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use vsm_daemon::{one_time::VALID_MAX, pki::Private};

/// Longest text that a user is shown, in bytes.
const NOTICE_MAX: usize = 2048;

/// How long a key, or a right, is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Valid(u32);

/// A time that is none, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("valid_ms: 1 to {}", VALID_MAX.as_millis())]
pub struct InvalidTime;

impl Valid {
    /// As a time.
    #[must_use]
    pub const fn time(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

impl TryFrom<u32> for Valid {
    type Error = InvalidTime;

    fn try_from(ms: u32) -> Result<Self, InvalidTime> {
        let is_good = ms > 0 && u128::from(ms) <= VALID_MAX.as_millis();
        is_good.then_some(Self(ms)).ok_or(InvalidTime)
    }
}

impl From<Valid> for u32 {
    fn from(valid: Valid) -> Self {
        valid.0
    }
}

/// A text that is shown on desktops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Notice(String);

/// A text that cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("text: 1 to {NOTICE_MAX} bytes without NUL")]
pub struct InvalidNotice;

impl Notice {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Notice {
    type Error = InvalidNotice;

    fn try_from(text: String) -> Result<Self, InvalidNotice> {
        let is_good = !text.is_empty() && text.len() <= NOTICE_MAX && !text.contains('\0');
        is_good.then_some(Self(text)).ok_or(InvalidNotice)
    }
}

impl From<Notice> for String {
    fn from(text: Notice) -> Self {
        text.0
    }
}

/// A private key: no log shows it, and it is wiped when it is done with.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Private);

impl Secret {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Private> for Secret {
    fn from(text: Private) -> Self {
        Self(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Private::new(text))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
