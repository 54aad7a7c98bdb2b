//! What a daemon takes at its start and keeps until the next: parameters that no reload changes, and certificates.
//! Where the files say something else by now, or a certificate ends, that is told.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use tokio_util::sync::CancellationToken;
use vsm_config::{Config, keys};
use vsm_core::UnixMillis;

use crate::{
    clock,
    trouble::{Kind, Troubles},
};

/// How often the certificates are looked at. They are small, and what was renewed is to be seen soon.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// So long before its end a certificate is told of.
const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Later than any certificate can end: the year 9999 is the last that can be written.
const AFTER_ALL: Duration = Duration::from_secs(253_402_300_800);
/// What a trouble with parameters is about.
const PARAMETERS: &str = "parameters";

/// Which daemon it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `vsmserver`.
    Broker,
    /// `vsmagent`.
    Agent,
}

impl Daemon {
    /// Whether it uses a parameter that is read at a start alone.
    fn reads(self, path: &str) -> bool {
        let own: &[&str] = match self {
            Self::Broker => &["/vsmserver/", "/vsm/vsm_agent_port"],
            Self::Agent => &["/vsmagent/"],
        };
        path.starts_with("/tls/") || own.iter().any(|start| path.starts_with(start))
    }
}

/// What it took at its start.
#[derive(Debug)]
pub struct AtStart {
    daemon: Daemon,
    config: Config,
    certificates: Vec<InUse>,
    troubles: Troubles,
}

/// A file of certificates as it was read.
#[derive(Debug)]
struct InUse {
    path: PathBuf,
    what: &'static str,
    /// Of what was in it: one is a private key.
    digest: u64,
    /// When it ends; none where that cannot be read.
    ends: Option<UnixMillis>,
}

impl AtStart {
    /// For a daemon that starts with `config`, whose certificates were loaded just now.
    #[must_use]
    pub fn new(daemon: Daemon, config: &Config, troubles: Troubles) -> Arc<Self> {
        // With the chain of this host all of it ends that is behind the first to end; of authorities one is enough.
        let first = |ends: &[UnixMillis]| ends.iter().min().copied();
        let last = |ends: &[UnixMillis]| ends.iter().max().copied();
        let certificates = [
            InUse::read(config.get(&keys::tls::CERT_FILE), "this host's certificate", first),
            InUse::read(config.get(&keys::tls::CA_FILE), "the authority's certificate", last),
            InUse::read(config.get(&keys::tls::KEY_FILE), "this host's private key", |_| None),
        ];
        let certificates = certificates.into_iter().flatten().collect();
        let config = config.clone();
        let this = Self { daemon, config, certificates, troubles };
        this.look();
        Arc::new(this)
    }

    /// Tells which parameters of a configuration that was taken now wait for a restart.
    pub fn compare(&self, now: &Config) {
        let changes = self.config.diff(now).into_iter();
        let waiting = changes.filter(|change| change.restart && self.daemon.reads(&change.path));
        let waiting: Vec<String> = waiting.map(|change| change.path).collect();
        let what = || format!("changed, and in effect after a restart only: {}", waiting.join(" "));
        self.troubles.set(Kind::Restart, PARAMETERS, (!waiting.is_empty()).then(what));
    }

    /// Tells which certificates end soon or have ended, and which are others by now.
    pub fn look(&self) {
        for file in &self.certificates {
            let about = file.path.display().to_string();
            self.troubles.set(Kind::Certificate, &about, file.ends_soon(clock::unix_millis()));
            self.troubles.set(Kind::Restart, &about, file.was_replaced());
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
    fn read(
        path: PathBuf,
        what: &'static str,
        which: impl Fn(&[UnixMillis]) -> Option<UnixMillis>,
    ) -> Option<Self> {
        let data = fs::read(&path).ok()?;
        let ends: Vec<UnixMillis> = CertificateDer::pem_slice_iter(&data)
            .filter_map(Result::ok)
            .filter_map(|certificate| end_of(&certificate))
            .collect();
        Some(Self { ends: which(&ends), path, what, digest: digest(&data) })
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

    fn was_replaced(&self) -> Option<String> {
        // One that cannot be read is for a reload or a start to tell.
        let now = fs::read(&self.path).ok()?;
        let (what, path) = (self.what, self.path.display());
        (digest(&now) != self.digest)
            .then(|| format!("{what} was replaced, and the former one is in use: {path}"))
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
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn told(troubles: &Troubles, kind: Kind, about: &Path) -> Option<String> {
        troubles.of(kind, &about.display().to_string()).map(|trouble| trouble.what)
    }

    fn pem(year: i32, is_authority: bool) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = date_time_ymd(year, 5, 17);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(certificate: &str, authority: &str) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            host.write("host.pem", certificate);
            host.write("host.key", "key");
            host.write("ca.pem", authority);
            host
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        /// Its configuration with further lines.
        fn config(&self, lines: &str) -> Config {
            let paths = ["ca.pem", "host.pem", "host.key"].map(|name| self.path(name));
            let [ca, host, key] = [0, 1, 2].map(|n: usize| paths[n].display());
            let tls = format!("tls: {{ca_file: {ca}, cert_file: {host}, key_file: {key}}}\n");
            self.write("a.yaml", &(tls + lines));
            Config::load(self.0.path()).unwrap()
        }
    }

    #[test]
    fn a_certificate_that_has_ended_is_told_with_its_file_and_day() {
        let (long, ended) = (pem(2199, false), pem(2001, false));
        let host = Host::new(&format!("{long}{ended}"), &pem(9998, true));
        let troubles = Troubles::default();
        drop(AtStart::new(Daemon::Agent, &host.config(""), troubles.clone()));
        let said = told(&troubles, Kind::Certificate, &host.path("host.pem")).unwrap();
        let path = host.path("host.pem");
        let words = "this host's certificate ended at 2001-05-17T00:00:00Z: ";
        assert_eq!(said, format!("{words}{}", path.display()));
        assert_eq!(troubles.now().len(), 1, "{:?}", troubles.now());
    }

    #[test]
    fn an_authority_that_is_followed_by_another_is_not_missed() {
        let (old, new) = (pem(2001, true), pem(2199, true));
        let leaf = pem(2199, false);
        let count = |authority: &str| {
            let troubles = Troubles::default();
            let host = Host::new(&leaf, authority);
            drop(AtStart::new(Daemon::Broker, &host.config(""), troubles.clone()));
            troubles.now().len()
        };
        assert_eq!([count(&old), count(&format!("{old}{new}")), count(&new)], [1, 0, 0]);
    }

    #[test]
    fn it_is_told_from_thirty_days_before_the_end() {
        let host = Host::new(&pem(2199, false), "");
        let first = |ends: &[UnixMillis]| ends.first().copied();
        let file = InUse::read(host.path("host.pem"), "it", first).unwrap();
        let end = file.ends.unwrap().0;
        let at = |days: u64| file.ends_soon(UnixMillis(end - days * 86_400_000));
        assert_eq!(at(31), None);
        assert!(at(29).unwrap().starts_with("it ends at 2199-05-17"));
        assert!(at(0).unwrap().starts_with("it ended at"));
    }

    #[test]
    fn what_waits_for_a_restart_is_told_until_it_is_as_it_runs() {
        let host = Host::new(&pem(2199, false), &pem(2199, true));
        let troubles = Troubles::default();
        let daemon = AtStart::new(Daemon::Agent, &host.config(""), troubles.clone());
        // Another daemon's, and what a reload is enough for.
        daemon.compare(&host.config("vsmserver: {listen_port: 9001}\nvsmagent: {max_sessions: 7}"));
        assert_eq!(troubles.now(), []);
        daemon.compare(&host.config("vsmagent: {listen_port: 905, run_dir: /run/x}"));
        let said = told(&troubles, Kind::Restart, Path::new(PARAMETERS)).unwrap();
        assert!(said.ends_with("only: /vsmagent/listen_port /vsmagent/run_dir"), "{said}");
        daemon.compare(&host.config("vsmagent: {listen_port: 904}"));
        assert_eq!(troubles.now(), []);
        let before = fs::read_to_string(host.path("host.pem")).unwrap();
        host.write("host.pem", &pem(2198, false));
        daemon.look();
        let said = told(&troubles, Kind::Restart, &host.path("host.pem")).unwrap();
        assert!(said.starts_with("this host's certificate was replaced"), "{said}");
        host.write("host.pem", &before);
        daemon.look();
        assert_eq!(troubles.now(), []);
        host.write("host.key", "another");
        daemon.look();
        let said = told(&troubles, Kind::Restart, &host.path("host.key")).unwrap();
        assert!(said.starts_with("this host's private key was replaced"), "{said}");
    }
}
