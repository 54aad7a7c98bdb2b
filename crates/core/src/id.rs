//! Names and ids, each its own type, each checked where it is made.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the id or name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {why}")]
pub struct InvalidId {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl InvalidId {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        // The text comes from outside: keep an error message to a line's length.
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID that the caller made.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::new($what, text, "not a UUID"))
            }
        }
    };
}

uuid_id!(
    /// A session: a UUIDv7 that never changes and is never used again. It is also the operation id of its start.
    SessionId,
    "session id"
);
uuid_id!(
    /// One wish of a client, repeated on every retry of it.
    RequestId,
    "request id"
);
uuid_id!(
    /// The life of one session table: made with the table, shared by the pair, strange to every other cluster.
    LineageId,
    "lineage id"
);

uuid_id!(
    /// A web key: made when it is accepted, never used again.
    WebKeyId,
    "web key id"
);

/// Fewest digits by which something can be named.
const SHORT_MIN: usize = 6;

/// For ids that people name.
macro_rules! named_by_its_end {
    ($name:ident) => {
        impl $name {
            /// The last group of its digits, for people: the first ones tell the time and are alike.
            #[must_use]
            pub fn short(self) -> String {
                let text = self.0.simple().to_string();
                text[text.len() - 12..].to_owned()
            }

            /// Whether `text` is the end of this id, at least 6 digits of it, or all of it.
            #[must_use]
            pub fn ends_with(self, text: &str) -> bool {
                let digits = |text: &str| text.replace('-', "").to_ascii_lowercase();
                let text = digits(text);
                text.len() >= SHORT_MIN && self.0.simple().to_string().ends_with(&text)
            }
        }
    };
}

named_by_its_end!(SessionId);
named_by_its_end!(WebKeyId);

/// For a type around a text, which serde is to check as it is parsed: `try_from = "String", into = "String"`.
macro_rules! checked_text {
    ($name:ident, $error:ident) => {
        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().to_owned()
            }
        }
    };
}
pub(crate) use checked_text;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $check:expr, $why:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.is_empty() || text.len() > $max {
                    return Err(InvalidId::new($what, text, concat!("its length must be 1 to ", $max, " bytes")));
                }
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(InvalidId::new($what, text, $why)) }
            }
        }

        checked_text!($name, InvalidId);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_host(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
}

name!(
    /// An agent as the configuration spells it: a DNS name or an address.
    AgentName,
    "agent name",
    253,
    is_host,
    "only letters, digits and . - _ : are allowed"
);
name!(
    /// A broker as `/vsmserver/HA/nodes` spells it, or the own host name with HA off.
    NodeName,
    "node name",
    253,
    is_host,
    "only letters, digits and . - _ : are allowed"
);
name!(
    /// A login name as NSS gives it. Directory services allow blanks, `@` and `\`; a name is never put into a shell.
    UserName,
    "user name",
    255,
    |text| !text.starts_with('-') && !text.chars().any(|c| c.is_control() || matches!(c, '/' | ':' | ',')),
    "control characters, / : , and a leading - are not allowed"
);

impl NodeName {
    /// The name of no node: it sorts before all.
    pub(crate) fn nobody() -> Self {
        Self("-".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!("alice".parse::<UserName>().is_ok());
        assert!("DOMAIN\\ann smith@x".parse::<UserName>().is_ok());
        for bad in ["", "-rf", "a:b", "a/b", "a\nb"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        assert!("fe80::1".parse::<AgentName>().is_ok());
        let error = "a b".parse::<AgentName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"a b\" is not a valid agent name: only letters, digits and . - _ : are allowed"
        );
        assert!("x".repeat(254).parse::<AgentName>().is_err());
    }

    #[test]
    fn ids_are_uuids() {
        let id: SessionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(id.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
        assert!("nonsense".parse::<SessionId>().is_err());
        assert_eq!(id.short(), "b302099a8057");
        for end in ["9A8057", "bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8057"] {
            assert!(id.ends_with(end), "{end}");
        }
        for not in ["", "a8057", "b302099a8058", "01890a5d", "bcce"] {
            assert!(!id.ends_with(not), "{not}");
        }
    }
}
