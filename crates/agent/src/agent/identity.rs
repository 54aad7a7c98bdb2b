//! The files of this host's identity. They are root's; `vsm-agent-net` may read them by its group, and whatever it has
//! got from a broker in their place is put there here, if it is this host's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use vsm_config::{Config, keys};
use vsm_daemon::{account::Account, grant, pki, trouble::Kind};

use super::Agent;

/// How often the key is looked at: an administrator may have put another one in its place, as root.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why what a broker answered is not put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotInstalled {
    #[error("this is no certificate of this host's new key")]
    Other,
    #[error("this certificate ends no later than the present one")]
    Sooner,
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// The files of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    pub(super) fn of(config: &Config) -> Self {
        let (certificate, key) =
            (config.get(&keys::tls::CERT_FILE), config.get(&keys::tls::KEY_FILE));
        Self { certificate, key }
    }

    /// Ends a renewal that was interrupted.
    ///
    /// # Errors
    /// If the files cannot be moved.
    pub(super) fn recover(&self) -> std::io::Result<()> {
        pki::recover(&self.certificate, &self.key)
    }

    /// Lets the account read the key.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn grant(&self, account: Account) -> std::io::Result<()> {
        grant::readable(&self.key, account.key_group())
    }

    /// Puts a renewed certificate and its key in place.
    pub(super) fn install(&self, chain: &str, key: &str) -> Result<(), NotInstalled> {
        let first = |pem: &str| pki::shown(pem).into_iter().next();
        let new = first(chain).ok_or(NotInstalled::Other)?;
        let present = std::fs::read_to_string(&self.certificate).ok().and_then(|pem| first(&pem));
        if pki::public_key(key) != Some(new.key)
            || present.as_ref().is_some_and(|present| present.names != new.names)
        {
            return Err(NotInstalled::Other);
        }
        if present.is_some_and(|present| present.until >= new.until) {
            return Err(NotInstalled::Sooner);
        }
        pki::install(&self.certificate, &self.key, (chain, key))
            .map_err(|source| NotInstalled::Write { path: self.certificate.clone(), source })
    }

    /// Where the key is.
    fn key(&self) -> &Path {
        &self.key
    }
}

/// Lets the account read the key, and says where it cannot.
pub(super) fn grant(agent: &Agent, account: Account) {
    let files = Arc::clone(&agent.files.borrow());
    let granted = files.grant(account);
    let what =
        |error| format!("cannot let {} read {}: {error}", account.name, files.key().display());
    agent.troubles.set(Kind::Identity, "key", granted.err().map(what));
}

/// Looks now and then, until `stop`. Two system calls on a local file, on the spot.
pub(super) async fn follow(agent: Arc<Agent>, account: Account, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        grant(&agent, account);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate until the year, which its key has signed itself.
    fn pair(name: &str, year: i32) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let uri = format!("vsm://agent/{name}").as_str().try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.not_after = date_time_ymd(year, 5, 17);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn only_a_later_certificate_of_the_same_host_is_put_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            Files { certificate: dir.path().join("host.pem"), key: dir.path().join("host.key") };
        let (present, old) = pair("lab7", 2099);
        fs::write(&files.certificate, &present).unwrap();
        fs::write(&files.key, &old).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        let ((later, key), (sooner, short)) = (pair("lab7", 2101), pair("lab7", 2098));
        let (others, strange) = pair("lab8", 2101);
        for (chain, key) in
            [(&later, &short), (&others, &strange), (&"x".to_owned(), &key), (&key, &later)]
        {
            assert!(matches!(files.install(chain, key), Err(NotInstalled::Other)), "{chain}");
        }
        assert!(matches!(files.install(&sooner, &short), Err(NotInstalled::Sooner)));
        assert_eq!(fs::read_to_string(&files.key).unwrap(), old);
        files.install(&later, &key).unwrap();
        assert_eq!(fs::read_to_string(&files.certificate).unwrap(), later);
        assert_eq!(fs::read_to_string(&files.key).unwrap(), key);
    }
}
