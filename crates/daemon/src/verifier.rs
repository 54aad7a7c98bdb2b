//! Whose certificates count: those that the authority has signed, or a new one that it vouches for, and of agents also
//! those that a broker's issuer has signed. What an issuer signs can be an agent and nothing else: its key is on a
//! broker, which is on the network.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use vsm_core::UnixMillis;

use crate::{
    hole::{self, Hole},
    open::{Revoked, revoked},
    shown::Shown,
};

/// So far ahead of this host's clock a certificate may begin.
const CLOCK_SLACK: Duration = Duration::from_secs(86_400);

/// What changes while connections are made.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) revoked: RwLock<Arc<Revoked>>,
    /// Somebody is invited: whoever has no certificate may come and ask for one.
    pub(crate) is_open: AtomicBool,
}

/// Why a certificate does not count, though somebody whom we trust has signed it.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("an issuer has signed it, which may sign for agents only")]
    NotAnAgents,
    #[error("it cannot be read")]
    Unreadable,
}

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        CertificateError::Other(OtherError(Arc::new(wrong))).into()
    }
}

/// Certificates of a connection, the first being the holder's own.
pub(crate) fn all_shown(certificates: &[CertificateDer<'_>]) -> Vec<Shown> {
    certificates.iter().filter_map(Shown::of).collect()
}

/// Those that name no role: an authority's own, or by which it vouches for another one. Of those that can sign anything
/// only issuers have a role.
pub(crate) fn of_authorities<'a>(certificates: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    let names_none =
        |one: &&CertificateDer<'a>| Shown::of(one).is_some_and(|shown| shown.names.is_empty());
    certificates.iter().filter(names_none).cloned().collect()
}

impl Rules {
    /// Judges a chain; `signed` looks whether the authority stands behind it at a moment, by way of these certificates.
    fn judge(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        signed: impl Fn(&[CertificateDer<'_>], UnixTime) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let holder = Shown::of(own).ok_or(Wrong::Unreadable)?;
        // By the authority itself, or by one that it vouches for; else by way of an issuer, which can vouch for none.
        let signed = |others: &[CertificateDer<'_>]| match signed(others, now) {
            Err(error) if begins_soon(&error, now) => signed(others, second_of(holder.since)),
            judged => judged,
        };
        if signed(&of_authorities(others)).is_err() {
            signed(others)?;
            let by_issuer = all_shown(others).iter().any(Shown::is_issuers);
            let good = holder.is_agents() && by_issuer;
            if !good && !hole::is_open(Hole::Issuer) {
                return Err(Wrong::NotAnAgents.into());
            }
        }
        let mut all = all_shown(others);
        all.insert(0, holder);
        match revoked(&all, &self.revoked.read()) {
            Some(_) if !hole::is_open(Hole::Revoked) => Err(CertificateError::Revoked.into()),
            _ => Ok(()),
        }
    }
}

/// Whether an error says that a certificate is good and begins before long: clocks differ, and it begins when it was
/// made, as that is what a revocation goes by.
fn begins_soon(error: &Error, now: UnixTime) -> bool {
    let Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) = error
    else {
        return false;
    };
    not_before.as_secs() <= now.as_secs().saturating_add(CLOCK_SLACK.as_secs())
}

/// Whether an error says that a certificate was good and has ended.
const fn is_end(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

/// Whether a signature is right does not depend on who may sign: the library says it, for each verifier that has a
/// `provider`.
macro_rules! as_signed {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(crate) use as_signed;

/// Looks at clients.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) signed: Arc<dyn ClientCertVerifier>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) rules: Arc<Rules>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        !self.rules.is_open.load(Ordering::Acquire)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let signed = |others: &[CertificateDer<'_>], now| {
            self.signed.verify_client_cert(own, others, now).map(|_| ())
        };
        match self.rules.judge(own, others, now, signed) {
            // An agent that was off for long comes back by its own key: it may have a new one signed, and nothing else.
            Err(error) if is_end(&error) => match Shown::of(own) {
                Some(shown) if shown.is_agents() => {
                    self.rules.judge(own, others, last_second(shown.until), signed)
                }
                _ => Err(error),
            },
            judged => judged,
        }?;
        Ok(ClientCertVerified::assertion())
    }

    as_signed!();
}

const fn second_of(at: UnixMillis) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(at.0 / 1000))
}

const fn last_second(until: UnixMillis) -> UnixTime {
    second_of(UnixMillis(until.0.saturating_sub(1000)))
}

/// Looks at servers.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) signed: Arc<dyn ServerCertVerifier>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) rules: Arc<Rules>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.rules.judge(own, others, now, |others, now| {
            self.signed.verify_server_cert(own, others, name, ocsp, now).map(|_| ())
        })?;
        Ok(ServerCertVerified::assertion())
    }

    as_signed!();
}
