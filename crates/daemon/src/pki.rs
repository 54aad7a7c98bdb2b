//! Making certificates: what the authority and the issuers of brokers sign, and what a host asks to have signed.
//!
//! | who | signs |
//! | --- | --- |
//! | the authority, whose key is kept off the hosts | certificates of any role, and issuers |
//! | an issuer, `vsm://issuer/BROKER`, whose key is on that broker | certificates of agents |

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};
use vsm_core::{Hash, IdentityName, UnixMillis};
use zeroize::Zeroizing;

use crate::{
    account,
    authorities::Certificate,
    clock,
    files::{self, Access},
    grant, shown,
    shown::Shown,
    tls::{OpenKey, Role},
};

/// A private key as PEM; wiped from memory when it is dropped. What the TLS library and ring make of it is their own.
pub type Private = Zeroizing<String>;

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Longest name of an authority, in bytes: X.509 allows no more.
const NAME_MAX: usize = 64;
const END: &str = "-----END CERTIFICATE-----";
/// More than a chain, or a key, takes.
const ROOM: usize = 16 * 1024;
/// The last moment that a certificate can name: the end of the year 9999.
const LAST: UnixMillis = UnixMillis(253_402_300_799_000);

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner could read a private key.
    #[error("{path}: {open}")]
    Open {
        /// File.
        path: PathBuf,
        /// Its mode, and what mends it.
        open: OpenKey,
    },
    /// What is in a file is not what it should be.
    #[error("{path} cannot be used: {why}")]
    Unusable {
        /// File.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// An authority whose subject is more than a common name, or none.
    #[error("the name of an authority is one common name of 1 to 64 characters")]
    Name,
    /// Neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an address")]
    Address(String),
    /// What is to be signed is no request, or is not signed by its own key.
    #[error("this is no certificate signing request: {0}")]
    Request(String),
    /// The library fails.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
}

/// A certificate to be signed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its holder, as the configuration spells it.
    pub name: String,
    /// What that may be.
    pub roles: Vec<Role>,
    /// Further DNS names and addresses under which it is reached.
    pub addresses: Vec<String>,
    /// From when on it counts; none = now, which is what a revocation goes by.
    pub since: Option<UnixMillis>,
    /// For how long.
    pub life: Duration,
}

/// The key of a host, and the request to have it signed. The key never leaves the host.
#[derive(Debug)]
pub struct Request {
    /// The private key, PEM.
    pub key: Private,
    /// The request, DER.
    pub request: Vec<u8>,
}

impl Request {
    /// A new key. The request says no more than that its sender has the key.
    ///
    /// # Errors
    /// If the library fails.
    pub fn new() -> Result<Self, PkiError> {
        let key = Zeroizing::new(KeyPair::generate()?);
        let request = CertificateParams::default().serialize_request(&*key)?;
        Ok(Self { key: pem(&key), request: request.der().to_vec() })
    }
}

/// The public key of a request whose signature shows that its sender has the private one.
pub struct Requested(rcgen::PublicKey);

impl std::fmt::Debug for Requested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requested")
    }
}

impl Requested {
    /// Reads a request.
    ///
    /// # Errors
    /// [`PkiError::Request`].
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        let der = CertificateSigningRequestDer::from(der);
        let request = CertificateSigningRequestParams::from_der(&der)
            .map_err(|error| PkiError::Request(error.to_string()))?;
        Ok(Self(request.public_key))
    }

    /// The hash of the key.
    #[must_use]
    pub fn key(&self) -> Hash {
        Hash::of(&self.0.subject_public_key_info())
    }
}

/// Whoever signs: the authority, or an issuer.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// If a file cannot be read, is not what it should be, or others could read the key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let pem = read(certificate)?;
        OpenKey::check(key).map_err(|open| PkiError::Open { path: key.to_owned(), open })?;
        let private = Zeroizing::new(read(key)?);
        let pair = KeyPair::from_pem(&private).map_err(|error| unusable(key, &error))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| unusable(certificate, &error))?;
        let own = Shown::of(&der).ok_or_else(|| unusable(certificate, &"it cannot be read"))?;
        if own.key != Hash::of(&pair.subject_public_key_info()) {
            return Err(unusable(key, &"it is the key of another certificate"));
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, pair).map_err(|error| unusable(certificate, &error))?;
        Ok(Self { issuer, certificate: der, pem })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// When it ends; what it signs ends no later.
    #[must_use]
    pub fn until(&self) -> Option<UnixMillis> {
        shown::end(&self.certificate)
    }

    /// What its certificate shows.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        Shown::of(&self.certificate)
    }

    /// Signs the key of a request; the certificate as PEM, and when it ends.
    ///
    /// # Errors
    /// If a name is bad, or the library fails.
    pub fn sign(&self, key: &Requested, wanted: &Wanted) -> Result<(String, UnixMillis), PkiError> {
        let (params, until) = self.params(wanted)?;
        Ok((params.signed_by(&key.0, &self.issuer)?.pem(), until))
    }

    /// Makes a key and signs it: certificate and private key as PEM.
    ///
    /// # Errors
    /// If a name is bad, or the library fails.
    pub fn make(&self, wanted: &Wanted) -> Result<(String, Private), PkiError> {
        let key = Zeroizing::new(KeyPair::generate()?);
        let (params, _) = self.params(wanted)?;
        Ok((params.signed_by(&*key, &self.issuer)?.pem(), pem(&key)))
    }

    /// Makes an issuer for a broker: certificate and private key as PEM.
    ///
    /// # Errors
    /// If the library fails.
    pub fn make_issuer(&self, broker: &str, days: u32) -> Result<(String, Private), PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("VSM issuer of {broker}"));
        params.subject_alt_names.push(uri(&format!("vsm://issuer/{broker}"))?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        holds(&mut params, None, DAY * days, self.until());
        let key = Zeroizing::new(KeyPair::generate()?);
        Ok((params.signed_by(&*key, &self.issuer)?.pem(), pem(&key)))
    }

    /// Vouches for another authority: a certificate for its name and key, by which whoever trusts this one trusts that
    /// one too.
    ///
    /// # Errors
    /// If its name is more than a common name, or the library fails.
    pub fn vouch(&self, other: &Certificate) -> Result<String, PkiError> {
        let mut params = of_authority(&other.subject())?;
        params.use_authority_key_identifier_extension = true;
        let own = self.until().unwrap_or_default();
        params.not_before = moment(clock::unix_millis()).into();
        params.not_after = moment(own.min(other.shown.until)).into();
        let parsed = webpki::EndEntityCert::try_from(other.der());
        let parsed = parsed.map_err(|_| PkiError::Name)?;
        let key = SubjectPublicKeyInfo::from_der(&parsed.subject_public_key_info())?;
        let made = params.signed_by(&key, &self.issuer)?;
        let same = webpki::EndEntityCert::try_from(made.der())
            .is_ok_and(|made| made.subject() == parsed.subject());
        if same { Ok(made.pem()) } else { Err(PkiError::Name) }
    }

    fn params(&self, wanted: &Wanted) -> Result<(CertificateParams, UnixMillis), PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, &wanted.name);
        for address in [&wanted.name].into_iter().chain(&wanted.addresses) {
            params.subject_alt_names.push(alternative(address)?);
        }
        for role in &wanted.roles {
            params.subject_alt_names.push(uri(&format!("vsm://{role}/{}", wanted.name))?);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let until = holds(&mut params, wanted.since, wanted.life, self.until());
        Ok((params, until))
    }
}

/// Makes an authority: certificate and private key as PEM.
///
/// # Errors
/// If the library fails.
pub fn make_authority(name: &str, days: u32) -> Result<(String, Private), PkiError> {
    let mut params = of_authority(name)?;
    holds(&mut params, None, DAY * days, None);
    let key = KeyPair::generate()?;
    let private = pem(&key);
    Ok((CertifiedIssuer::self_signed(params, key)?.pem(), private))
}

fn of_authority(name: &str) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(PkiError::Name);
    }
    params.distinguished_name.push(DnType::CommonName, name);
    // Below it are issuers, and below those no more of them.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Looks whether [`install`] could write what it is given: whoever asks for a certificate asks once.
///
/// # Errors
/// If a file cannot be written beside those that are there.
pub fn has_room(certificate: &Path, key: &Path) -> io::Result<()> {
    for path in [certificate, key] {
        files::replace(&beside(path), &[0; ROOM], Access { mode: 0o600, uid: None })?;
        gone(&beside(path))?;
    }
    Ok(())
}

/// Puts a key and its certificates in place of those that a host has. Whatever interrupts it, [`recover`] leaves a pair
/// that belongs together.
///
/// # Errors
/// If a file cannot be written. Then, and after a crash, [`recover`] is to be called.
pub fn install(certificate: &Path, key: &Path, new: (&str, &str)) -> io::Result<()> {
    let (chain, private) = new;
    // What an earlier attempt has left belongs to another key.
    gone(&beside(certificate))?;
    files::replace(&beside(key), private.as_bytes(), Access { mode: 0o600, uid: None })?;
    as_readable_as(key, &beside(key))?;
    files::replace(&beside(certificate), chain.as_bytes(), Access { mode: 0o644, uid: None })?;
    let old = old(key);
    gone(&old)?;
    // Where there is none, or it can have no second name, there is nothing to go back to.
    let is_kept = fs::hard_link(key, &old).is_ok();
    moved(&beside(key), key)?;
    let done = moved(&beside(certificate), certificate);
    if done.is_err() && is_kept {
        // Else the key would be another certificate's. What goes wrong here too a recovery mends.
        let _ = moved(&old, key).and_then(|()| gone(&beside(certificate)));
    }
    gone(&old)?;
    done
}

/// Ends what an [`install`] had begun: where there is a new certificate and its key, both are put in place; else what
/// is there stays.
///
/// # Errors
/// If a file cannot be moved.
pub fn recover(certificate: &Path, key: &Path) -> io::Result<()> {
    let (new_certificate, new_key) = (beside(certificate), beside(key));
    if is_pair(&new_certificate, &new_key) {
        moved(&new_key, key)?;
    }
    if is_pair(&new_certificate, key) && !is_pair(certificate, key) {
        moved(&new_certificate, certificate)?;
    }
    for left in [&new_certificate, &new_key, &old(key)] {
        gone(left)?;
    }
    Ok(())
}

/// Whether this is the key of that certificate.
fn is_pair(certificate: &Path, key: &Path) -> bool {
    let (Ok(chain), Ok(key)) = (fs::read_to_string(certificate), fs::read_to_string(key)) else {
        return false;
    };
    let key = Zeroizing::new(key);
    let own = shown(&chain).into_iter().next().map(|own| own.key);
    own.is_some() && own == public_key(&key)
}

/// The hash of the public key of a private one.
#[must_use]
pub fn public_key(private: &str) -> Option<Hash> {
    let key = Zeroizing::new(KeyPair::from_pem(private).ok()?);
    Some(Hash::of(&key.subject_public_key_info()))
}

/// Lets a daemon's account read a key that takes the place of one that it may read.
///
/// # Errors
/// If the mode cannot be changed.
pub fn as_readable_as(old: &Path, new: &Path) -> io::Result<()> {
    match fs::metadata(old) {
        Ok(old) if old.mode() & 0o077 == 0o040 && account::key_groups().contains(&old.gid()) => {
            grant::readable(new, old.gid())
        }
        _ => Ok(()),
    }
}

/// Lets the broker's account read a key of root's, where this host has such an account.
///
/// # Errors
/// If the mode cannot be changed.
pub fn for_broker(key: &Path) -> io::Result<()> {
    account::broker_group().map_or(Ok(()), |group| grant::readable(key, group))
}

fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Durable when it returns: one name after the other.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    let dir = to.parent().unwrap_or_else(|| Path::new("/"));
    let done = fs::rename(from, to).and_then(|()| fs::File::open(dir)?.sync_all());
    done.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot replace {}: {error}", to.display()))
    })
}

/// Those of a text's certificates that have this key.
#[must_use]
pub fn with_key(pem: &str, key: Hash) -> String {
    let has_key = |block: &&str| shown(block).iter().any(|shown| shown.key == key);
    pem.split_inclusive(END).filter(has_key).map(|block| format!("{}\n", block.trim())).collect()
}

fn beside(path: &Path) -> PathBuf {
    with(path, ".new")
}

/// The key of before, until the certificate is in place too.
fn old(key: &Path) -> PathBuf {
    with(key, ".old")
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The hash of an authority's public key, by which a host that has nothing knows it.
///
/// # Errors
/// If the file cannot be read or holds no certificate.
pub fn key_of(path: &Path) -> Result<Hash, PkiError> {
    let pem = read(path)?;
    let der =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(path, &error))?;
    Shown::of(&der).map(|shown| shown.key).ok_or_else(|| unusable(path, &"it cannot be read"))
}

/// What the certificates in a text show, the first being its owner's.
#[must_use]
pub fn shown(pem: &str) -> Vec<Shown> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    all.filter_map(|one| Shown::of(&one)).collect()
}

/// An identity by a certificate's role and name.
#[must_use]
pub fn identity(role: Role, name: &str) -> Option<IdentityName> {
    IdentityName::new(role.word(), name).ok()
}

/// How long a certificate counts; no longer than who signs it.
fn holds(
    params: &mut CertificateParams,
    since: Option<UnixMillis>,
    life: Duration,
    most: Option<UnixMillis>,
) -> UnixMillis {
    let now = clock::unix_millis();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let until = UnixMillis(now.0.saturating_add(millis(life)));
    let until = most.map_or(until, |most| most.min(until));
    params.not_before = moment(since.unwrap_or(now)).into();
    params.not_after = moment(until).into();
    until
}

fn moment(at: UnixMillis) -> SystemTime {
    std::time::UNIX_EPOCH + Duration::from_millis(at.min(LAST).0)
}

fn pem(key: &KeyPair) -> Private {
    Zeroizing::new(key.serialize_pem())
}

fn alternative(address: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if address.is_empty() || !address.bytes().all(is_name) {
        return Err(PkiError::Address(address.to_owned()));
    }
    Ok(SanType::DnsName(address.try_into()?))
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(text.try_into()?))
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> PkiError {
    PkiError::Unusable { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (String, String) {
        let (pem, key) = make_authority(name, 30).unwrap();
        (pem, key.to_string())
    }

    /// After each step at which it can be interrupted a pair is there that belongs together.
    #[test]
    fn an_interrupted_replacement_leaves_a_pair() {
        let (old, new, other) = (pair("old"), pair("new"), pair("other"));
        for (left_certificate, left_key, key, wanted) in [
            (None, None, &old.1, &old),
            (None, Some(&new.1), &old.1, &old),
            (Some(&new.0), Some(&new.1), &old.1, &new),
            (Some(&new.0), None, &new.1, &new),
            // What is left of several attempts.
            (Some(&new.0), Some(&other.1), &old.1, &old),
            (Some(&other.0), None, &old.1, &old),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let [certificate, private] = ["host.pem", "host.key"].map(|name| dir.path().join(name));
            fs::write(&certificate, &old.0).unwrap();
            fs::write(&private, key).unwrap();
            for (text, path) in [(left_certificate, &certificate), (left_key, &private)] {
                if let Some(text) = text {
                    fs::write(beside(path), text).unwrap();
                }
            }
            recover(&certificate, &private).unwrap();
            let now = [&certificate, &private].map(|path| fs::read_to_string(path).unwrap());
            assert_eq!(now, [wanted.0.clone(), wanted.1.clone()]);
            assert!(!beside(&certificate).exists() && !beside(&private).exists());
            install(&certificate, &private, (&other.0, &other.1)).unwrap();
            assert!(is_pair(&certificate, &private));
        }
    }

    /// A certificate that cannot be replaced, such as one that is mounted there: the key stays that of the old one.
    #[test]
    fn a_replacement_that_fails_half_way_is_undone() {
        let (old, new) = (pair("old"), pair("new"));
        let dir = tempfile::tempdir().unwrap();
        let [certificate, private] = ["host.pem", "host.key"].map(|name| dir.path().join(name));
        fs::create_dir(&certificate).unwrap();
        fs::write(certificate.join("x"), "").unwrap();
        fs::write(&private, &old.1).unwrap();
        let failed = install(&certificate, &private, (&new.0, &new.1)).unwrap_err().to_string();
        assert!(
            failed.starts_with(&format!("cannot replace {}", certificate.display())),
            "{failed}"
        );
        assert_eq!(fs::read_to_string(&private).unwrap(), old.1);
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["host.key", "host.pem"]);
    }

    #[test]
    fn only_the_authority_with_the_key_is_taken() {
        let (one, other) = (pair("one").0, pair("other").0);
        let key = shown(&one)[0].key;
        assert_eq!(with_key(&format!("{other}{one}junk"), key).trim(), one.trim());
        assert_eq!(with_key(&other, key), "");
    }
}
