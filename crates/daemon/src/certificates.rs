//! The certificates that a daemon uses: files that were replaced are taken without a restart, and an end that is near
//! is told.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use tokio_util::sync::CancellationToken;
use vsm_config::{Config, keys};
use vsm_core::UnixMillis;

use crate::{
    clock,
    tls::Tls,
    trouble::{Kind, Troubles},
};

/// How often the files are looked at. They are small, and what was renewed is to be in use soon.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// So long before its end a certificate is told of.
const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Later than any certificate can end: the year 9999 is the last that can be written.
const AFTER_ALL: Duration = Duration::from_secs(253_402_300_800);
/// What a trouble with files that cannot be used is about.
const FILES: &str = "files";

/// What is in use, and what becomes of it.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    in_use: Mutex<InUse>,
    troubles: Troubles,
}

/// The files as they were when they were taken.
#[derive(Debug)]
struct InUse {
    config: Config,
    files: Vec<File>,
}

/// One of them.
#[derive(Debug)]
struct File {
    path: PathBuf,
    what: &'static str,
    /// Of what was in it: one is a private key.
    digest: u64,
    /// When it ends; none where that cannot be read.
    ends: Option<UnixMillis>,
}

impl Certificates {
    /// For a daemon that has loaded `tls` by `config` just now.
    #[must_use]
    pub fn new(tls: Tls, config: &Config, troubles: Troubles) -> Arc<Self> {
        let in_use = Mutex::new(InUse::read(config.clone()));
        let this = Self { tls, in_use, troubles };
        this.look();
        Arc::new(this)
    }

    /// Takes those that a configuration names, if they can be used; else the former ones stay in use.
    pub fn take(&self, config: &Config) {
        // Before they are loaded: what changes meanwhile is seen at the next look.
        let new = InUse::read(config.clone());
        match self.tls.reload(config) {
            Ok(()) => {
                let mut in_use = self.in_use.lock();
                if in_use.differs(&new) {
                    tracing::info!("certificates read again: new connections use them");
                }
                *in_use = new;
                self.troubles.over(Kind::Certificate, FILES);
            }
            Err(error) => {
                let what = format!("changed, and the former ones stay in use: {error}");
                self.troubles.raise(Kind::Certificate, FILES, what);
            }
        }
    }

    /// Takes files that were replaced, and tells which end soon or have ended.
    pub fn look(&self) {
        let config = {
            let in_use = self.in_use.lock();
            let now = InUse::read(in_use.config.clone());
            in_use.differs(&now).then(|| in_use.config.clone())
        };
        match config {
            Some(config) => self.take(&config),
            // Mended by being put back.
            None => self.troubles.over(Kind::Certificate, FILES),
        }
        for file in &self.in_use.lock().files {
            let about = file.path.display().to_string();
            self.troubles.set(Kind::Certificate, &about, file.ends_soon(clock::unix_millis()));
        }
    }

    /// Looks now and then, until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let this = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                return;
            }
        }
    }
}

impl InUse {
    fn read(config: Config) -> Self {
        // With the chain of this host all of it ends that is behind the first to end; of authorities one is enough.
        let first = |ends: &[UnixMillis]| ends.iter().min().copied();
        let last = |ends: &[UnixMillis]| ends.iter().max().copied();
        let files = vec![
            File::read(config.get(&keys::tls::CERT_FILE), "this host's certificate", first),
            File::read(config.get(&keys::tls::CA_FILE), "the authority's certificate", last),
            File::read(config.get(&keys::tls::KEY_FILE), "this host's private key", |_| None),
        ];
        Self { config, files }
    }

    fn differs(&self, other: &Self) -> bool {
        let digests = |files: &[File]| files.iter().map(|file| file.digest).collect::<Vec<_>>();
        digests(&self.files) != digests(&other.files)
    }
}

impl File {
    fn read(
        path: PathBuf,
        what: &'static str,
        which: impl Fn(&[UnixMillis]) -> Option<UnixMillis>,
    ) -> Self {
        // One that cannot be read is as an empty one: whoever loads it tells why.
        let data = fs::read(&path).unwrap_or_default();
        let ends: Vec<UnixMillis> = CertificateDer::pem_slice_iter(&data)
            .filter_map(Result::ok)
            .filter_map(|certificate| end_of(&certificate))
            .collect();
        Self { ends: which(&ends), path, what, digest: digest(&data) }
    }

    fn ends_soon(&self, now: UnixMillis) -> Option<String> {
        let ends = self.ends?;
        let soon = now.0.saturating_add(u64::try_from(ENDS_SOON.as_millis()).unwrap_or(u64::MAX));
        let verb = if ends <= now { "ended" } else { "ends" };
        let said = || {
            let (what, path) = (self.what, self.path.display());
            format!("{what} {verb} at {}: {path}", clock::shown(ends))
        };
        (ends.0 <= soon).then(said)
    }
}

fn digest(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

/// When a certificate ends. The verifier of rustls does not tell, but for one that is looked at after its end.
fn end_of(certificate: &CertificateDer<'_>) -> Option<UnixMillis> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let after_all = UnixTime::since_unix_epoch(AFTER_ALL);
    let usage = webpki::KeyUsage::client_auth();
    match certificate.verify_for_usage(&[], &[], &[], after_all, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Some(UnixMillis(not_after.as_secs().saturating_mul(1000)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::Path};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn told(troubles: &Troubles, about: &Path) -> Option<String> {
        let about = about.display().to_string();
        troubles.of(Kind::Certificate, &about).map(|trouble| trouble.what)
    }

    /// A key, and a certificate that it has signed itself.
    fn pem(year: i32, is_authority: bool) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = date_time_ymd(year, 5, 17);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    struct Host(tempfile::TempDir);

    impl Host {
        fn new((key, certificate): (String, String), authority: &str) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            host.write("host.pem", &certificate);
            host.write("host.key", &key);
            host.write("ca.pem", authority);
            fs::set_permissions(host.path("host.key"), fs::Permissions::from_mode(0o600)).unwrap();
            host
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn certificates(&self) -> (Arc<Certificates>, Troubles) {
            let paths = ["ca.pem", "host.pem", "host.key"].map(|name| self.path(name));
            let [ca, host, key] = [0, 1, 2].map(|n: usize| paths[n].display());
            let yaml = format!("tls: {{ca_file: {ca}, cert_file: {host}, key_file: {key}}}\n");
            self.write("a.yaml", &yaml);
            let (config, troubles) = (Config::load(self.0.path()).unwrap(), Troubles::default());
            (Certificates::new(Tls::load(&config).unwrap(), &config, troubles.clone()), troubles)
        }
    }

    #[test]
    fn a_certificate_that_has_ended_is_told_with_its_file_and_day() {
        let ((key, long), (_, ended)) = (pem(2199, false), pem(2001, false));
        let host = Host::new((key, format!("{long}{ended}")), &pem(9998, true).1);
        let (_certificates, troubles) = host.certificates();
        let path = host.path("host.pem");
        let words = "this host's certificate ended at 2001-05-17T00:00:00Z: ";
        assert_eq!(told(&troubles, &path).unwrap(), format!("{words}{}", path.display()));
        assert_eq!(troubles.now().len(), 1, "{:?}", troubles.now());
    }

    #[test]
    fn an_authority_that_is_followed_by_another_is_not_missed() {
        let (old, new) = (pem(2001, true).1, pem(2199, true).1);
        let count =
            |authority: &str| Host::new(pem(2199, false), authority).certificates().1.now().len();
        assert_eq!([count(&old), count(&format!("{old}{new}")), count(&new)], [1, 0, 0]);
    }

    #[test]
    fn it_is_told_from_thirty_days_before_the_end() {
        let host = Host::new(pem(2199, false), "");
        let first = |ends: &[UnixMillis]| ends.first().copied();
        let file = File::read(host.path("host.pem"), "it", first);
        let end = file.ends.unwrap().0;
        let at = |days: u64| file.ends_soon(UnixMillis(end - days * 86_400_000));
        assert_eq!(at(31), None);
        assert!(at(29).unwrap().starts_with("it ends at 2199-05-17"));
        assert!(at(0).unwrap().starts_with("it ended at"));
    }

    #[test]
    fn files_that_were_replaced_are_taken_and_half_of_them_are_told() {
        let host = Host::new(pem(2001, false), &pem(2199, true).1);
        let (certificates, troubles) = host.certificates();
        assert!(told(&troubles, &host.path("host.pem")).is_some(), "it has ended");
        // Between the two files that a renewal writes.
        let (key, certificate) = pem(2199, false);
        host.write("host.pem", &certificate);
        certificates.look();
        let said = told(&troubles, Path::new(FILES)).unwrap();
        assert!(said.starts_with("changed, and the former ones stay in use: "), "{said}");
        assert!(told(&troubles, &host.path("host.pem")).is_some(), "as it is in use");
        host.write("host.key", &key);
        certificates.look();
        assert_eq!(troubles.now(), []);
        // One that is put back was never taken.
        host.write("host.key", "none");
        certificates.look();
        assert_eq!(troubles.now().len(), 1);
        host.write("host.key", &key);
        certificates.look();
        assert_eq!(troubles.now(), []);
    }
}
