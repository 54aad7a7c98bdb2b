//! The authorities that hosts trust, and how a new one takes the place of an old one: the old one signs a *cross
//! certificate* for the new one's name and key. A chain with it leads to the new authority, and for whoever knows only
//! the old one it leads there too. So hosts can have certificates of the new authority before all know it.
//!
//! By such a certificate a host also learns the new authority: it is told of it by a broker, and takes it only if an
//! authority that it trusts already has vouched for that key. A broker in the wrong hands brings in none of its own;
//! nor does an issuer, which is an authority for agents alone.

use std::time::Duration;

use rustls::{
    crypto,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use vsm_core::Hash;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::shown::Shown;

const END: &str = "-----END CERTIFICATE-----";
/// Of a common name, in DER: its type.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

/// A certificate of a file, and how it is written there.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM; empty for one that came over a connection.
    pub pem: String,
    /// What it shows.
    pub shown: Shown,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Those of a text that can be read.
    #[must_use]
    pub fn all(pem: &str) -> Vec<Self> {
        let one = |block: &str| {
            let der = CertificateDer::from_pem_slice(block.as_bytes()).ok()?;
            let shown = Shown::of(&der)?;
            let begin = block.find("-----BEGIN CERTIFICATE-----")?;
            Some(Self { pem: format!("{}\n", block[begin..].trim()), shown, der })
        };
        pem.split_inclusive(END).filter_map(one).collect()
    }

    /// One that came over a connection, if it can be read.
    #[must_use]
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let shown = Shown::of(der)?;
        Some(Self { pem: String::new(), shown, der: der.clone().into_owned() })
    }

    /// What it is, byte for byte.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The hash of its name, as [`Shown::by`] has that of whoever has signed something.
    #[must_use]
    pub fn name(&self) -> Hash {
        let parsed = EndEntityCert::try_from(&self.der);
        parsed.map_or(Hash([0; 32]), |parsed| Hash::of(parsed.subject()))
    }

    /// The name of its holder: the common name of its subject; empty where it has none that can be read.
    #[must_use]
    pub fn subject(&self) -> String {
        let parsed = EndEntityCert::try_from(&self.der);
        parsed.ok().and_then(|parsed| common_name(parsed.subject())).unwrap_or_default()
    }

    /// Whether it is for a host of this DNS name or address; what is neither is none to ask for.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return true };
        let parsed = EndEntityCert::try_from(&self.der);
        parsed.is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// Whether it is an authority's for another one, or for itself: it names no role.
    #[must_use]
    pub fn is_authoritys(&self) -> bool {
        self.shown.names.is_empty()
    }
}

/// Whether the first of these certificates leads to this authority itself, by way of issuers at most.
#[must_use]
pub fn is_by(authority: &Certificate, chain: &[Certificate]) -> bool {
    let of_issuers = chain.iter().skip(1).filter(|one| one.shown.is_issuers());
    let own = chain.first().into_iter();
    let chain: Vec<&Certificate> = own.chain(of_issuers).collect();
    !path(&[authority], &chain).is_empty()
}

/// Whether the first of these certificates leads to one of these authorities, by way of the others.
#[must_use]
pub fn leads_to(authorities: &[Certificate], chain: &[Certificate]) -> bool {
    let (authorities, chain): (Vec<_>, Vec<_>) =
        (authorities.iter().collect(), chain.iter().collect());
    !path(&authorities, &chain).is_empty()
}

/// The key of the authority that has signed the first of these certificates, an issuer's, where that authority or who
/// vouches for it is among these; by names alone, for whoever wants to tell of it.
#[must_use]
pub fn signer_of_issuer(authorities: &[Certificate], chain: &[Certificate]) -> Option<Hash> {
    let (issuer, others) = chain.split_first()?;
    let mut all = authorities.iter().chain(others);
    all.find(|one| one.is_authoritys() && one.name() == issuer.shown.by).map(|one| one.shown.key)
}

/// By which authority a host that has none may know this cluster: of those that these certificates lead to the one that
/// has been there for longest, as all hosts know it.
#[must_use]
pub fn known_to_all<'a>(
    authorities: &'a [Certificate],
    chain: &[Certificate],
) -> Option<&'a Certificate> {
    let leads = |one: &&Certificate| leads_to(std::slice::from_ref(*one), chain);
    authorities.iter().filter(leads).min_by_key(|one| one.shown.since)
}

/// Those that are offered, are not trusted yet, and are vouched for by one that is: by a cross certificate in this
/// chain, which has an issuer below it.
#[must_use]
pub fn learned(trusted: &str, chain: &str, offered: &str) -> Vec<Certificate> {
    let (trusted, chain) = (Certificate::all(trusted), Certificate::all(chain));
    let path = path(&trusted.iter().collect::<Vec<_>>(), &chain.iter().collect::<Vec<_>>());
    // An issuer cannot stand above another one: what has one below it is no issuer, whatever it names.
    let vouched: Vec<Hash> =
        path.iter().skip(2).filter(|one| one.is_authoritys()).map(|one| one.shown.key).collect();
    let is_known = |key: Hash| trusted.iter().any(|one| one.shown.key == key);
    let is_new = |one: &Certificate| {
        let key = one.shown.key;
        !is_known(key) && vouched.contains(&key) && one.is_authoritys() && is_by(one, &chain)
    };
    Certificate::all(offered).into_iter().filter(is_new).collect()
}

/// What is left of the trusted authorities without those that a broker trusts no more, where this chain leads to one of
/// what is left; none = nothing is to go.
#[must_use]
pub fn left(trusted: &str, chain: &str, offered: &str) -> Option<String> {
    let (trusted, offered) = (Certificate::all(trusted), Certificate::all(offered));
    let count = trusted.len();
    let stays = |one: &Certificate| offered.iter().any(|other| other.shown.key == one.shown.key);
    let left: Vec<Certificate> = trusted.into_iter().filter(stays).collect();
    let goes = left.len() < count && leads_to(&left, &Certificate::all(chain));
    goes.then(|| left.into_iter().map(|one| one.pem).collect())
}

/// The certificates by which the first of these leads to one of the authorities, itself included and without the
/// authority; none = it does not.
fn path(authorities: &[&Certificate], chain: &[&Certificate]) -> Vec<Certificate> {
    let Some((own, others)) = chain.split_first() else { return Vec::new() };
    let Ok(parsed) = EndEntityCert::try_from(&own.der) else { return Vec::new() };
    let anchors: Vec<_> =
        authorities.iter().filter_map(|one| anchor_from_trusted_cert(&one.der).ok()).collect();
    let ders: Vec<_> = others.iter().map(|one| one.der.clone()).collect();
    let algorithms = crypto::ring::default_provider().signature_verification_algorithms.all;
    // Clocks differ, and one that was made just now may begin a moment later.
    let begins = UnixTime::since_unix_epoch(Duration::from_millis(own.shown.since.0));
    let (at, usage) = (UnixTime::now().max(begins), KeyUsage::client_auth());
    let verified = parsed.verify_for_usage(algorithms, &anchors, &ders, at, usage, None, None);
    let Ok(verified) = verified else { return Vec::new() };
    let find = |der: CertificateDer<'_>| others.iter().find(|one| one.der == der);
    let between = verified.intermediate_certificates().filter_map(|one| find(one.der()));
    [own].into_iter().chain(between).map(|one| (*one).clone()).collect()
}

/// The common name in a subject, which is DER.
fn common_name(subject: &[u8]) -> Option<String> {
    let at = subject.windows(COMMON_NAME.len()).position(|part| part == COMMON_NAME)?;
    // The kind of text, its length in one byte, the text.
    let [_, length, text @ ..] = subject.get(at + COMMON_NAME.len()..)? else { return None };
    let text = text.get(..usize::from(*length)).filter(|_| *length < 0x80)?;
    Some(vsm_core::printable(std::str::from_utf8(text).ok()?))
}

#[cfg(test)]
mod tests;
