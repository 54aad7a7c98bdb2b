//! A new certificate for this host, as `vsm-agent-net` has got it from a broker.

use serde::{Deserialize, Serialize};

use super::Secret;

/// What is to be put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The certificate and those above it, PEM.
    pub chain: String,
    /// Its private key, PEM.
    pub key: Secret,
    /// The authorities that the broker trusts, PEM: a new one is trusted if one that is trusted vouches for it.
    pub authorities: String,
    /// Which certificate is good enough in place of the present one.
    pub better: Better,
}

impl Install {
    /// Bytes of its longest part.
    pub(super) fn longest(&self) -> u64 {
        let Self { chain, key, authorities, better: _ } = self;
        chain.len().max(key.as_str().len()).max(authorities.len()) as u64
    }
}

/// Which certificate is good enough in place of the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// One that ends later.
    Later,
    /// One that begins no earlier: whoever asks may have shortened lives, or made an issuer that ends sooner.
    Newer,
}
