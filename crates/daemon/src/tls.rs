//! Identities: the cluster's certificate authority is the cluster, and what a certificate says in its URI names
//! (`vsm://broker/tlha-primary`) is who the other side is. There is no plain-text mode.

use std::{
    cell::RefCell,
    fmt, fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use tonic::{
    Extensions, Status,
    transport::{
        Certificate, CertificateDer, ClientTlsConfig, Identity, ServerTlsConfig,
        server::{TcpConnectInfo, TlsConnectInfo},
    },
};
use vsm_config::{Config, keys};

/// A client that has not shown who it is by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a certificate allows its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A VSM server: may ask agents and peers for privileged things.
    Broker,
    /// A VSM agent.
    Agent,
    /// An administrator away from the servers.
    Admin,
}

impl Role {
    /// The word in the certificate's URI name and on command lines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no [`Role`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no role; there are broker, agent and admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Broker, Self::Agent, Self::Admin]
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// Who is at the other end of a connection, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, as given when the certificate was issued.
    pub name: String,
    /// What it may be.
    pub roles: Vec<Role>,
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

/// A certificate, key or authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path} ({parameter}): {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner could read a private key.
    #[error("{path} ({parameter}): {open}")]
    Open {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// Its mode, and what mends it.
        open: OpenKey,
    },
    /// A file is not what it should be.
    #[error("{path} ({parameter}) holds no PEM {what}")]
    NotPem {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// What was expected.
        what: &'static str,
    },
}

/// A private key that is none, as others than its owner can read or change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "mode {mode:04o}: others than its owner could have this private key; it is not used before: chmod 600 {path}"
)]
pub struct OpenKey {
    path: PathBuf,
    mode: u32,
}

impl OpenKey {
    /// The file of a private key is its owner's alone, as ssh wants it too: whoever else has it can be this host.
    ///
    /// # Errors
    /// If the group or others may do anything with it. One that cannot be looked at is for the caller to fail on.
    pub fn check(path: &Path) -> Result<(), Self> {
        let mode = fs::metadata(path).map_or(0, |file| file.permissions().mode() & 0o7777);
        if mode & 0o077 == 0 { Ok(()) } else { Err(Self { path: path.to_owned(), mode }) }
    }
}

/// This host's identity and the authority that it trusts.
#[derive(Clone)]
pub struct Tls {
    authority: Certificate,
    identity: Identity,
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
    /// If one cannot be read or is no PEM file, or others could read the key; the error names file and parameter.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let ca = read(&config.get(&keys::tls::CA_FILE), "/tls/ca_file", "CERTIFICATE")?;
        let cert = read(&config.get(&keys::tls::CERT_FILE), "/tls/cert_file", "CERTIFICATE")?;
        let (path, parameter) = (config.get(&keys::tls::KEY_FILE), "/tls/key_file");
        let key = read(&path, parameter, "PRIVATE KEY")?;
        OpenKey::check(&path).map_err(|open| TlsError::Open { path, parameter, open })?;
        Ok(Self { authority: Certificate::from_pem(ca), identity: Identity::from_pem(cert, key) })
    }

    /// For a server: every client must show a certificate of the same authority.
    #[must_use]
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.authority.clone())
            .timeout(HANDSHAKE_TIMEOUT)
    }

    /// For a client: the server must show a certificate of the same authority that is valid for `host`.
    #[must_use]
    pub fn client(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.identity.clone())
            .ca_certificate(self.authority.clone())
            .domain_name(host)
    }
}

fn read(path: &Path, parameter: &'static str, what: &'static str) -> Result<Vec<u8>, TlsError> {
    let data = fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        parameter,
        source,
    })?;
    let text = String::from_utf8_lossy(&data);
    if text.contains("-----BEGIN ") && text.contains(&format!("{what}-----")) {
        Ok(data)
    } else {
        Err(TlsError::NotPem { path: path.to_owned(), parameter, what })
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

/// Like [`peer`], and the certificate must have the role.
///
/// # Errors
/// `UNAUTHENTICATED` as [`peer`]; `PERMISSION_DENIED` where the role is another.
pub fn peer_with_role(extensions: &Extensions, role: Role) -> Result<Peer, Status> {
    let peer = peer(extensions)?;
    if peer.is(role) {
        return Ok(peer);
    }
    let article = if role == Role::Broker { "a" } else { "an" };
    Err(Status::permission_denied(format!(
        "the certificate of {} is not that of {article} {role}",
        peer.name
    )))
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

fn identity(certificate: &CertificateDer<'_>) -> Option<Peer> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut peer = None::<Peer>;
    for uri in certificate.valid_uri_names() {
        let Some((role, name)) = uri.strip_prefix("vsm://").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let Ok(role) = role.parse() else { continue };
        let peer = peer.get_or_insert_with(|| Peer { name: name.to_owned(), roles: Vec::new() });
        // One certificate, one name: a second name would make it two hosts.
        if peer.name == name {
            peer.roles.push(role);
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_node_is_spoken_for_by_its_own_certificate() {
        let peer = Peer { name: "one.lab".into(), roles: vec![Role::Broker] };
        let from = Some("10.0.0.1".parse().unwrap());
        for own in ["one.lab", "ONE", "one.lab.example.org", "10.0.0.1"] {
            assert!(peer.speaks_for(own, from), "{own}");
        }
        for other in ["two", "one.la", "on", "xone.lab", "one.lax", "", "10.0.0.2"] {
            assert!(!peer.speaks_for(other, from), "{other}");
        }
    }

    #[test]
    fn a_key_that_others_could_have_is_refused_with_what_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut yaml = "tls:\n".to_owned();
        for (name, what) in [("ca", "CERTIFICATE"), ("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")]
        {
            fs::write(at(name), format!("-----BEGIN {what}-----\n")).unwrap();
            yaml.push_str(&format!("  {name}_file: {}\n", at(name)));
        }
        fs::write(at("a.yaml"), yaml).unwrap();
        let config = Config::load(dir.path()).unwrap();
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
        assert_eq!(both, Peer { name: "one".into(), roles: vec![Role::Broker, Role::Agent] });
        let mixed =
            identity(&certificate(&["https://x/y", "vsm://agent/a", "vsm://broker/b"])).unwrap();
        assert_eq!(mixed, Peer { name: "a".into(), roles: vec![Role::Agent] });
        assert_eq!(identity(&certificate(&["vsm://king/x", "spiffe://a/b"])), None);
    }
}
