//! Identities: the cluster's certificate authority is the cluster, and what a certificate says in its URI names
//! (`vsm://broker/tlha-primary`) is who the other side is. There is no plain-text mode.

mod error;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt, fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::RwLock;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::{Resumption, WebPkiServerVerifier},
    crypto,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier as _},
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::{
    Extensions, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use vsm_config::{Config, keys};
use vsm_core::UnixMillis;
use zeroize::Zeroizing;

pub use crate::role::{Role, UnknownRole};
pub use error::{OpenKey, TlsError};

use crate::{
    authorities::{self, Certificate},
    clock,
    hole::{self, Hole},
    open::{Open, Place, Revoked, revoked},
    shown::Shown,
    verifier::{Clients, Rules, Servers, all_shown},
};
use error::KEY;

/// Both ends are programs of this project: there is nothing older to speak to.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];
/// What gRPC is spoken over, as TLS calls it (RFC 7301).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Who is at the other end of a connection, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, as given when the certificate was issued.
    pub name: String,
    /// What it may be.
    pub roles: Vec<Role>,
    /// From when on its certificate counts.
    pub since: UnixMillis,
    /// When its certificate ends, or ended.
    pub until: UnixMillis,
}

impl Peer {
    /// Whether its certificate has the role.
    #[must_use]
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether a node's name, or address, is its own: the name in its certificate, with or without the domain, or the
    /// address that it comes from.
    #[must_use]
    pub fn speaks_for(&self, node: &str, address: Option<IpAddr>) -> bool {
        let short = |name: &str, whole: &str| {
            let rest = whole.get(name.len()..).is_some_and(|rest| rest.starts_with('.'));
            rest && whole.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        match node.parse::<IpAddr>() {
            Ok(ip) => Some(ip) == address || self.name == node,
            Err(_) => {
                node.eq_ignore_ascii_case(&self.name)
                    || short(node, &self.name)
                    || short(&self.name, node)
            }
        }
    }

    /// Whether one of these entries means it: the name in its certificate, or the address that it comes from.
    #[must_use]
    pub fn is_among(&self, entries: &[String], address: Option<IpAddr>) -> bool {
        entries.iter().any(|entry| {
            entry.eq_ignore_ascii_case(&self.name)
                || entry.parse().is_ok_and(|ip: IpAddr| Some(ip) == address)
        })
    }
}

/// This host's identity and the authority that it trusts. A clone is the same one: what [`Tls::reload`] reads all of
/// them have from the next connection on. Connections that are there go on, unless an authority is trusted no more:
/// then all end, and those that still may are made anew. What is revoked ends too ([`Tls::revoke`]).
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    material: RwLock<Material>,
    rules: Arc<Rules>,
    open: Arc<Open>,
}

/// What is made of the files.
#[derive(Debug, Clone)]
struct Material {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// This host's certificate, and those by which it is trusted.
    own: Vec<CertificateDer<'static>>,
    authorities: BTreeSet<Vec<u8>>,
    clients: Arc<Clients>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files that `/tls/ca_file`, `/tls/cert_file` and `/tls/key_file` name.
    ///
    /// # Errors
    /// If one cannot be read or is not what it should be, if others could read the key, or if it is not the key of the
    /// certificate; the error names file and parameter.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let rules = Arc::new(Rules::default());
        let material = RwLock::new(Material::load(config, &rules)?);
        Ok(Self(Arc::new(Shared { material, rules, open: Arc::default() })))
    }

    /// The identity that a host would have by these: authorities, its certificates and its private key, PEM.
    ///
    /// # Errors
    /// If they cannot be used together.
    pub fn of(ca: &str, cert: &str, key: &str) -> Result<Self, TlsError> {
        let file = |text: &str, parameter| PemFile {
            path: PathBuf::from("(new)"),
            parameter,
            data: Zeroizing::new(text.as_bytes().to_vec()),
        };
        let files = [(ca, "/tls/ca_file"), (cert, "/tls/cert_file"), (key, "/tls/key_file")];
        let [ca, cert, key] = files.map(|(text, parameter)| file(text, parameter));
        let rules = Arc::new(Rules::default());
        let material = RwLock::new(Material::of(&ca, &cert, &key, &rules)?);
        Ok(Self(Arc::new(Shared { material, rules, open: Arc::default() })))
    }

    /// Reads them again.
    ///
    /// # Errors
    /// As [`Tls::load`]; then it stays as it was.
    pub fn reload(&self, config: &Config) -> Result<(), TlsError> {
        let new = Material::load(config, &self.0.rules)?;
        let mut current = self.0.material.write();
        let lost = !current.authorities.is_subset(&new.authorities);
        *current = new;
        if lost {
            tracing::info!("an authority is trusted no more: connections are made anew");
            self.0.open.end_all();
        }
        Ok(())
    }

    /// Whether certificates, of which the first is their owner's, are by an authority that is trusted here.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, chain: &str) -> Result<(), rustls::Error> {
        let all: Vec<_> =
            CertificateDer::pem_slice_iter(chain.as_bytes()).filter_map(Result::ok).collect();
        let (own, others) = all.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let clients = Arc::clone(&self.0.material.read().clients);
        clients.verify_client_cert(own, others, UnixTime::now()).map(drop)
    }

    /// Takes what is revoked from now on, and ends the connections for which such a certificate was shown.
    pub fn revoke(&self, revoked: Revoked) {
        *self.0.rules.revoked.write() = Arc::new(revoked);
        let ended = self.0.open.end_revoked(&self.0.rules.revoked.read());
        if ended > 0 {
            tracing::info!(connections = ended, "ended, as their certificates are revoked");
        }
    }

    /// Whether those without a certificate may come, to ask for one.
    pub fn let_guests_in(&self, open: bool) {
        self.0.rules.is_open.store(open, Ordering::Release);
    }

    /// Whether they may now.
    #[must_use]
    pub fn lets_guests_in(&self) -> bool {
        self.0.rules.is_open.load(Ordering::Acquire)
    }

    /// This host's certificate, and those by which it is trusted.
    #[must_use]
    pub fn own(&self) -> Vec<Certificate> {
        self.0.material.read().own.iter().filter_map(Certificate::of).collect()
    }

    /// What is shown by whoever is connected now.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.0.open.shown()
    }

    /// For a server: every client must show a certificate of the same authority. The place is the connection's.
    pub(crate) fn acceptor(&self) -> (TlsAcceptor, Place) {
        // Both under the lock: an authority that goes ends what was begun by it.
        let current = self.0.material.read();
        (TlsAcceptor::from(Arc::clone(&current.server)), self.0.open.begin())
    }

    /// For a client: the server must show a certificate of the same authority that is valid for the name it is dialled
    /// by. The place is the connection's.
    pub(crate) fn connector(&self) -> (TlsConnector, Place) {
        let current = self.0.material.read();
        (TlsConnector::from(Arc::clone(&current.client)), self.0.open.begin())
    }

    /// Notes what was shown for a connection; one that was revoked during the handshake ends.
    pub(crate) fn note(&self, place: &Place, certificates: Option<&[CertificateDer<'_>]>) {
        let shown = all_shown(certificates.unwrap_or_default());
        place.shows(shown.clone());
        let is_revoked = revoked(&shown, &self.0.rules.revoked.read()).is_some();
        if is_revoked && !hole::is_open(Hole::Revoked) {
            place.cut.cut();
        }
    }
}

impl Material {
    fn load(config: &Config, rules: &Arc<Rules>) -> Result<Self, TlsError> {
        let ca = PemFile::read(config.get(&keys::tls::CA_FILE), "/tls/ca_file")?;
        let cert = PemFile::read(config.get(&keys::tls::CERT_FILE), "/tls/cert_file")?;
        let key = PemFile::read(config.get(&keys::tls::KEY_FILE), KEY)?;
        OpenKey::check(&key.path).map_err(|open| TlsError::Open {
            path: key.path.clone(),
            parameter: key.parameter,
            open,
        })?;
        Self::of(&ca, &cert, &key, rules)
    }

    fn of(
        ca: &PemFile,
        cert: &PemFile,
        key: &PemFile,
        rules: &Arc<Rules>,
    ) -> Result<Self, TlsError> {
        let (mut roots, mut authorities) = (RootCertStore::empty(), BTreeSet::new());
        for authority in ca.certificates()? {
            authorities.insert(authority.to_vec());
            roots.add(authority).map_err(|error| ca.unusable(&error))?;
        }
        let roots = Arc::new(roots);
        let chain = cert.certificates()?;
        let private =
            PrivateKeyDer::from_pem_slice(&key.data).map_err(|_| key.is_not("PRIVATE KEY"))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| ca.unusable(&error))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| ca.unusable(&error))?;
        let clients = Arc::new(Clients {
            signed: clients,
            provider: Arc::clone(&provider),
            rules: Arc::clone(rules),
        });
        let verifier = Arc::clone(&clients);
        let servers = Arc::new(Servers {
            signed: servers,
            provider: Arc::clone(&provider),
            rules: Arc::clone(rules),
        });
        let trusted = ca.certificates()?;
        if !is_by_one_of(&trusted, &chain) {
            let why = format!(
                "it is by no authority of {} ({}), so nobody who has those would trust this host",
                ca.path.display(),
                ca.parameter
            );
            return Err(cert.unusable(&why));
        }
        // Whoever has no certificate yet knows the authority by its hash, and takes it from here.
        let (own, with_authorities) = (chain.clone(), [chain.clone(), trusted].concat());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .map_err(|error| cert.unusable(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(with_authorities, private.clone_key())
            .map_err(|error| key.unusable(&error))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)
            .map_err(|error| cert.unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(chain, private)
            .map_err(|error| key.unusable(&error))?;
        // A connection that goes on where another one was shows no certificate: what has ended would stay.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        client.resumption = Resumption::disabled();
        server.alpn_protocols = vec![HTTP_2.to_vec()];
        client.alpn_protocols = vec![HTTP_2.to_vec()];
        let (server, client) = (Arc::new(server), Arc::new(client));
        Ok(Self { server, client, own, authorities, clients })
    }
}

/// Whether a chain leads to one of these authorities, or has ended: then nobody trusts it, and that is told.
fn is_by_one_of(trusted: &[CertificateDer<'static>], chain: &[CertificateDer<'static>]) -> bool {
    let read = |all: &[CertificateDer<'static>]| -> Vec<Certificate> {
        all.iter().filter_map(Certificate::of).collect()
    };
    let chain = read(chain);
    let counts = chain.first().is_some_and(|own| own.shown.until > clock::unix_millis());
    !counts || authorities::leads_to(&read(trusted), &chain)
}

/// A file with something in PEM, and the parameter that names it.
struct PemFile {
    path: PathBuf,
    parameter: &'static str,
    /// Wiped from memory: one of them is the private key.
    data: Zeroizing<Vec<u8>>,
}

impl PemFile {
    fn read(path: PathBuf, parameter: &'static str) -> Result<Self, TlsError> {
        match fs::read(&path) {
            Ok(data) => Ok(Self { path, parameter, data: Zeroizing::new(data) }),
            Err(source) => Err(TlsError::Read { path, parameter, source }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.data).collect();
        all.ok().filter(|all| !all.is_empty()).ok_or_else(|| self.is_not("CERTIFICATE"))
    }

    fn is_not(&self, what: &'static str) -> TlsError {
        TlsError::NotPem { path: self.path.clone(), parameter: self.parameter, what }
    }

    fn unusable(&self, why: &dyn fmt::Display) -> TlsError {
        let why = why.to_string();
        TlsError::Unusable { path: self.path.clone(), parameter: self.parameter, why }
    }
}

/// Who sent a request that came over mutual TLS.
///
/// # Errors
/// `UNAUTHENTICATED` where there is no certificate or it names nobody of ours.
pub fn peer(extensions: &Extensions) -> Result<Peer, Status> {
    let certificates = extensions
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(TlsConnectInfo::peer_certs)
        .ok_or_else(|| Status::unauthenticated("a certificate of this cluster is required"))?;
    let first = certificates
        .first()
        .ok_or_else(|| Status::unauthenticated("the certificate list is empty"))?;
    remembered_identity(first).ok_or_else(|| {
        Status::unauthenticated(
            "the certificate has no vsm://ROLE/NAME: issue one with vsmctl pki issue",
        )
    })
}

/// Calls come over few connections, each with the same certificate every time: the last one is parsed once.
fn remembered_identity(certificate: &CertificateDer<'static>) -> Option<Peer> {
    thread_local! {
        static LAST: RefCell<Option<(CertificateDer<'static>, Peer)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((known, peer)) = last
            && known == certificate
        {
            return Some(peer.clone());
        }
        let peer = identity(certificate)?;
        *last = Some((certificate.clone(), peer.clone()));
        Some(peer)
    })
}

/// Whether the first of these certificates has a role.
pub(crate) fn has_role(certificates: Option<&[CertificateDer<'_>]>, role: Role) -> bool {
    let own = certificates.and_then(|all| all.first());
    own.and_then(identity).is_some_and(|peer| peer.is(role))
}

fn identity(certificate: &CertificateDer<'_>) -> Option<Peer> {
    let Shown { since, until, .. } = Shown::of(certificate)?;
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut peer = None::<Peer>;
    for uri in parsed.valid_uri_names() {
        let Some((role, name)) = uri.strip_prefix("vsm://").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let Ok(role) = role.parse() else { continue };
        let new = || Peer { name: name.to_owned(), roles: Vec::new(), since, until };
        let peer = peer.get_or_insert_with(new);
        // One certificate, one name: a second name would make it two hosts.
        if peer.name == name {
            peer.roles.push(role);
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn peer_of(name: &str, roles: &[Role]) -> Peer {
        let (since, until) = (UnixMillis(0), UnixMillis(u64::MAX));
        Peer { name: name.to_owned(), roles: roles.to_vec(), since, until }
    }

    #[test]
    fn a_node_is_spoken_for_by_its_own_certificate() {
        let peer = peer_of("one.lab", &[Role::Broker]);
        let from = Some("10.0.0.1".parse().unwrap());
        for own in ["one.lab", "ONE", "one.lab.example.org", "10.0.0.1"] {
            assert!(peer.speaks_for(own, from), "{own}");
        }
        for other in ["two", "one.la", "on", "xone.lab", "one.lax", "", "10.0.0.2"] {
            assert!(!peer.speaks_for(other, from), "{other}");
        }
    }

    /// A host with a certificate of its own authority.
    fn host() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (key, certificate) = own();
        let mut yaml = "tls:\n".to_owned();
        for (name, text) in [("ca", &certificate), ("cert", &certificate), ("key", &key)] {
            fs::write(at(name), text).unwrap();
            yaml.push_str(&format!("  {name}_file: {}\n", at(name).display()));
        }
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(at("a.yaml"), yaml).unwrap();
        let config = Config::load(dir.path()).unwrap();
        (dir, config)
    }

    /// A key, and a certificate that it has signed itself.
    fn own() -> (String, String) {
        let (key, params) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()));
        (key.serialize_pem(), params.unwrap().self_signed(&key).unwrap().pem())
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused_by_name_and_the_old_ones_stay() {
        let (dir, config) = host();
        let tls = Tls::load(&config).unwrap();
        let before = Arc::as_ptr(&tls.0.material.read().server);
        let other = own().0;
        for (name, text, why) in [
            ("key", other.as_str(), "cannot be used: "),
            ("key", "-----BEGIN PRIVATE KEY-----\n", "holds no PEM PRIVATE KEY"),
            ("cert", "", "holds no PEM CERTIFICATE"),
            ("ca", "-----BEGIN CERTIFICATE-----\n", "holds no PEM CERTIFICATE"),
            (
                "ca",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "cannot be used",
            ),
        ] {
            let path = dir.path().join(name);
            let right = fs::read(&path).unwrap();
            fs::write(&path, text).unwrap();
            let error = tls.reload(&config).unwrap_err().to_string();
            let start = format!("{} (/tls/{name}_file)", path.display());
            assert!(error.starts_with(&start) && error.contains(why), "{error}");
            fs::write(&path, right).unwrap();
        }
        assert_eq!(Arc::as_ptr(&tls.0.material.read().server), before);
        let copy = tls.clone();
        tls.reload(&config).unwrap();
        assert_ne!(Arc::as_ptr(&copy.0.material.read().server), before, "a clone is the same one");
    }

    #[test]
    fn a_key_that_others_could_have_is_refused_with_what_mends_it() {
        let (dir, config) = host();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let with = |mode| {
            fs::set_permissions(at("key"), fs::Permissions::from_mode(mode)).unwrap();
            Tls::load(&config).map(drop).map_err(|error| error.to_string())
        };
        for good in [0o600, 0o400] {
            assert_eq!(with(good), Ok(()));
        }
        for bad in [0o644, 0o640, 0o604, 0o620] {
            let why = with(bad).unwrap_err();
            let key = at("key");
            assert!(why.starts_with(&format!("{key} (/tls/key_file): mode {bad:04o}: ")), "{why}");
            assert!(why.ends_with(&format!(": chmod 600 {key}")), "{why}");
        }
    }

    #[test]
    fn a_certificate_names_its_holder_and_roles() {
        let both = identity(&certificate(&["vsm://broker/one", "vsm://agent/one"])).unwrap();
        assert_eq!((both.name.as_str(), both.roles), ("one", vec![Role::Broker, Role::Agent]));
        let mixed =
            identity(&certificate(&["https://x/y", "vsm://agent/a", "vsm://broker/b"])).unwrap();
        assert_eq!((mixed.name.as_str(), mixed.roles), ("a", vec![Role::Agent]));
        assert_eq!(identity(&certificate(&["vsm://king/x", "spiffe://a/b"])), None);
    }
}
