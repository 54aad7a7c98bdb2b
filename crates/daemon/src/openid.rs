//! What the two programs that take part in a login by OpenID Connect have in common: `vsm-web`, which leads the
//! browser, and `vsmserver`, which decides.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::https::{Https, HttpsError};

/// Where a provider says what it is, below its own address (OpenID Connect Discovery 1.0, 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// What stands before the key in what its nonce is the hash of: the same key is signed elsewhere for other reasons.
const NONCE_LABEL: &[u8] = b"vsm openid nonce 1\0";

/// What a provider says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Provider {
    /// Its address, as its tokens name it.
    pub issuer: String,
    /// Where browsers are sent.
    pub authorization_endpoint: String,
    /// Where a code is given for a token.
    pub token_endpoint: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// How a client may prove who it is; empty = by `client_secret_basic`.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether its answers by way of the browser say whose they are (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Why it is not known what a provider is.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It cannot be asked.
    #[error("the OpenID provider cannot be asked: {0}")]
    Https(#[from] HttpsError),
    /// It has nothing there.
    #[error("the OpenID provider answers {status} at {address}")]
    Status {
        /// The status.
        status: u16,
        /// Where.
        address: String,
    },
    /// It is something else.
    #[error("what the OpenID provider says at {address} cannot be used: {why}")]
    Unusable {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// It calls itself by another name.
    #[error("the OpenID provider calls itself {found:?}, and /vsmserver/openid/issuer {wanted:?}")]
    OtherIssuer {
        /// What it says.
        found: String,
        /// What it should say.
        wanted: String,
    },
}

/// Asks a provider what it is.
///
/// # Errors
/// If it cannot be asked, or is another one.
pub async fn discover(https: &Https, issuer: &str) -> Result<Provider, ProviderError> {
    let address = format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'));
    let provider: Provider = get(https, &address).await?;
    if provider.issuer != issuer {
        let (found, wanted) = (vsm_core::printable(&provider.issuer), issuer.to_owned());
        return Err(ProviderError::OtherIssuer { found, wanted });
    }
    let Provider { authorization_endpoint: sent, token_endpoint: given, jwks_uri: keys, .. } =
        &provider;
    let plain = [sent, given, keys].into_iter().find(|one| !one.starts_with("https://"));
    match plain {
        Some(plain) => {
            let why = format!("{:?} does not begin with https://", vsm_core::printable(plain));
            Err(ProviderError::Unusable { address, why })
        }
        None => Ok(provider),
    }
}

/// Gets something in JSON from a provider.
///
/// # Errors
/// If it is not there, or something else.
pub async fn get<T: for<'a> Deserialize<'a>>(
    https: &Https,
    address: &str,
) -> Result<T, ProviderError> {
    let answer = https.get(address).await?;
    if answer.status != 200 {
        let address = address.to_owned();
        return Err(ProviderError::Status { status: answer.status, address });
    }
    serde_json::from_slice(&answer.body).map_err(|error| ProviderError::Unusable {
        address: address.to_owned(),
        why: error.to_string(),
    })
}

/// The nonce of a login by which this key, kind and base64 text, is to be accepted. So a token is for one key, and of
/// no use to who has not the private half.
#[must_use]
pub fn nonce(public_key: &str) -> String {
    let hash = Sha256::new().chain_update(NONCE_LABEL).chain_update(public_key).finalize();
    BASE64_URL_SAFE_NO_PAD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::nonce;

    #[test]
    fn each_key_has_a_nonce_of_its_own() {
        let (one, two) = (nonce("ssh-ed25519 AAAA"), nonce("ssh-ed25519 AAAB"));
        assert_eq!(one, nonce("ssh-ed25519 AAAA"));
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
    }
}
