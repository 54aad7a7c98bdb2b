//! The files of this host's identity. They are root's; `vsm-agent-net` may read them by its group, and whatever it has
//! got from a broker in their place is put there here, if it is this host's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use vsm_config::{Config, keys};
use vsm_daemon::{
    account::Account,
    authorities::{self, Certificate},
    files::{self, Access},
    grant,
    hole::{self, Hole},
    pki,
    trouble::Kind,
};

use super::Agent;
use crate::message::{Better, Install};

/// How often the key is looked at: an administrator may have put another one in its place, as root.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why what a broker answered is not put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotInstalled {
    #[error("this is no certificate of this host's new key")]
    Other,
    #[error("no authority that this host trusts stands behind this certificate now")]
    Strange,
    #[error("this certificate ends no later than the present one")]
    Sooner,
    #[error("this certificate is older than the present one")]
    Older,
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] std::io::Error),
}

/// The files of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

impl Files {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            certificate: config.get(&keys::tls::CERT_FILE),
            key: config.get(&keys::tls::KEY_FILE),
            authorities: config.get(&keys::tls::CA_FILE),
        }
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

    /// Puts a renewed certificate and its key in place, and what is to be trusted with it.
    pub(super) fn install(&self, install: &Install) -> Result<(), NotInstalled> {
        let Install { chain, key, authorities, better } = install;
        let key = key.as_str();
        let first = |pem: &str| pki::shown(pem).into_iter().next();
        let new = first(chain).ok_or(NotInstalled::Other)?;
        let present = std::fs::read_to_string(&self.certificate).ok().and_then(|pem| first(&pem));
        let is_others = present.as_ref().is_some_and(|present| present.names != new.names);
        let is_believed = hole::is_open(Hole::Install);
        if pki::public_key(key) != Some(new.key) || is_others && !is_believed {
            return Err(NotInstalled::Other);
        }
        // Whoever brings it has looked as well. It may be in the wrong hands, and what is put in place stays.
        let trusted = Certificate::all(&self.trusted()?);
        if !authorities::leads_to(&trusted, &Certificate::all(chain)) && !is_believed {
            return Err(NotInstalled::Strange);
        }
        match (better, present) {
            (Better::Later, Some(present)) if present.until >= new.until => {
                return Err(NotInstalled::Sooner);
            }
            (Better::Newer, Some(present)) if present.since > new.since => {
                return Err(NotInstalled::Older);
            }
            (Better::Later | Better::Newer, _) => {}
        }
        // First, and the other way round where one goes: what interrupts it leaves a host that trusts one too many.
        self.learn(chain, authorities)?;
        pki::install(&self.certificate, &self.key, (chain, key))?;
        tracing::info!("this host's certificate is renewed");
        Ok(())
    }

    /// Trusts the authorities too that a broker offers, and for which one that is trusted vouches.
    fn learn(&self, chain: &str, offered: &str) -> Result<(), NotInstalled> {
        let trusted = self.trusted()?;
        let learned = authorities::learned(&trusted, chain, offered);
        if learned.is_empty() {
            return Ok(());
        }
        let all =
            [trusted.trim_end()].into_iter().chain(learned.iter().map(|one| one.pem.trim_end()));
        self.trust(&all.map(|pem| format!("{pem}\n")).collect::<String>())?;
        for one in &learned {
            let (authority, key) = (one.subject(), one.shown.key);
            tracing::warn!(authority, %key, "trusted from now on, as a trusted one vouches for it");
        }
        Ok(())
    }

    /// Trusts those no more that a broker trusts no more, where this host's own certificate is by another one.
    pub(super) fn forget(&self, offered: &str) -> Result<(), NotInstalled> {
        let chain = read(&self.certificate)?;
        let Some(left) = authorities::left(&self.trusted()?, &chain, offered) else {
            return Ok(());
        };
        self.trust(&left)?;
        tracing::warn!("an authority is trusted no more, as the broker trusts it no more");
        Ok(())
    }

    fn trusted(&self) -> Result<String, NotInstalled> {
        read(&self.authorities)
    }

    fn trust(&self, authorities: &str) -> Result<(), NotInstalled> {
        let access = Access { mode: 0o644, uid: None };
        Ok(files::replace(&self.authorities, authorities.as_bytes(), access)?)
    }

    /// Where the key is.
    fn key(&self) -> &Path {
        &self.key
    }
}

fn read(path: &Path) -> Result<String, NotInstalled> {
    std::fs::read_to_string(path)
        .map_err(|source| NotInstalled::Read { path: path.to_owned(), source })
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

    use super::*;

    /// A host that has this certificate, and trusts these.
    fn host(dir: &Path, (chain, key): &(String, String), trusted: &str) -> Files {
        let path = |name: &str| dir.join(name);
        let (certificate, authorities) = (path("host.pem"), path("ca.pem"));
        let files = Files { certificate, key: path("host.key"), authorities };
        fs::write(&files.certificate, chain).unwrap();
        fs::write(&files.key, key).unwrap();
        fs::write(&files.authorities, trusted).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        files
    }

    fn install(chain: &str, key: &str, better: Better) -> Install {
        let (chain, key) = (chain.to_owned(), key.to_owned());
        Install { chain, key: key.into(), authorities: String::new(), better }
    }

    #[test]
    fn only_a_better_certificate_of_the_same_host_is_put_in_place() {
        use Better::{Later, Newer};
        let dir = tempfile::tempdir().unwrap();
        let (own, evil) = (Authority::new("own"), Authority::new("evil"));
        let present = own.makes("lab7", 20);
        let files = host(dir.path(), &present, &own.1);
        let ((later, key), (sooner, short)) = (own.makes("lab7", 25), own.makes("lab7", 15));
        let (others, strange) = own.makes("lab8", 25);
        for (chain, key) in
            [(&later, &short), (&others, &strange), (&"x".to_owned(), &key), (&key, &later)]
        {
            let done = files.install(&install(chain, key, Newer));
            assert!(matches!(done, Err(NotInstalled::Other)), "{chain}");
        }
        let done = files.install(&install(&sooner, &short, Later));
        assert!(matches!(done, Err(NotInstalled::Sooner)));
        let (by_others, theirs) = evil.makes("lab7", 25);
        let both = format!("{by_others}{}{}", evil.1, own.1);
        for chain in [by_others, both] {
            let done = files.install(&install(&chain, &theirs, Newer));
            assert!(matches!(done, Err(NotInstalled::Strange)), "{chain}");
        }
        assert_eq!(fs::read_to_string(&files.key).unwrap(), present.1);
        for (chain, key, better) in [(&later, &key, Later), (&sooner, &short, Newer)] {
            files.install(&install(chain, key, better)).unwrap();
            assert_eq!(&fs::read_to_string(&files.certificate).unwrap(), chain);
            assert_eq!(&fs::read_to_string(&files.key).unwrap(), key);
        }
    }

    /// An authority, and its files.
    struct Authority(tempfile::TempDir, String);

    impl Authority {
        fn new(name: &str) -> Self {
            Self::of(pki::make_authority(name, 30).unwrap())
        }

        fn of((pem, key): (String, pki::Private)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("ca.pem"), &pem).unwrap();
            fs::write(dir.path().join("ca.key"), &*key).unwrap();
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(dir.path().join("ca.key"), mode).unwrap();
            Self(dir, pem)
        }

        fn signer(&self) -> pki::Signer {
            pki::Signer::load(&self.0.path().join("ca.pem"), &self.0.path().join("ca.key")).unwrap()
        }

        /// An agent's certificate for so many days.
        fn makes(&self, name: &str, days: u32) -> (String, String) {
            let (name, roles) = (name.to_owned(), vec![vsm_daemon::tls::Role::Agent]);
            let life = pki::DAY * days;
            let wanted = pki::Wanted { name, roles, addresses: Vec::new(), since: None, life };
            let (own, key) = self.signer().make(&wanted).unwrap();
            (own, key.to_string())
        }

        /// A host's certificate by an issuer, with what vouches for the authority.
        fn signs(&self, cross: &str) -> (String, String) {
            let issuer = Self::of(self.signer().make_issuer("a", 30).unwrap());
            let (own, key) = issuer.makes("lab7", 1);
            (format!("{own}{}{cross}", issuer.1), key)
        }
    }

    /// One is trusted if a trusted one vouches for it, and goes if it is not needed.
    #[test]
    fn root_trusts_nobody_by_the_word_of_its_account() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, evil) = (Authority::new("old"), Authority::new("new"), Authority::new("x"));
        let files = host(dir.path(), &old.signs(""), &old.1);
        let trusts = || fs::read_to_string(&files.authorities).unwrap();
        let try_to = |(chain, key): (String, String), authorities: &str| {
            let authorities = authorities.to_owned();
            let (key, better) = (key.into(), Better::Newer);
            files.install(&Install { chain, key, authorities, better })
        };
        let install = |pair: (String, String), authorities: &str| {
            try_to(pair, authorities).unwrap();
        };
        assert!(matches!(try_to(evil.signs(""), &evil.1), Err(NotInstalled::Strange)));
        install(old.signs(""), &format!("{}{}", old.1, new.1));
        assert_eq!(trusts(), old.1, "nobody vouches for it");
        let vouched = &Certificate::all(&new.1)[0];
        let cross = old.signer().vouch(vouched).unwrap();
        files.forget(&new.1).unwrap();
        assert_eq!(trusts(), old.1, "nobody is left without any");
        let both = format!("{}{}", old.1, new.1);
        install(new.signs(&cross), &both);
        assert_eq!(trusts(), both);
        install(new.signs(&cross), &both);
        assert_eq!(trusts(), both, "once");
        // Once it is vouched for no more.
        install(new.signs(""), &both);
        files.forget(&format!("{}{}", evil.1, old.1)).unwrap();
        assert_eq!(trusts(), both, "its own certificate is by the new one");
        files.forget(&format!("{}{}", evil.1, new.1)).unwrap();
        assert_eq!(trusts(), new.1);
    }
}
