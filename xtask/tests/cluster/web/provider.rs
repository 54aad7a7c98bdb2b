//! An OpenID provider on a host in miniature, with a login page, real signatures and the cluster's authority behind its
//! certificate. It can be told to lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, setns};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use ring::{digest, hmac};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use xtask::cluster::Cluster;
use xtask::cluster::web::PASSWORD;

const PORT: u16 = 8443;
pub(super) const CLIENT: &str = "vsm";
pub(super) const SECRET: &str = "s3cret:%";
/// How long a request may take to come.
const REQUEST_WAIT: Duration = Duration::from_secs(20);
/// So often it is looked whether it is to end.
const LOOK_EVERY_MS: u16 = 50;

/// What it says in place of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    Nothing,
    Audience,
    Nonce,
    Expired,
    Issuer,
    OtherKey,
    NoSignature,
    /// A signature by a secret that is its public key.
    Secret,
    /// The last token that was no lie, whoever that was for.
    Replay,
}

/// It ends with the value.
pub(super) struct Provider {
    pub(super) issuer: String,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

struct Shared {
    issuer: String,
    keys: Mutex<Keys>,
    lie: Mutex<Lie>,
    codes: Mutex<HashMap<String, Asked>>,
    last: Mutex<Option<String>>,
    stop: AtomicBool,
}

struct Keys {
    signs: RsaKeyPair,
    id: String,
}

/// A login that has been done, for whom the code stands.
#[derive(Clone)]
struct Asked {
    user: String,
    nonce: String,
    challenge: String,
    back: String,
}

/// A request, and the fields of its query or form.
struct Request {
    path: String,
    fields: HashMap<String, String>,
    authorization: Option<String>,
}

impl Provider {
    /// Serves on this host, by its own certificate.
    pub(super) fn up(cluster: &Cluster, host: &str, address: &str) -> Self {
        let pem = |file: &str| {
            cluster.output(host, "root", &["cat", &format!("/etc/vsm/pki/{file}")]).unwrap()
        };
        let chain = pem("host.pem");
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(pem("host.key").as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let issuer = format!("https://{address}:{PORT}");
        let shared = Arc::new(Shared {
            issuer: issuer.clone(),
            keys: Mutex::new(Keys { signs: rsa(), id: "one".to_owned() }),
            lie: Mutex::new(Lie::Nothing),
            codes: Mutex::default(),
            last: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let network = File::open(format!("/proc/{}/ns/net", cluster.init_pid(host).unwrap()));
        let (network, own, tls) = (network.unwrap(), Arc::clone(&shared), Arc::new(tls));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serving = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            ready.send(()).unwrap();
            while !own.stop.load(Ordering::SeqCst) {
                let mut wait = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                poll(&mut wait, LOOK_EVERY_MS).unwrap();
                if let Ok((stream, _)) = listener.accept() {
                    let (own, tls) = (Arc::clone(&own), Arc::clone(&tls));
                    std::thread::spawn(move || serve(&own, &tls, stream));
                }
            }
        });
        is_ready.recv().unwrap();
        Self { issuer, shared, serving: Some(serving) }
    }

    pub(super) fn lies(&self, lie: Lie) {
        *self.shared.lie.lock().unwrap() = lie;
    }

    /// Signs by another key from now on, and publishes that alone.
    pub(super) fn changes_key(&self) {
        *self.shared.keys.lock().unwrap() = Keys { signs: rsa(), id: "two".to_owned() };
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn rsa() -> RsaKeyPair {
    let words = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let made = Command::new("openssl").args(words).output().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&made.stdout).unwrap();
    RsaKeyPair::from_pkcs8(key.secret_der()).unwrap()
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn random() -> String {
    let bytes: [u8; 16] = ring::rand::generate(&SystemRandom::new()).unwrap().expose();
    text(bytes)
}

/// One request on a connection: a browser, or who asks for a token, makes another for the next.
fn serve(shared: &Shared, tls: &Arc<ServerConfig>, stream: TcpStream) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(REQUEST_WAIT)).unwrap();
    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let Some(request) = read(&mut stream) else { return };
    let answer = match request.path.as_str() {
        "/.well-known/openid-configuration" => json_of(&shared.discovery()),
        "/keys" => json_of(&shared.jwks()),
        "/authorize" => page(&request.fields),
        "/login" => shared.log_in(&request.fields),
        "/token" => shared.token(&request),
        _ => answer("404 Not Found", "text/plain", "nothing here"),
    };
    let _ = stream.write_all(answer.as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn read(stream: &mut impl Read) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + 4 + length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let target = head.split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    let fields = [query, &body].into_iter().flat_map(|text| text.split('&')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((decoded(name), decoded(value)))
    });
    let fields = fields.collect();
    Some(Request { path: path.to_owned(), fields, authorization: header("authorization") })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn json_of(value: &Value) -> String {
    answer("200 OK", "application/json", &value.to_string())
}

/// The page on which people log in.
fn page(fields: &HashMap<String, String>) -> String {
    let hidden: String = fields
        .iter()
        .map(|(name, value)| {
            let value = value.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
            format!("<input type=hidden name=\"{name}\" value=\"{value}\">")
        })
        .collect();
    let body = format!(
        "<!DOCTYPE html><html lang=en><title>Provider</title><h1>The provider</h1>\
         <form method=post action=/login>{hidden}<label for=u>Account</label><input id=u name=user>\
         <label for=p>Password</label><input id=p name=password type=password>\
         <button type=submit>Log in</button></form>"
    );
    answer("200 OK", "text/html; charset=utf-8", &body)
}

impl Shared {
    fn discovery(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        json!({
            "issuer": self.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
            "jwks_uri": at("/keys"), "authorization_response_iss_parameter_supported": true,
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        })
    }

    fn jwks(&self) -> Value {
        let keys = self.keys.lock().unwrap();
        let PublicKeyComponents { n, e } =
            PublicKeyComponents::<Vec<u8>>::from(keys.signs.public());
        let own = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": keys.id, "n": text(n), "e": text(e) });
        // What others publish beside it, and what nobody here knows.
        json!({ "keys": [{ "kty": "x", "kid": "one" }, { "kty": "oct", "kid": "one", "k": "AAAA" }, own] })
    }

    /// Sends the browser back with a code.
    fn log_in(&self, fields: &HashMap<String, String>) -> String {
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let (back, state) = (field("redirect_uri"), field("state"));
        assert_eq!(field("client_id"), CLIENT);
        assert_eq!(field("code_challenge_method"), "S256");
        assert!(field("scope").split(' ').any(|scope| scope == "openid"), "{fields:?}");
        let outcome = if field("password") == PASSWORD {
            let code = random();
            let (user, nonce, challenge) = (field("user"), field("nonce"), field("code_challenge"));
            let asked = Asked { user, nonce, challenge, back: back.clone() };
            self.codes.lock().unwrap().insert(code.clone(), asked);
            format!("code={code}")
        } else {
            "error=access_denied".to_owned()
        };
        let issuer = self.issuer.replace(':', "%3A").replace('/', "%2F");
        let location = format!("Location: {back}?{outcome}&state={state}&iss={issuer}\r\n");
        answer("302 Found", "text/plain", "").replacen(
            "Content-Type",
            &(location + "Content-Type"),
            1,
        )
    }

    /// Gives a token for a code, once, to the client that has begun the login.
    fn token(&self, request: &Request) -> String {
        let field = |name: &str| request.fields.get(name).cloned().unwrap_or_default();
        let bad = |error: &str| {
            answer("400 Bad Request", "application/json", &json!({ "error": error }).to_string())
        };
        let proof = BASE64_STANDARD
            .encode(format!("{CLIENT}:{}", SECRET.replace('%', "%25").replace(':', "%3A")));
        if request.authorization != Some(format!("Basic {proof}")) {
            return bad("invalid_client");
        }
        let Some(asked) = self.codes.lock().unwrap().remove(&field("code")) else {
            return bad("invalid_grant");
        };
        let challenge = text(digest::digest(&digest::SHA256, field("code_verifier").as_bytes()));
        if challenge != asked.challenge || field("redirect_uri") != asked.back {
            return bad("invalid_grant");
        }
        let token = self.sign(&asked);
        json_of(&json!({ "access_token": "x", "token_type": "Bearer", "id_token": token }))
    }

    fn sign(&self, asked: &Asked) -> String {
        let lie = *self.lie.lock().unwrap();
        let mut last = self.last.lock().unwrap();
        if lie == Lie::Replay {
            return last.clone().unwrap();
        }
        let now = vsm_daemon::clock::unix_millis().0 / 1000;
        let Asked { user, nonce, .. } = asked;
        let mut claims = json!({
            "iss": self.issuer, "sub": format!("no-{user}"), "aud": CLIENT, "nonce": nonce, "iat": now,
            "exp": now + 300, "preferred_username": user,
        });
        match lie {
            Lie::Audience => claims["aud"] = json!("other"),
            Lie::Nonce => claims["nonce"] = json!("other"),
            Lie::Expired => claims["exp"] = json!(now - 90),
            Lie::Issuer => claims["iss"] = json!("https://evil.example"),
            Lie::Nothing | Lie::OtherKey | Lie::NoSignature | Lie::Secret | Lie::Replay => {}
        }
        let keys = self.keys.lock().unwrap();
        let kind = match lie {
            Lie::NoSignature => "none",
            Lie::Secret => "HS256",
            Lie::Nothing
            | Lie::Audience
            | Lie::Nonce
            | Lie::Expired
            | Lie::Issuer
            | Lie::OtherKey
            | Lie::Replay => "RS256",
        };
        let header = json!({ "alg": kind, "kid": keys.id });
        let body = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let by = |pair: &RsaKeyPair| {
            let mut signature = vec![0; pair.public().modulus_len()];
            let random = SystemRandom::new();
            pair.sign(&RSA_PKCS1_SHA256, &random, body.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match lie {
            Lie::NoSignature => Vec::new(),
            Lie::OtherKey => by(&rsa()),
            Lie::Secret => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, keys.signs.public_key().as_ref());
                hmac::sign(&secret, body.as_bytes()).as_ref().to_vec()
            }
            Lie::Nothing
            | Lie::Audience
            | Lie::Nonce
            | Lie::Expired
            | Lie::Issuer
            | Lie::Replay => by(&keys.signs),
        };
        let token = format!("{body}.{}", text(signature));
        if lie == Lie::Nothing {
            *last = Some(token.clone());
        }
        token
    }
}
