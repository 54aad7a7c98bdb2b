//! A public key of SSH, as it stands in `authorized_keys` and `known_hosts` files: what it may look like, since it is
//! written into such files as it came.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::id::checked_text;

/// Longest base64 part: an RSA key of 8192 bits has 1,400 characters, the others have 220 at most.
const BLOB_MAX: usize = 2048;

/// Kinds that OpenSSH of today makes, but for those that want a device with a button.
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a public key of SSH: {0}")]
pub struct InvalidKey(&'static str);

/// A public key: its kind and its base64 text, with nothing before, between or behind them but one blank.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshKey(Arc<str>);

impl SshKey {
    /// As a line of `authorized_keys` without options and comment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key in a line of a `.pub` file, whose comment is not looked at.
    ///
    /// # Errors
    /// If there is none.
    pub fn of_line(line: &str) -> Result<Self, InvalidKey> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some(kind), Some(blob)) => format!("{kind} {blob}").parse(),
            _ => Err(InvalidKey("it wants a kind and a base64 text")),
        }
    }
}

impl FromStr for SshKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (kind, blob) = text.split_once(' ').ok_or(InvalidKey("it has one word"))?;
        if !KINDS.contains(&kind) {
            return Err(InvalidKey("its kind is not known"));
        }
        if blob.is_empty() || blob.len() > BLOB_MAX {
            return Err(InvalidKey("its base64 text has no characters, or more than 2048"));
        }
        let digits = blob.trim_end_matches('=');
        let is_digit = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
        if digits.is_empty() || blob.len() - digits.len() > 2 || !digits.bytes().all(is_digit) {
            return Err(InvalidKey("it is not in base64"));
        }
        Ok(Self(text.into()))
    }
}

checked_text!(SshKey, InvalidKey);

impl fmt::Display for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_key_is_taken() {
        let key: SshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5".parse().unwrap();
        assert_eq!(SshKey::of_line("ssh-ed25519  AAAAC3NzaC1lZDI1NTE5 me@here\n"), Ok(key));
        let long = format!("ssh-rsa {}", "A".repeat(BLOB_MAX + 1));
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-ed25519 ===",
            "ssh-dss AAAA",
            "ssh-ed25519 AAAA comment",
            "ssh-ed25519 AA\nAA",
            "ssh-ed25519 AA=A",
            "command=\"x\",ssh-ed25519 AAAA",
            long.as_str(),
        ] {
            assert!(bad.parse::<SshKey>().is_err(), "{bad}");
        }
    }
}
