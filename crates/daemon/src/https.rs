//! Asking a web server by HTTPS, as a client: a provider of identities for its keys and its tokens. What it sends is
//! bounded in size and time, and nobody is led elsewhere by it: a redirect is an answer like others.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an answer may take, from the look-up of the name to its last byte.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Longest answer: a set of keys has a few KiB.
const BODY_MAX: usize = 256 << 10;
const PORT: u16 = 443;

/// A client that trusts some authorities.
#[derive(Clone)]
pub struct Https(TlsConnector);

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Https")
    }
}

/// Why there is no such client, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The certificates of the authorities cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are none.
    #[error("{path} has no certificate of an authority in PEM", path = .0.display())]
    NoAuthority(PathBuf),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// Not an address of this kind.
    #[error("{0:?} is no address that begins with https:// and a host")]
    Address(String),
    /// The host cannot be reached, is not the right one, or breaks off.
    #[error("{host}: {why}")]
    Broken {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// It takes too long.
    #[error("{0} does not answer within {seconds} s", seconds = ANSWER_MAX.as_secs())]
    Silent(String),
}

/// What a server has answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All of the body.
    pub body: Bytes,
}

/// What is sent to it.
#[derive(Debug, Default)]
pub struct Form {
    /// The fields, as the body of a form has them.
    pub body: String,
    /// `Authorization`, as it is to be sent; none = without.
    pub authorization: Option<HeaderValue>,
}

impl Https {
    /// One that trusts the authorities of this file.
    ///
    /// # Errors
    /// If there are none.
    pub fn new(authorities: &Path) -> Result<Self, HttpsError> {
        let unreadable = |source| HttpsError::Authorities { path: authorities.to_owned(), source };
        let pem = fs::read(authorities).map_err(unreadable)?;
        let mut roots = RootCertStore::empty();
        let all = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        if roots.add_parsable_certificates(all).0 == 0 {
            return Err(HttpsError::NoAuthority(authorities.to_owned()));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config).into()))
    }

    /// Gets what is at this address.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&self, address: &str) -> Result<Answer, HttpsError> {
        self.ask(Method::GET, address, Form::default()).await
    }

    /// Sends a form there.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(&self, address: &str, form: Form) -> Result<Answer, HttpsError> {
        self.ask(Method::POST, address, form).await
    }

    async fn ask(&self, method: Method, address: &str, form: Form) -> Result<Answer, HttpsError> {
        let no_address = || HttpsError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| no_address())?;
        let host =
            uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(no_address)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let asked = self.answer(request(method, &uri, form), &host, uri.port_u16());
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let why = innermost(&*error).to_string();
                Err(HttpsError::Broken { host, why })
            }
            Err(_) => Err(HttpsError::Silent(host)),
        }
    }

    async fn answer(
        &self,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
        host: &str,
        port: Option<u16>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let name = ServerName::try_from(host.to_owned())?;
        let tcp = TcpStream::connect((host, port.unwrap_or(PORT))).await?;
        let stream = self.0.connect(name, tcp).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, and with the answer, which says itself how it broke.
        tokio::spawn(async move { drop(connection.await) });
        let (head, body) = sender.send_request(request?).await?.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), body })
    }
}

/// What says most.
fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

fn request(
    method: Method,
    uri: &Uri,
    form: Form,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let Form { body, authorization } = form;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::builder()
        .uri(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "vsm");
    if method == Method::POST {
        let form: (HeaderName, _) = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        request = request.header(form.0, form.1);
    }
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    request.method(method).body(Full::new(body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_https_is_asked_and_only_with_an_authority() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        assert!(matches!(Https::new(&file), Err(HttpsError::Authorities { .. })));
        fs::write(&file, "nothing").unwrap();
        assert!(matches!(Https::new(&file), Err(HttpsError::NoAuthority(_))));
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&file, own.cert.pem()).unwrap();
        let https = Https::new(&file).unwrap();
        for bad in ["", "http://localhost/", "localhost", "https:///x", "file:///etc/passwd"] {
            assert!(matches!(https.get(bad).await, Err(HttpsError::Address(_))), "{bad}");
        }
        let nobody = https.get("https://127.0.0.1:1/").await;
        assert!(matches!(nobody, Err(HttpsError::Broken { .. })), "{nobody:?}");
    }
}
