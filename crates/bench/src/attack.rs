//! What somebody attacks with who has got hold of a certificate: certificates that no command makes, and calls of any
//! method of any service by any identity. `cargo xtask attack` says which.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::{MetadataKey, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use vsm_core::{UnixMillis, WebKeyId};
use vsm_daemon::{
    access::METHODS,
    clock, grpc,
    pki::{self, Signer, Wanted},
    socket,
    tls::{Role, Tls},
};

/// How long one call may take, first answer of a stream included.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Which certificate to make.
#[derive(Debug, Args)]
pub(crate) struct ForgeOptions {
    /// Name in it
    name: String,
    /// Role in it; may be repeated, or left out
    #[arg(long = "role")]
    roles: Vec<Role>,
    /// Certificate that signs
    #[arg(long)]
    signer: PathBuf,
    /// Its key
    #[arg(long)]
    signer_key: PathBuf,
    /// Authority that the holder trusts
    #[arg(long)]
    trust: PathBuf,
    /// When it begins, in seconds from now
    #[arg(long, allow_negative_numbers = true, default_value_t = 0)]
    begins: i64,
    /// So many seconds it counts
    #[arg(long, default_value_t = 86_400)]
    life: u64,
    /// Folder for ca.pem, host.pem and host.key
    #[arg(long)]
    out: PathBuf,
}

/// Makes an identity; what signs goes into its chain.
pub(crate) fn forge(options: &ForgeOptions) -> Result<()> {
    let signer = Signer::load(&options.signer, &options.signer_key)?;
    let begins = clock::unix_millis().0.saturating_add_signed(options.begins.saturating_mul(1000));
    let (certificate, key) = signer.make(&Wanted {
        name: options.name.clone(),
        roles: options.roles.clone(),
        addresses: vec!["localhost".to_owned()],
        since: Some(UnixMillis(begins / 1000 * 1000)),
        life: Duration::from_secs(options.life),
    })?;
    fs::create_dir_all(&options.out)?;
    // Whoever uses it would not, if its signer were not among those whom it trusts.
    let trusted = fs::read_to_string(&options.trust)?;
    fs::write(options.out.join("ca.pem"), format!("{trusted}{}", signer.pem()))?;
    fs::write(options.out.join("host.pem"), format!("{certificate}{}", signer.pem()))?;
    let path = options.out.join("host.key");
    fs::write(&path, key)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// Prints a request for a certificate, as hexadecimal digits.
pub(crate) fn request() -> Result<()> {
    crate::print(&hex(&pki::Request::new()?.request))
}

/// Prints all methods that a daemon serves.
pub(crate) fn methods() -> Result<()> {
    let paths: Vec<_> = METHODS.iter().map(|method| method.path).collect();
    crate::print(&paths)
}

/// One call to make.
#[derive(Debug, Clone, Deserialize)]
struct Call {
    /// Path of a socket, or HOST:PORT.
    to: String,
    /// Folder with ca.pem, host.pem and host.key; without host.pem it comes without a certificate.
    identity: Option<PathBuf>,
    /// At a socket: the web key by which the caller says to have logged in, as `vsm-login` says it.
    #[serde(default)]
    browser: Option<WebKeyId>,
    /// `package.Service/Method`.
    method: String,
    /// The message, as hexadecimal digits.
    body: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// How it was answered.
#[derive(Debug, Serialize)]
struct Answer {
    /// The gRPC code, `Ok`, or `NoAnswer` where there was no connection or no answer in time.
    code: String,
    /// Why.
    said: String,
    /// The first message, as hexadecimal digits.
    body: String,
}

impl Answer {
    fn of(result: Result<Vec<u8>, Status>) -> Self {
        match result {
            Ok(body) => Self { code: "Ok".to_owned(), said: String::new(), body: hex(&body) },
            // It is the client's own: nothing came from the other side.
            Err(status) if is_own(&status) => Self::none(&status),
            Err(status) => Self {
                code: format!("{:?}", status.code()),
                said: status.message().to_owned(),
                body: String::new(),
            },
        }
    }

    fn none(error: &dyn std::error::Error) -> Self {
        let mut said = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            said += &format!(": {next}");
            cause = next.source();
        }
        Self { code: "NoAnswer".to_owned(), said, body: String::new() }
    }
}

fn is_own(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Makes the calls that standard input lists as JSON, and prints the answers in their order.
pub(crate) async fn calls() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let calls: Vec<Call> = serde_json::from_str(&text).context("the list of calls")?;
    let mut channels = HashMap::new();
    let mut answers = Vec::new();
    for call in calls {
        let key = (call.to.clone(), call.identity.clone(), call.browser);
        if !channels.contains_key(&key) {
            let channel = match call.browser {
                Some(id) => by_browser(call.to.clone().into(), id),
                None => channel(&call.to, call.identity.as_deref())?,
            };
            channels.insert(key.clone(), channel);
        }
        let made = tokio::time::timeout(ANSWER_MAX, ask(channels[&key].clone(), &call)).await;
        answers.push(match made {
            Ok(result) => Answer::of(result?),
            Err(late) => Answer::none(&late),
        });
    }
    crate::print(&answers)
}

fn channel(to: &str, identity: Option<&Path>) -> Result<Channel> {
    if to.starts_with('/') {
        return Ok(Endpoint::from_shared(format!("unix://{to}"))?.connect_lazy());
    }
    let (host, port) = to.rsplit_once(':').context("no HOST:PORT")?;
    let port = port.parse().context("a port")?;
    let dir = identity.context("an identity for the network")?;
    let text = |name: &str| fs::read_to_string(dir.join(name)).context(name.to_owned());
    if !dir.join("host.pem").exists() {
        return Ok(grpc::guest_channel(host, port, pki::key_of(&dir.join("ca.pem"))?)?);
    }
    let tls = Tls::of(&text("ca.pem")?, &text("host.pem")?, &text("host.key")?)?;
    Ok(grpc::channel(host, port, &tls)?)
}

/// The socket at `path`, as `vsm-login` opens it for somebody who has logged in by this web key.
fn by_browser(path: PathBuf, id: WebKeyId) -> Channel {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let connect = move || {
        let flags = SocketFlags::CLOEXEC;
        let own = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let name = socket::web_name(None, std::process::id(), id);
        rustix::net::bind(&own, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        rustix::net::connect(&own, &SocketAddrUnix::new(&path)?)?;
        let stream = std::os::unix::net::UnixStream::from(own);
        stream.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::from_std(stream)?))
    };
    let connector = tower::service_fn(move |_: Uri| std::future::ready(connect()));
    Endpoint::from_static("http://vsm.local").connect_with_connector_lazy(connector)
}

/// The outer error is a call that cannot be made at all.
async fn ask(channel: Channel, call: &Call) -> Result<Result<Vec<u8>, Status>> {
    let path: PathAndQuery = format!("/{}", call.method).parse().context("a method")?;
    let mut request = Request::new(tokio_stream::once(bytes(&call.body)?));
    for (key, value) in &call.metadata {
        let key: MetadataKey<_> = key.parse().context("a key of metadata")?;
        let value = MetadataValue::try_from(value.as_bytes()).context("metadata")?;
        request.metadata_mut().insert(key, value);
    }
    let mut client = Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Ok(Err(Status::from_error(error.into())));
    }
    let mut stream = match client.streaming(request, path, Raw).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    Ok(stream.message().await.map(Option::unwrap_or_default))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.map(byte).collect()
}

/// Messages as they are on the wire.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(to, &item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; prost::bytes::Buf::remaining(from)];
        prost::bytes::Buf::copy_to_slice(from, &mut message);
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(bytes(&hex(&[0, 15, 255])).unwrap(), [0, 15, 255]);
        assert!(bytes("0g").is_err());
    }
}
