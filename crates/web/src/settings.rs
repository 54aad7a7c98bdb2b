//! What the configuration means to `vsm-web`: `/vsmweb`.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use vsm_config::{Config, Profile, keys};
use vsm_daemon::https::{Https, HttpsError};
use zeroize::Zeroizing;

/// Where this host's sshd has the public halves of its keys.
const HOST_KEYS: &str = "/etc/ssh";

/// Read once, and again at each reload.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TCP port for browsers.
    pub port: u16,
    /// TLS towards browsers, with this host's certificate.
    pub(crate) tls: Arc<ServerConfig>,
    /// The broker's sshd: a name or an address.
    pub(crate) ssh_host: String,
    /// Its port for whoever logs in.
    pub(crate) ssh_port: u16,
    /// Its port for keys that the broker has accepted.
    pub(crate) ssh_key_port: u16,
    /// Its keys, each as kind and base64 text.
    pub(crate) ssh_keys: Vec<String>,
    /// How long a login lasts at most.
    pub(crate) login_lifetime: Duration,
    /// What the site calls its desktops.
    pub(crate) title: String,
    /// A text for the login page; empty = none.
    pub(crate) welcome: String,
    /// Kinds of desktops to choose from.
    pub(crate) profiles: Vec<Profile>,
    /// The OpenID provider by which users may log in; none = there is none.
    pub(crate) openid: Option<OpenIdSettings>,
    /// Where the viewer's files are.
    pub(crate) assets: PathBuf,
}

/// What the configuration says of the provider.
#[derive(Clone)]
pub(crate) struct OpenIdSettings {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    /// By which it is proved that this is the client; none = a public one.
    pub(crate) secret: Option<Zeroizing<String>>,
    /// Trusts the authorities by which the provider is known.
    pub(crate) https: Https,
    /// Text of the button; empty = in the user's language.
    pub(crate) button: String,
    /// What the provider is asked for.
    pub(crate) scopes: String,
    /// The broker's socket for this.
    pub(crate) socket: PathBuf,
}

impl fmt::Debug for OpenIdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenIdSettings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// What of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    /// A file cannot be read.
    #[error("{parameter}: {path}: {source}", path = path.display())]
    Unreadable {
        /// The parameter.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has nothing of what it is for.
    #[error("{parameter}: {path} has no {what}", path = path.display())]
    Empty {
        /// The parameter.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("/vsmweb/certificate and /vsmweb/key: {0}")]
    Tls(#[from] rustls::Error),
    /// The OpenID provider's authorities cannot be used.
    #[error("/vsmserver/openid/ca_file: {0}")]
    Https(#[from] HttpsError),
    /// The viewer's files are not there.
    #[error("{path} is not there: the viewer's files belong beside it (vsm-web --assets)", path = .0.display())]
    NoViewer(PathBuf),
}

impl Settings {
    /// From the configuration, and the files that it names.
    ///
    /// # Errors
    /// If a file cannot be read or used.
    pub fn load(config: &Config, assets: &Path) -> Result<Self, BadSetting> {
        use keys::vsmweb as k;
        let viewer = assets.join("novnc/core/rfb.js");
        if !viewer.is_file() {
            return Err(BadSetting::NoViewer(viewer));
        }
        Ok(Self {
            port: config.get(&k::LISTEN_PORT),
            tls: tls(config)?,
            ssh_host: config.get(&k::SSH_HOST),
            ssh_port: config.get(&k::SSH_PORT),
            ssh_key_port: config.get(&k::SSH_KEY_PORT),
            ssh_keys: host_keys(&config.get(&k::KNOWN_HOSTS))?,
            login_lifetime: config.get(&k::LOGIN_LIFETIME),
            title: config.get(&k::TITLE),
            welcome: config.get(&k::WELCOME),
            profiles: config.profiles(),
            openid: openid(config)?,
            assets: assets.to_owned(),
        })
    }
}

/// HTTP/1.1 alone: a WebSocket has a connection of its own there.
fn tls(config: &Config) -> Result<Arc<ServerConfig>, BadSetting> {
    let (certificate, key) = (&keys::vsmweb::CERTIFICATE, &keys::vsmweb::KEY);
    let (chain_path, key_path) = (config.get(certificate), config.get(key));
    let read = |parameter, path: &Path| {
        let read = fs::read(path);
        read.map_err(|source| BadSetting::Unreadable { parameter, path: path.to_owned(), source })
    };
    let empty =
        |parameter, path: &Path, what| BadSetting::Empty { parameter, path: path.to_owned(), what };
    let chain = read(certificate.path(), &chain_path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(empty(certificate.path(), &chain_path, "certificate in PEM"));
    }
    let own = Zeroizing::new(read(key.path(), &key_path)?);
    let own = PrivateKeyDer::from_pem_slice(&own)
        .map_err(|_| empty(key.path(), &key_path, "private key in PEM"))?;
    let versions: &[_] =
        if config.get(&keys::vsmweb::TLS_1_2) { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(chain, own)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// The OpenID provider, if there is one.
fn openid(config: &Config) -> Result<Option<OpenIdSettings>, BadSetting> {
    use keys::{openid as k, web_openid as w};
    let issuer = config.get(&k::ISSUER);
    if issuer.is_empty() {
        return Ok(None);
    }
    let parameter = w::CLIENT_SECRET_FILE.path();
    let path = config.get(&w::CLIENT_SECRET_FILE);
    let secret = if path.as_os_str().is_empty() {
        None
    } else {
        let read = fs::read_to_string(&path);
        let read =
            read.map_err(|source| BadSetting::Unreadable { parameter, path: path.clone(), source });
        let text = Zeroizing::new(read?);
        let secret = Zeroizing::new(text.trim().to_owned());
        if secret.is_empty() {
            return Err(BadSetting::Empty { parameter, path, what: "secret" });
        }
        Some(secret)
    };
    let scopes = config.get(&w::SCOPES);
    let others = scopes.iter().filter(|scope| *scope != "openid").map(String::as_str);
    let scopes: Vec<&str> = std::iter::once("openid").chain(others).collect();
    Ok(Some(OpenIdSettings {
        issuer,
        client_id: config.get(&k::CLIENT_ID),
        secret,
        https: Https::new(&config.get(&k::CA_FILE))?,
        button: config.get(&w::BUTTON),
        scopes: scopes.join(" "),
        socket: config.get(&keys::vsmserver::WEB_SOCKET),
    }))
}

/// The keys of the broker's sshd: from a file like ssh's `known_hosts`, whose names do not matter, or of this host.
fn host_keys(known_hosts: &Path) -> Result<Vec<String>, BadSetting> {
    let parameter = keys::vsmweb::KNOWN_HOSTS.path();
    let is_given = !known_hosts.as_os_str().is_empty();
    let path = if is_given { known_hosts.to_owned() } else { HOST_KEYS.into() };
    let unreadable = |source| BadSetting::Unreadable { parameter, path: path.clone(), source };
    let mut keys = Vec::new();
    if is_given {
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        keys.extend(text.lines().filter_map(|line| key_of(line, 1)));
    } else {
        for entry in fs::read_dir(&path).map_err(unreadable)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("ssh_host_") && name.ends_with("_key.pub") {
                let text = fs::read_to_string(entry.path()).map_err(unreadable)?;
                keys.extend(text.lines().filter_map(|line| key_of(line, 0)));
            }
        }
    }
    if keys.is_empty() {
        return Err(BadSetting::Empty { parameter, path, what: "host key" });
    }
    Ok(keys)
}

/// Kind and base64 text of a key, after so many words.
fn key_of(line: &str, skip: usize) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', '@']) {
        return None;
    }
    let mut words = line.split_whitespace().skip(skip);
    Some(format!("{} {}", words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_either_kind_of_file() {
        let key = Some("ssh-ed25519 AAAA".to_owned());
        assert_eq!(key_of("ssh-ed25519 AAAA root@host\n", 0), key);
        assert_eq!(key_of("tlha,10.0.0.4 ssh-ed25519 AAAA", 1), key);
        for none in ["", "# comment", "@revoked * ssh-ed25519 AAAA", "tlha ssh-ed25519"] {
            assert_eq!(key_of(none, 1), None, "{none:?}");
        }
    }

    #[test]
    fn a_file_without_keys_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        let error = host_keys(&file).unwrap_err();
        assert!(matches!(error, BadSetting::Unreadable { .. }), "{error}");
        fs::write(&file, "# nothing\n").unwrap();
        assert!(matches!(host_keys(&file), Err(BadSetting::Empty { .. })));
    }
}
