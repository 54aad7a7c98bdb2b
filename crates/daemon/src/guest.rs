//! The way of a host that has no certificate yet to a broker: it knows the authority by the hash of its public key, and
//! trusts nobody else.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use vsm_core::Hash;

use crate::{
    shown::Shown,
    verifier::{as_signed, of_authorities},
};

/// Why a server is not the one that is looked for.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(
        "it has no certificate of the authority with the public key {0}: this is another cluster, or somebody who wants the token"
    )]
    Authority(Hash),
    #[error("its certificate is not that of a broker")]
    NoBroker,
}

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        CertificateError::Other(OtherError(Arc::new(wrong))).into()
    }
}

/// What a guest speaks TLS with.
///
/// # Errors
/// If the TLS library refuses.
pub(crate) fn config(authority: Hash) -> Result<ClientConfig, Error> {
    let provider = Arc::new(crypto::ring::default_provider());
    let pinned = Arc::new(Pinned { authority, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(crate::tls::VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    config.alpn_protocols = vec![crate::tls::HTTP_2.to_vec()];
    Ok(config)
}

/// Looks whether the authority behind a server is the one with this key.
#[derive(Debug)]
struct Pinned {
    authority: Hash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_it = |one: &&CertificateDer<'_>| {
            Shown::of(one).is_some_and(|shown| shown.key == self.authority)
        };
        let authority = others.iter().find(is_it).ok_or(Wrong::Authority(self.authority))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let signed = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
        signed.verify_server_cert(own, &of_authorities(others), name, ocsp, now)?;
        let is_broker = |shown: Shown| shown.names.iter().any(|name| name.role() == "broker");
        if Shown::of(own).is_some_and(is_broker) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Wrong::NoBroker.into())
    }

    as_signed!();
}
