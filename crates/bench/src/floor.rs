//! The floor under a replicated durable commit: a record goes to another process over mutual TLS, both append it to a
//! file and sync that at the same time, and an answer comes back. Plain threads, nothing else.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use vsm_config::{Config, keys};
use vsm_daemon::clock;

use crate::{RECORD_LEN, load::Speed, millis};

/// What each side is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Configuration with the TLS files
    #[arg(long)]
    config: PathBuf,
    /// Port of the other process on this host
    #[arg(long)]
    port: u16,
    /// A file that is made
    #[arg(long)]
    file: PathBuf,
    /// How long, in milliseconds; without it this is the other process
    #[arg(long)]
    for_ms: Option<u64>,
}

/// The name that the certificates are for.
const HOST: &str = "localhost";
const ACK: [u8; 16] = [b'a'; 16];

struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn load(config: &Path) -> Result<Self> {
        let config = Config::load(config)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(config.get(&keys::tls::CA_FILE))?)?;
        Ok(Self {
            roots: Arc::new(roots),
            chain: vec![CertificateDer::from_pem_file(config.get(&keys::tls::CERT_FILE))?],
            key: PrivateKeyDer::from_pem_file(config.get(&keys::tls::KEY_FILE))?,
        })
    }

    fn client(self) -> Result<ClientConnection> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots)
            .with_client_auth_cert(self.chain, self.key)?;
        Ok(ClientConnection::new(Arc::new(config), HOST.try_into()?)?)
    }

    fn server(self) -> Result<ServerConnection> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots, Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(self.chain, self.key)?;
        Ok(ServerConnection::new(Arc::new(config))?)
    }
}

fn append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| path.display().to_string())
}

/// The other process, for one client.
pub(crate) fn peer(options: &Options) -> Result<()> {
    let (identity, mut file) = (Identity::load(&options.config)?, append(&options.file)?);
    let listener = TcpListener::bind((HOST, options.port))
        .with_context(|| format!("port {}", options.port))?;
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(identity.server()?, socket);
    let mut record = [0; RECORD_LEN];
    loop {
        match stream.read_exact(&mut record) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        file.write_all(&record)?;
        file.sync_data()?;
        stream.write_all(&ACK)?;
    }
}

/// Measures.
pub(crate) fn run(options: &Options, time: Duration) -> Result<Speed> {
    let (identity, mut file) = (Identity::load(&options.config)?, append(&options.file)?);
    let socket = TcpStream::connect((HOST, options.port))
        .with_context(|| format!("port {}", options.port))?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(identity.client()?, socket);
    let record = [b'x'; RECORD_LEN];
    let begin = clock::now() + time / 4;
    let mut times = Vec::new();
    loop {
        let from = clock::now();
        stream.write_all(&record)?;
        file.write_all(&record)?;
        file.sync_data()?;
        stream.read_exact(&mut [0; ACK.len()])?;
        let to = clock::now();
        if to >= begin + time {
            return Speed::of(times, time);
        }
        if to >= begin {
            times.push(millis(from, to) * 1000.0);
        }
    }
}

/// Either side.
pub(crate) fn either(options: &Options) -> Result<()> {
    match options.for_ms {
        Some(time) => crate::print(&run(options, Duration::from_millis(time))?),
        None => peer(options),
    }
}
