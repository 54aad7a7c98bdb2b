//! Connections of browsers: TLS, their bounds, and what stands before all pages.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected as _;
use tower::ServiceExt as _;
use vsm_config::Config;
use vsm_daemon::{
    notify,
    share::{Held, Shares, Who},
    stop::Stop,
};

use crate::{
    admin,
    app::App,
    pages,
    settings::{BadSetting, Settings},
    words,
};

/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;
/// Connections from one address: a browser has up to six and one for each desktop, and a network behind one address
/// has many.
const OF_ADDRESS_MAX: usize = 512;
/// The same of all.
const OF_ALL_MAX: usize = 16_384;
/// A client says something, and is done with TLS, by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A request's headers come by then; a connection that waits for its next one is closed then too.
const HEADERS_MAX: Duration = Duration::from_secs(20);
const HEADERS_COUNT_MAX: usize = 64;
const HEADERS_SIZE_MAX: usize = 32 << 10;
/// Longest request: PAM may ask others, and they a person.
const REQUEST_MAX: Duration = Duration::from_secs(90);
/// Longest time in which a file comes from a browser.
const FILE_MAX: Duration = Duration::from_secs(24 * 3600);
/// What is sent and not acknowledged for so long went to somebody who is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// How long to wait when no connection can be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a process brings along that has given up what it took the port with.
#[derive(Debug)]
pub struct Start {
    /// Directory of the configuration files.
    pub dir: PathBuf,
    /// Directory of the viewer's files.
    pub assets: PathBuf,
    /// What the configuration says.
    pub settings: Settings,
    /// Its port, on which nobody can connect yet.
    pub port: TcpSocket,
}

/// Serves browsers until `stop`. Those that are connected then come back by themselves to whoever serves.
///
/// # Errors
/// If it cannot listen.
pub async fn serve(Start { dir, assets, settings, port }: Start, stop: Stop) -> io::Result<()> {
    let app = App::new(settings);
    let listener = port.listen(BACKLOG)?;
    let router = pages::routes(Arc::clone(&app))
        .merge(admin::routes(Arc::clone(&app)))
        .layer(middleware::from_fn(guarded));
    tracing::info!(port = listener.local_addr()?.port(), "ready");
    notify::ready("serving");
    let reloads = reload(&app, dir, assets, &stop);
    tokio::select! {
        () = accept(&app, &listener, &router) => {}
        () = reloads => {}
        () = stop.token.cancelled() => {}
    }
    notify::stopping();
    tracing::info!("stopped");
    Ok(())
}

/// Takes a new configuration and certificate at SIGHUP; a bad one is told, and the old one stays.
async fn reload(app: &App, dir: PathBuf, assets: PathBuf, stop: &Stop) {
    while stop.until_reload().await {
        notify::reloading();
        let read = Config::load(&dir).map_err(|error| error.to_string());
        let read = read.and_then(|config| {
            Settings::load(&config, &assets).map_err(|error: BadSetting| error.to_string())
        });
        match read {
            Ok(settings) => {
                app.take(settings);
                tracing::info!("configuration and certificate read again");
            }
            Err(error) => tracing::error!(error, "not read again; the old one stays in force"),
        }
        notify::ready("serving");
    }
}

async fn accept(app: &App, listener: &TcpListener, router: &Router) {
    let shares = Shares::new("the port for browsers", OF_ADDRESS_MAX, OF_ALL_MAX);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Only latency, and how soon a browser that is gone is noticed, are at stake.
        let _ = stream.set_nodelay(true);
        let most = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, most);
        let Some(share) = shares.take_unproven(Who::of_tcp(&stream)) else { continue };
        let held = Held::new(stream, share, HANDSHAKE_MAX);
        let acceptor = TlsAcceptor::from(Arc::clone(&app.settings().tls));
        tokio::spawn(connection(acceptor, held, address, router.clone()));
    }
}

async fn connection(
    acceptor: TlsAcceptor,
    held: Held<TcpStream>,
    address: SocketAddr,
    router: Router,
) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(held)).await else {
        // Scanners do this all day.
        return tracing::debug!(%address, "a client did not finish the TLS handshake");
    };
    // It keeps its place from now on.
    stream.get_ref().0.connect_info();
    let served = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        router.clone().oneshot(request)
    });
    let done = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .max_buf_size(HEADERS_SIZE_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(served))
        .with_upgrades()
        .await;
    if let Err(error) = done {
        tracing::debug!(%address, %error, "a connection of a browser broke");
    }
}

/// What each answer says to the browser: nothing of another place is to run, or to be sent to.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data: blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // With no-referrer Chromium sends `Origin: null`, and forms fail.
    (header::REFERRER_POLICY, "same-origin"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), usb=()",
    ),
];

/// Stands before all pages.
async fn guarded(request: Request, next: Next) -> Response {
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD) || is_upgrade;
    let mut response = if changes && !is_own(request.headers()) {
        let origin = request.headers().get(header::ORIGIN);
        tracing::warn!(?origin, path = request.uri().path(), "refused: from another page");
        let words = words::of_request(request.headers());
        (StatusCode::FORBIDDEN, words.foreign).into_response()
    } else {
        let late = || StatusCode::GATEWAY_TIMEOUT.into_response();
        let is_file = *request.method() == Method::PUT;
        let most = if is_file { FILE_MAX } else { REQUEST_MAX };
        tokio::time::timeout(most, next.run(request)).await.unwrap_or_else(|_| late())
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages have names and numbers of logins in them.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a request comes from a page of this host.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
        return false;
    };
    origin.strip_prefix("https://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_this_host_may_change_anything() {
        let asked = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_own(&headers)
        };
        assert!(asked(Some("https://tlha"), "tlha"));
        assert!(asked(Some("https://tlha:8443"), "TLHA:8443"));
        for foreign in [
            None,
            Some("null"),
            Some("https://evil.example"),
            Some("http://tlha"),
            Some("https://tlha.evil.example"),
            Some("https://tlha:444"),
        ] {
            assert!(!asked(foreign, "tlha"), "{foreign:?}");
        }
    }
}
