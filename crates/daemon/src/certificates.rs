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
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_util::sync::CancellationToken;
use vsm_config::{Config, keys};
use vsm_core::UnixMillis;

use crate::{
    clock,
    shown::Shown,
    tls::Tls,
    trouble::{Kind, Troubles},
};

/// How often the files are looked at. They are small, and what was renewed is to be in use soon.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A renewal writes one file after the other: one look may find half of it.
const BETWEEN_TWO_FILES: u32 = 1;

/// What is in use, and what becomes of it.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    names: Vec<String>,
    state: Mutex<State>,
    troubles: Troubles,
}

#[derive(Debug)]
struct State {
    /// The configuration whose files are wanted.
    wanted: Config,
    /// The files that were taken last.
    in_use: Vec<File>,
    /// Looks in a row that found files which cannot be used.
    in_vain: u32,
}

/// A file as it was read.
#[derive(Debug)]
struct File {
    path: PathBuf,
    parameter: &'static str,
    what: &'static str,
    /// Of what was in it: one is a private key.
    digest: u64,
    /// When it ends; none where that cannot be read.
    ends: Option<UnixMillis>,
    /// From when on that is told.
    told: Option<UnixMillis>,
}

impl Certificates {
    /// For a daemon that has loaded `tls` by `config`, and is reached by these names.
    #[must_use]
    pub fn new(tls: Tls, config: &Config, names: Vec<String>, troubles: Troubles) -> Arc<Self> {
        // Nothing counts as taken: what was replaced since it was loaded is loaded again.
        let state = State { wanted: config.clone(), in_use: Vec::new(), in_vain: 0 };
        let this = Self { tls, names, state: Mutex::new(state), troubles };
        this.look();
        Arc::new(this)
    }

    /// Takes those that a configuration names, once they can be used; until then the former ones stay in use.
    pub fn take(&self, config: &Config) {
        let mut state = self.state.lock();
        state.wanted = config.clone();
        state.in_vain = BETWEEN_TWO_FILES;
        let _ = self.follow_files(&mut state);
    }

    /// Takes files that were replaced, and tells which end soon or have ended.
    pub fn look(&self) {
        let _ = self.follow_files(&mut self.state.lock());
    }

    /// The same at once for somebody who asks: files that cannot be used are told. Whether some were taken.
    pub fn look_again(&self) -> bool {
        let mut state = self.state.lock();
        state.in_vain = BETWEEN_TWO_FILES;
        self.follow_files(&mut state)
    }

    fn follow_files(&self, state: &mut State) -> bool {
        // Before they are loaded: what changes meanwhile is seen at the next look.
        let now = files(&state.wanted);
        let (mut wrong, mut taken) = (Vec::new(), false);
        if same(&now, &state.in_use) {
            state.in_vain = 0;
        } else {
            match self.tls.reload(&state.wanted) {
                Ok(()) => {
                    if !state.in_use.is_empty() {
                        tracing::info!("certificates read again: new connections use them");
                        taken = true;
                    }
                    (state.in_use, state.in_vain) = (now, 0);
                }
                Err(error) => {
                    state.in_vain = state.in_vain.saturating_add(1);
                    if state.in_vain > BETWEEN_TWO_FILES {
                        let what = format!("changed, and the former ones stay in use: {error}");
                        wrong.push(("files".to_owned(), what));
                    }
                }
            }
        }
        let at = clock::unix_millis();
        let ending = state.in_use.iter().filter_map(|file| Some((file, file.ends_soon(at)?)));
        wrong.extend(ending.map(|(file, what)| (file.parameter.to_owned(), what)));
        wrong.extend(self.not_for().map(|what| ("names".to_owned(), what)));
        self.troubles.only(Kind::Certificate, "", &wrong);
        taken
    }

    /// Names by which this host is reached, and for which its certificate is not.
    fn not_for(&self) -> Option<String> {
        let own = self.tls.own().into_iter().next()?;
        let missing: Vec<&str> =
            self.names.iter().map(String::as_str).filter(|name| !own.is_for(name)).collect();
        (!missing.is_empty()).then(|| {
            format!(
                "this host's certificate is not for {}, so that whoever connects to that name refuses it; issue it anew \
                 with --address for each",
                missing.join(" and ")
            )
        })
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

fn files(config: &Config) -> Vec<File> {
    // With the chain of this host all of it ends that is behind the first to end, but for an authority that is vouched
    // for there: who knows it by itself needs no word. Of authorities one is enough.
    let has_name = |(place, one): &(usize, &Shown)| *place == 0 || !one.names.is_empty();
    let first =
        |all: &[Shown]| all.iter().enumerate().filter(has_name).map(|(_, one)| one.until).min();
    let last = |all: &[Shown]| all.iter().map(|one| one.until).max();
    let (cert, ca, key) = (&keys::tls::CERT_FILE, &keys::tls::CA_FILE, &keys::tls::KEY_FILE);
    let issuer = &keys::tls::ISSUER_CERT_FILE;
    vec![
        File::read(config.get(cert), cert.path(), "this host's certificate", first),
        File::read(config.get(ca), ca.path(), "the authority's certificate", last),
        File::read(config.get(key), key.path(), "this host's private key", |_| None),
        // There is none but on a broker.
        File::read(config.get(issuer), issuer.path(), "this broker's issuer", first),
    ]
}

fn same(one: &[File], other: &[File]) -> bool {
    let known = |file: &File| (file.path.clone(), file.digest);
    one.iter().map(known).eq(other.iter().map(known))
}

impl File {
    fn read(
        path: PathBuf,
        parameter: &'static str,
        what: &'static str,
        which: impl Fn(&[Shown]) -> Option<UnixMillis>,
    ) -> Self {
        // One that cannot be read is as an empty one: whoever loads it tells why.
        let data = fs::read(&path).unwrap_or_default();
        let all: Vec<Shown> = CertificateDer::pem_slice_iter(&data)
            .filter_map(Result::ok)
            .filter_map(|certificate| Shown::of(&certificate))
            .collect();
        let ends = which(&all);
        let told = all.iter().find(|one| Some(one.until) == ends).map(Shown::told_from);
        Self { ends, told, path, parameter, what, digest: digest(&data) }
    }

    fn ends_soon(&self, now: UnixMillis) -> Option<String> {
        let ends = self.ends?;
        let verb = if ends <= now { "ended" } else { "ends" };
        let said = || {
            let (what, path) = (self.what, self.path.display());
            format!("{what} {verb} at {}: {path}", clock::shown(ends))
        };
        (self.told? <= now).then(said)
    }
}

fn digest(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::OnceLock};

    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
    };

    use super::*;

    const CERT: &str = "/tls/cert_file";

    fn told(troubles: &Troubles, about: &str) -> Option<String> {
        troubles.of(Kind::Certificate, about).map(|trouble| trouble.what)
    }

    /// The authority's key and name: of each year it is the same one.
    fn authority(year: i32) -> (CertificateParams, &'static KeyPair) {
        static KEY: OnceLock<KeyPair> = OnceLock::new();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = date_time_ymd(year, 5, 17);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KEY.get_or_init(|| KeyPair::generate().unwrap()))
    }

    /// A key, and a certificate that the authority has signed; or the authority's own.
    fn pem(year: i32, is_authority: bool) -> (String, String) {
        let (params, key) = authority(year);
        if is_authority {
            return (key.serialize_pem(), params.self_signed(key).unwrap().pem());
        }
        let authority = Issuer::new(params, key);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = date_time_ymd(year, 5, 17);
        params.subject_alt_names = vec![
            SanType::URI("vsm://agent/x".try_into().unwrap()),
            SanType::DnsName("lab".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 10].into()),
        ];
        let key = KeyPair::generate().unwrap();
        (key.serialize_pem(), params.signed_by(&key, &authority).unwrap().pem())
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

        fn config(&self, cert: &str) -> Config {
            let paths = ["ca.pem", cert, "host.key"].map(|name| self.path(name));
            let [ca, host, key] = [0, 1, 2].map(|n: usize| paths[n].display());
            let yaml = format!("tls: {{ca_file: {ca}, cert_file: {host}, key_file: {key}}}\n");
            self.write("a.yaml", &yaml);
            Config::load(self.0.path()).unwrap()
        }

        fn named(&self, config: &Config, names: &[&str], troubles: &Troubles) -> Arc<Certificates> {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Certificates::new(Tls::load(config).unwrap(), config, names, troubles.clone())
        }

        fn certificates(&self) -> (Arc<Certificates>, Troubles) {
            let (config, troubles) = (self.config("host.pem"), Troubles::default());
            (self.named(&config, &[], &troubles), troubles)
        }
    }

    #[test]
    fn a_certificate_that_has_ended_is_told_with_its_file_and_day() {
        let ((key, long), (_, ended)) = (pem(2199, false), pem(2001, false));
        let host = Host::new((key, format!("{long}{ended}")), &pem(9998, true).1);
        let (_certificates, troubles) = host.certificates();
        let path = host.path("host.pem");
        let words = "this host's certificate ended at 2001-05-17T00:00:00Z: ";
        assert_eq!(told(&troubles, CERT).unwrap(), format!("{words}{}", path.display()));
        assert_eq!(troubles.now().len(), 1, "{:?}", troubles.now());
    }

    #[test]
    fn a_short_life_is_told_in_its_last_sixth() {
        let told = |life: u64| {
            let (since, until) = (UnixMillis(0), UnixMillis(life));
            let nothing = vsm_core::Hash([0; 32]);
            let shown = Shown { names: Vec::new(), since, until, key: nothing, by: nothing };
            shown.told_from().0
        };
        assert_eq!(told(60_000), 50_000);
        assert_eq!(told(365 * 86_400_000), 335 * 86_400_000);
    }

    #[test]
    fn an_issuer_that_ends_is_told() {
        let host = Host::new(pem(2199, false), &pem(2199, true).1);
        let config = |issuer: &str| {
            let path = host.path(issuer).display().to_string();
            host.write("b.yaml", &format!("tls: {{issuer_cert_file: {path}}}\n"));
            host.config("host.pem")
        };
        host.write("issuer.pem", &pem(2001, true).1);
        let (config, troubles) = (config("issuer.pem"), Troubles::default());
        drop(Certificates::new(Tls::load(&config).unwrap(), &config, Vec::new(), troubles.clone()));
        let said = told(&troubles, "/tls/issuer_cert_file").unwrap();
        assert!(said.starts_with("this broker's issuer ended at 2001-05-17"), "{said}");
    }

    /// Agents that connect to the resource address would refuse it, and nothing else would tell.
    #[test]
    fn a_certificate_without_a_name_by_which_the_host_is_reached_is_told() {
        let host = Host::new(pem(2199, false), &pem(2199, true).1);
        let (config, troubles) = (host.config("host.pem"), Troubles::default());
        drop(host.named(&config, &["LAB", "10.0.0.10", "not a name"], &troubles));
        assert_eq!(troubles.now(), [], "{:?}", troubles.now());
        drop(host.named(&config, &["lab", "tlha", "10.0.0.11"], &troubles));
        let said = told(&troubles, "names").unwrap();
        assert!(said.contains("is not for tlha and 10.0.0.11, so that"), "{said}");
    }

    #[test]
    fn an_authority_that_is_followed_by_another_is_not_missed() {
        let (old, new) = (pem(2001, true).1, pem(2199, true).1);
        let count =
            |authority: &str| Host::new(pem(2199, false), authority).certificates().1.now().len();
        assert_eq!([count(&old), count(&format!("{old}{new}")), count(&new)], [1, 0, 0]);
    }

    #[test]
    fn the_end_of_what_vouches_for_an_authority_is_not_told() {
        let ((key, long), (_, ended)) = (pem(2199, false), pem(2001, true));
        let host = Host::new((key, format!("{long}{ended}")), &pem(2199, true).1);
        assert_eq!(host.certificates().1.now(), []);
    }

    #[test]
    fn it_is_told_from_thirty_days_before_the_end() {
        let host = Host::new(pem(2199, false), "");
        let first = |all: &[Shown]| all.first().map(|one| one.until);
        let file = File::read(host.path("host.pem"), CERT, "it", first);
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
        assert!(told(&troubles, CERT).is_some(), "it has ended");
        let (key, certificate) = pem(2199, false);
        host.write("host.pem", &certificate);
        certificates.look();
        assert_eq!(told(&troubles, "files"), None, "a renewal may be at it");
        certificates.look();
        let said = told(&troubles, "files").unwrap();
        assert!(said.starts_with("changed, and the former ones stay in use: "), "{said}");
        assert!(told(&troubles, CERT).is_some(), "as it is in use");
        host.write("host.key", &key);
        certificates.look();
        assert_eq!(troubles.now(), []);
        // One that is put back was never taken. Whoever asks is told at once.
        host.write("host.key", "none");
        certificates.look_again();
        assert_eq!(troubles.now().len(), 1);
        host.write("host.key", &key);
        certificates.look();
        assert_eq!(troubles.now(), []);
    }

    /// With it this host would trust others and nobody this host.
    #[test]
    fn an_authority_by_which_the_own_certificate_is_not_is_not_taken() {
        let host = Host::new(pem(2199, false), &pem(2199, true).1);
        let (certificates, troubles) = host.certificates();
        let other = KeyPair::generate().unwrap();
        let other = authority(2199).0.self_signed(&other).unwrap().pem();
        host.write("ca.pem", &other);
        assert!(!certificates.look_again());
        let said = told(&troubles, "files").unwrap();
        assert!(said.contains("it is by no authority of ") && said.contains("ca.pem"), "{said}");
        host.write("ca.pem", &format!("{other}{}", pem(2199, true).1));
        assert!(certificates.look_again());
        assert_eq!(troubles.now(), []);
    }

    #[test]
    fn files_of_a_new_configuration_are_wanted_until_they_can_be_used() {
        let host = Host::new(pem(2001, false), &pem(2199, true).1);
        let (certificates, troubles) = host.certificates();
        certificates.take(&host.config("elsewhere.pem"));
        for _ in 0..3 {
            assert!(told(&troubles, "files").is_some() && told(&troubles, CERT).is_some());
            certificates.look();
        }
        let (key, certificate) = pem(2199, false);
        host.write("elsewhere.pem", &certificate);
        host.write("host.key", &key);
        certificates.look();
        assert_eq!(troubles.now(), [], "nothing is left of the former ones");
    }

    #[test]
    fn what_was_replaced_between_loading_and_the_first_look_is_taken() {
        let host = Host::new(pem(2199, false), &pem(2199, true).1);
        let config = host.config("host.pem");
        let tls = Tls::load(&config).unwrap();
        let (key, ended) = pem(2001, false);
        host.write("host.key", &key);
        host.write("host.pem", &ended);
        let troubles = Troubles::default();
        let before = Arc::as_ptr(tls.acceptor().0.config());
        drop(Certificates::new(tls.clone(), &config, Vec::new(), troubles.clone()));
        assert!(told(&troubles, CERT).is_some());
        assert_ne!(Arc::as_ptr(tls.acceptor().0.config()), before);
    }
}
