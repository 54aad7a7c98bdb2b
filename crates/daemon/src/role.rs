//! What a certificate allows its holder to be.

use std::{fmt, str::FromStr};

/// What a certificate allows its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A VSM server: may ask agents and peers for privileged things.
    Broker,
    /// A VSM agent.
    Agent,
    /// An administrator away from the servers.
    Admin,
}

impl Role {
    /// The word in the certificate's URI name and on command lines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no [`Role`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no role; there are broker, agent and admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Broker, Self::Agent, Self::Admin]
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}
