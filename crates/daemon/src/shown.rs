//! What a certificate shows: who its holder is, and from when until when it counts.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use vsm_core::{Hash, IdentityName, UnixMillis};
use webpki::{EndEntityCert, KeyUsage};

/// Later than any certificate can end: the year 9999 is the last that can be written.
const AFTER_ALL: Duration = Duration::from_secs(253_402_300_800);

/// So long before its end a certificate is told of.
const TOLD_BEFORE_MS: u64 = 30 * 86_400_000;

/// What is written in one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its names: one for each role.
    pub names: Vec<IdentityName>,
    /// From when on it counts.
    pub since: UnixMillis,
    /// When it ends.
    pub until: UnixMillis,
    /// Of its public key.
    pub key: Hash,
    /// Of the name of whoever has signed it.
    pub by: Hash,
}

impl Shown {
    /// Reads a certificate; none where it cannot be read.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        let names = parsed
            .valid_uri_names()
            .filter_map(|uri| uri.strip_prefix("vsm://")?.parse().ok())
            .collect();
        let (since, until) = (begin_of(&parsed)?, end_of(&parsed)?);
        let (key, by) = (Hash::of(&parsed.subject_public_key_info()), Hash::of(parsed.issuer()));
        Some(Self { names, since, until, key, by })
    }
}

impl Shown {
    /// From when on its end is told: 30 days before, or the last sixth of a shorter life. What is renewed by itself is
    /// renewed before that.
    #[must_use]
    pub fn told_from(&self) -> UnixMillis {
        let life = self.until.0.saturating_sub(self.since.0);
        UnixMillis(self.until.0.saturating_sub((life / 6).min(TOLD_BEFORE_MS)))
    }

    /// Whether its holder is an agent, and nothing else.
    #[must_use]
    pub fn is_agents(&self) -> bool {
        !self.names.is_empty() && self.names.iter().all(|name| name.role() == "agent")
    }

    /// Whether it is an issuer's.
    #[must_use]
    pub fn is_issuers(&self) -> bool {
        self.names.iter().any(|name| name.role() == "issuer")
    }
}

/// When a certificate ends; none where it cannot be read.
pub(crate) fn end(certificate: &CertificateDer<'_>) -> Option<UnixMillis> {
    end_of(&EndEntityCert::try_from(certificate).ok()?)
}

// The verifier does not tell, but for one that is looked at before its beginning or after its end.
fn end_of(certificate: &EndEntityCert<'_>) -> Option<UnixMillis> {
    match at(certificate, AFTER_ALL) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Some(millis(not_after)),
        _ => None,
    }
}

fn begin_of(certificate: &EndEntityCert<'_>) -> Option<UnixMillis> {
    match at(certificate, Duration::ZERO) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => Some(millis(not_before)),
        // It begins in 1970 or before.
        _ => Some(UnixMillis(0)),
    }
}

fn at(certificate: &EndEntityCert<'_>, since_1970: Duration) -> Option<webpki::Error> {
    let (at, usage) = (UnixTime::since_unix_epoch(since_1970), KeyUsage::client_auth());
    certificate.verify_for_usage(&[], &[], &[], at, usage, None, None).err()
}

const fn millis(at: UnixTime) -> UnixMillis {
    UnixMillis(at.as_secs().saturating_mul(1000))
}
