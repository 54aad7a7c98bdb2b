//! How every gRPC server and channel of this project is set up: bounds, keep-alive, health and reflection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::stream;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    ConnectError, Status,
    service::{Routes, RoutesBuilder},
    transport::{Channel, Endpoint, Error, Server, Uri},
};
use tonic_health::server::HealthReporter;
use tower::Service as _;
use vsm_core::Hash;

use crate::{
    access::{self, Door, Guard},
    authorities::Certificate,
    clock, guest,
    share::{FIRST_WORD_MAX, FIRST_WORD_OF_USER_MAX, Held, Share, Shares, Who},
    socket,
    tls::{self, Role, Tls},
    trusted::Trusted,
};

/// Largest message in either direction. The inventory of an agent with 20,000 sessions fits.
pub const MESSAGE_MAX: usize = 16 << 20;
/// Largest message between a broker and a witness: what changed while the other broker is away, one row per key. Some
/// 200,000 sessions fit.
pub const WINDOW_MAX: usize = 64 << 20;
/// A held connection to an address that moved notices nothing by itself: ping it.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// The same at the server's end. Longer: a client that is gone costs it no more than room, and each ping wakes both
/// ends of every link.
const PING_CLIENTS_EVERY: Duration = Duration::from_secs(15);
/// A ping that is not answered in this time ends the connection.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A host that does not answer in this time is not there.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Dialling takes no longer than this in all, the look-up of the name and TLS included.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(6);
/// A client that has not shown who it is by then is dropped.
const HANDSHAKE_OF_CLIENT: Duration = Duration::from_secs(10);
/// So many may be connected without a certificate while a host is invited, and so many from one address.
const GUESTS_MAX: usize = 64;
const GUESTS_OF_ADDRESS_MAX: usize = 8;
/// So long a host may stay that has none, and asks for one.
const GUEST_MAX: Duration = Duration::from_secs(30);
/// Connections that have shown a certificate and wait to be served.
const HANDSHAKES_AHEAD: usize = 64;
/// How long to wait when no connection can be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// That it cannot is told so often at most.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Metadata key of a refusal's stable reason, for programs.
pub const REASON_KEY: &str = "vsm-reason";
/// The reason of an agent that does not let a broker in: its `/vsmagent/allowed_clients` lacks it.
pub const BROKER_NOT_ALLOWED: &str = "BROKER_NOT_ALLOWED";
/// Metadata key of an answer that comes from a copy which nobody keeps up to date: why, in a line.
pub const STALE_KEY: &str = "vsm-stale";
/// Calls under way on one connection of another host; more wait at the caller.
const STREAMS_MAX: u32 = 1024;
/// The same of a user of this host: a client makes one or two. What each costs in memory is what this and the next
/// bound.
const STREAMS_LOCAL_MAX: u32 = 32;
/// Connections of one user of this host to one socket.
const OF_USER_MAX: usize = 64;
/// The same of all users.
const OF_USERS_MAX: usize = 16_384;
/// Connections from one address: a broker has one or two, and agents that come from one address call seldom.
const OF_ADDRESS_MAX: usize = 256;
/// The same of all addresses.
const OF_ADDRESSES_MAX: usize = 16_384;
/// How long a server that is told to stop waits for calls under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

fn server(streams: u32) -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(PING_CLIENTS_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(streams)
}

/// Adds the gRPC health service and reflection of `descriptors` to a server's services.
///
/// # Errors
/// If the descriptors cannot be read.
pub async fn standard_services(
    routes: &mut RoutesBuilder,
    descriptors: &'static [u8],
) -> Result<HealthReporter, tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    routes.add_service(health).add_service(reflection);
    Ok(reporter)
}

/// Listens on a port of every address: IPv6 and IPv4 alike, IPv4 alone on a host without IPv6.
///
/// # Errors
/// If the port is taken or the system refuses.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

/// Takes such a port, as long as the process may, for a listener later: until then nobody can connect.
///
/// # Errors
/// As [`listen`].
pub fn take_port(port: u16) -> io::Result<TcpSocket> {
    let take = |socket: TcpSocket, ip: IpAddr| {
        socket.set_reuseaddr(true)?;
        socket.bind((ip, port).into())?;
        Ok(socket)
    };
    let v6 = TcpSocket::new_v6().and_then(|socket| take(socket, Ipv6Addr::UNSPECIFIED.into()));
    match v6 {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            take(TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into())
        }
        other => other,
    }
}

/// Serves those over mutual TLS whom `guard` lets in, until `stop`, then drains, bounded in time.
///
/// # Errors
/// If TLS cannot be set up, or the listener fails.
pub async fn serve_tls(
    listener: TcpListener,
    tls: &Tls,
    routes: Routes,
    guard: Arc<Guard>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let shares = Shares::new(format!("port {port}"), OF_ADDRESS_MAX, OF_ADDRESSES_MAX);
    let (incoming, accepting) = secured(listener, tls.clone(), shares, stop.clone());
    let routes = access::guarded(routes, Door::Port, guard);
    let router = server(STREAMS_MAX).add_routes(routes);
    let served = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let served = bounded(served, stop).await;
    // It ends with the connections that it hands out, or with `stop`: then the port is free.
    let _ = accepting.await;
    served
}

/// The connections of a listener that have shown a certificate, until `stop`; and the task that has the listener.
fn secured(
    listener: TcpListener,
    tls: Tls,
    shares: Arc<Shares>,
    stop: CancellationToken,
) -> (Secured, JoinHandle<()>) {
    let (ready, secured) = mpsc::channel(HANDSHAKES_AHEAD);
    let guests = Shares::new("guests", GUESTS_OF_ADDRESS_MAX, GUESTS_MAX);
    let accept = async move {
        let mut told = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                // Of one that is gone again, say; of a lack of descriptors it is not over at once.
                Err(error) => {
                    if told.is_none_or(|at: Instant| clock::now() >= at + ACCEPT_TOLD_EVERY) {
                        tracing::warn!(%error, "cannot take a connection");
                        told = Some(clock::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Only latency is at stake.
            let _ = stream.set_nodelay(true);
            let who = Who::of_tcp(&stream);
            let Some(share) = shares.take_unproven(who) else { continue };
            let held = Held::new(stream, share, FIRST_WORD_MAX);
            let guests = Arc::clone(&guests);
            let as_guest = move || guests.take(who);
            tokio::spawn(handshake(tls.clone(), held, as_guest, ready.clone()));
        }
    };
    let accepting = tokio::spawn(accept);
    (ReceiverStream::new(secured), accepting)
}

/// Connections whose handshake is done.
type Secured = ReceiverStream<io::Result<TlsStream<Trusted<Held<TcpStream>>>>>;

/// Has a client show its certificate, bounded in time.
async fn handshake(
    tls: Tls,
    held: Held<TcpStream>,
    as_guest: impl FnOnce() -> Option<Share>,
    ready: mpsc::Sender<io::Result<TlsStream<Trusted<Held<TcpStream>>>>>,
) {
    let (acceptor, place) = tls.acceptor();
    let shown = acceptor.accept(Trusted::new(held, place));
    match tokio::time::timeout(HANDSHAKE_OF_CLIENT, shown).await {
        Ok(Ok(stream)) => {
            let (trusted, connection) = stream.get_ref();
            tls.note(&trusted.place, connection.peer_certificates());
            if connection.peer_certificates().is_none() {
                let Some(share) = as_guest() else { return };
                trusted.place.is_guest(share);
                let cut = Arc::clone(&trusted.place.cut);
                tokio::spawn(async move {
                    tokio::time::sleep(GUEST_MAX).await;
                    cut.cut();
                });
            }
            // A server that is gone needs none.
            drop(ready.send(Ok(stream)).await);
        }
        Ok(Err(error)) => tracing::debug!(%error, "a client has shown no good certificate"),
        Err(_) => tracing::debug!("a client has shown no certificate in time"),
    }
}

/// Serves those on a unix socket whom `guard` lets in by this door, until `stop`, then drains, bounded in time.
///
/// # Errors
/// If the listener fails.
pub async fn serve_unix(
    kept: socket::Plain,
    routes: Routes,
    door: Door,
    guard: Arc<Guard>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let router = server(STREAMS_LOCAL_MAX).add_routes(access::guarded(routes, door, guard));
    let shares = Shares::new(kept.path().display().to_string(), OF_USER_MAX, OF_USERS_MAX);
    let incoming = stream::unfold((kept, shares), async |(mut kept, shares)| {
        loop {
            let held = match kept.accept().await {
                Ok(stream) => {
                    let Some(share) = shares.take(Who::of_unix(&stream)) else { continue };
                    Ok(Held::new(stream, share, FIRST_WORD_OF_USER_MAX))
                }
                Err(error) => Err(error),
            };
            return Some((held, (kept, shares)));
        }
    });
    bounded(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()), stop)
        .await
}

async fn bounded(
    serve: impl Future<Output = Result<(), Error>>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        done = serve => done,
        () = deadline => {
            tracing::warn!("calls were still under way when the time to drain was over");
            Ok(())
        }
    }
}

/// A refusal that bears a stable reason for programs.
#[must_use]
pub fn with_reason(mut status: Status, reason: &'static str) -> Status {
    status.metadata_mut().insert(REASON_KEY, tonic::metadata::MetadataValue::from_static(reason));
    status
}

/// The stable reason that a refusal bears.
#[must_use]
pub fn reason(status: &Status) -> Option<&str> {
    status.metadata().get(REASON_KEY)?.to_str().ok()
}

/// Whether a call never left this host, as no connection could be made; false where that is not known.
#[must_use]
pub fn is_unsent(status: &Status) -> bool {
    let first: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source()).any(|error| error.is::<ConnectError>())
}

/// A channel to `host`:`port` over mutual TLS, dialled when first used and again after it broke. The certificate must
/// be for `host` and have the role: an issuer can sign for agents of any name, and for nobody else.
///
/// # Errors
/// If the host is not a name or an address, or TLS cannot be set up.
pub fn channel_to(role: Role, host: &str, port: u16, tls: &Tls) -> Result<Channel, Error> {
    dialled(Some(role), host, port, tls)
}

/// The same to a host of any role, for programs that stand in for a daemon.
///
/// # Errors
/// As [`channel_to`].
pub fn channel(host: &str, port: u16, tls: &Tls) -> Result<Channel, Error> {
    dialled(None, host, port, tls)
}

fn dialled(role: Option<Role>, host: &str, port: u16, tls: &Tls) -> Result<Channel, Error> {
    // TLS is the connector's, which asks for the certificates in force at each connection.
    let endpoint = endpoint(host, port)?;
    let (tls, name) = (tls.clone(), host.to_owned());
    let connector = tower::service_fn(move |uri: Uri| {
        let (tls, name) = (tls.clone(), name.clone());
        async move { trusted(role, name, uri, &tls).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A connection to a server that has shown a certificate that is trusted, and is of this role.
async fn trusted(
    role: Option<Role>,
    name: String,
    uri: Uri,
    tls: &Tls,
) -> io::Result<client::TlsStream<Trusted<TcpStream>>> {
    let (name, tcp) = dial(name, uri).await?;
    let (connector, place) = tls.connector();
    let stream = connector.connect(name, Trusted::new(tcp, place)).await?;
    let (trusted, connection) = stream.get_ref();
    let certificates = connection.peer_certificates();
    tls.note(&trusted.place, certificates);
    match role {
        Some(role) if !tls::has_role(certificates, role) => {
            let why = format!("its certificate is not that of a host with the role {role}");
            Err(io::Error::other(why))
        }
        _ => Ok(stream),
    }
}

/// What a server shows to whoever connects now, by a connection of its own: its certificate, those by which it is
/// trusted, and the authorities that it trusts.
///
/// # Errors
/// If it cannot be reached in time, or its certificate is not trusted or not of the role.
pub async fn shown_by(
    role: Role,
    host: &str,
    port: u16,
    tls: &Tls,
) -> io::Result<Vec<Certificate>> {
    let uri = endpoint(host, port).map_err(io::Error::other)?.uri().clone();
    let connected = trusted(Some(role), host.to_owned(), uri, tls);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, connected).await??;
    let all = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(all.iter().filter_map(Certificate::of).collect())
}

/// The same for a host that has no certificate yet, and knows the authority by the hash of its public key.
///
/// # Errors
/// If the host is not a name or an address, or TLS cannot be set up.
pub fn guest_channel(host: &str, port: u16, authority: Hash) -> Result<Channel, GuestError> {
    let tls = TlsConnector::from(Arc::new(guest::config(authority)?));
    let name = host.to_owned();
    let connector = tower::service_fn(move |uri: Uri| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let (name, tcp) = dial(name, uri).await?;
            tls.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Ok(endpoint(host, port)?.connect_with_connector_lazy(connector))
}

/// Why a host without a certificate cannot call.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The broker's name.
    #[error(transparent)]
    Name(#[from] Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

fn endpoint(host: &str, port: u16) -> Result<Endpoint, Error> {
    let authority = match host.parse() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    Ok(Endpoint::from_shared(format!("http://{authority}"))?
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A connection to where a channel leads, and the name that its server must have.
async fn dial(name: String, uri: Uri) -> io::Result<(ServerName<'static>, TcpStream)> {
    // With a connector of its own the time to dial also bounds the look-up of the name and the TLS handshake. A host
    // that dies in the middle of one would otherwise be waited for until the kernel gives up, a quarter of an hour.
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(DIAL_TIMEOUT));
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    Ok((name, tcp.call(uri).await.map_err(io::Error::other)?.into_inner()))
}
