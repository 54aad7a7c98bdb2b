//! Browsers, as far as `vsm-web` can tell: they fill in its forms, keep its cookie, and view a desktop over its
//! WebSocket. Each comes from an address of its own, as users do.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::Serialize;
use tokio::{
    net::{TcpSocket, TcpStream, UnixStream, lookup_host},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest};
use uuid::Uuid;
use vsm_daemon::clock;

use crate::{
    millis,
    rfb::{Viewer, Wire},
};

/// The site, and how to get in.
#[derive(Debug, Clone, Args)]
pub(crate) struct Site {
    /// Name of the site
    #[arg(long, default_value = "tlha")]
    host: String,
    /// The authority that its certificate is of
    #[arg(long, default_value = "/etc/vsm/pki/ca.pem")]
    authority: PathBuf,
    /// Everybody's password
    #[arg(long)]
    password: String,
    /// Address of the first browser; the others have the ones above
    #[arg(long)]
    from: Ipv4Addr,
}

/// Who logs in.
#[derive(Debug, Args)]
pub(crate) struct LoginOptions {
    #[command(flatten)]
    site: Site,
    /// Only begin the next one when one is in
    #[arg(long)]
    one_by_one: bool,
    /// Login names; one that is given twice has two browsers
    #[arg(required = true)]
    users: Vec<String>,
}

/// What it took.
#[derive(Debug, Serialize)]
struct Logins {
    browsers: usize,
    failed: usize,
    /// From the first form to the first whole picture.
    p50_ms: f64,
    p99_ms: f64,
    /// Why the first one failed; empty = none did.
    why: String,
}

/// Whose desktop, and which way.
#[derive(Debug, Args)]
pub(crate) struct ViewOptions {
    #[command(flatten)]
    site: Option<Site>,
    /// Login name, by browser
    #[arg(long, requires = "Site", conflicts_with = "socket")]
    user: Option<String>,
    /// Socket of `vsm connect --no-viewer`
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Bytes of pictures, in MiB
    #[arg(long, default_value_t = 0)]
    mib: u64,
    /// Keys to press, one after the other, each once what it painted is seen
    #[arg(long, default_value_t = 0)]
    keys: usize,
}

/// What it took.
#[derive(Debug, Default, Serialize)]
pub(crate) struct View {
    bytes: u64,
    all_ms: f64,
    /// From a key to what it painted.
    key_p50_us: f64,
    key_p99_us: f64,
}

/// Logs all of them in at once, and views their desktops until standard input ends.
pub(crate) async fn logins(options: LoginOptions) -> Result<()> {
    let site = Arc::new(options.site);
    let mut all = JoinSet::new();
    let (mut times, mut failed, mut why) = (Vec::new(), 0, String::new());
    let mut viewers = Vec::new();
    let browsers = options.users.len();
    let mut take = |done: Result<(f64, Viewer)>| match done {
        Ok((ms, viewer)) => {
            times.push(ms);
            viewers.push(viewer);
        }
        Err(error) => {
            failed += 1;
            if why.is_empty() {
                why = format!("{error:#}");
            }
        }
    };
    for (number, user) in options.users.into_iter().enumerate() {
        let site = Arc::clone(&site);
        all.spawn(async move { timed(&site, &user, number).await });
        if options.one_by_one
            && let Some(done) = all.join_next().await
        {
            take(done?);
        }
    }
    while let Some(done) = all.join_next().await {
        take(done?);
    }
    let (p50_ms, p99_ms) = (percentile(&mut times, 50), percentile(&mut times, 99));
    crate::print(&Logins { browsers, failed, p50_ms, p99_ms, why })?;
    let mut rest = JoinSet::new();
    for mut viewer in viewers {
        rest.spawn(async move { viewer.rest().await });
    }
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
    rest.shutdown().await;
    Ok(())
}

async fn timed(site: &Site, user: &str, number: usize) -> Result<(f64, Viewer)> {
    let from = clock::now();
    let browser = Browser::log_in(site, user, number).await?;
    let mut viewer = Viewer::greet(browser.desktop().await?).await?;
    viewer.picture().await?;
    Ok((millis(from, clock::now()), viewer))
}

/// Views one desktop.
pub(crate) async fn view(options: ViewOptions) -> Result<View> {
    let wire = match (&options.site, &options.user, &options.socket) {
        (Some(site), Some(user), None) => Browser::log_in(site, user, 0).await?.desktop().await?,
        (None, None, Some(socket)) => Wire::Socket(UnixStream::connect(socket).await?),
        _ => bail!("either a site and a user, or a socket"),
    };
    let mut viewer = Viewer::greet(wire).await?;
    viewer.picture().await?;
    let mut view = View::default();
    let from = clock::now();
    while view.bytes < options.mib << 20 {
        view.bytes += viewer.picture().await?;
    }
    view.all_ms = millis(from, clock::now());
    viewer.point(100, 100).await?;
    let mut times = Vec::new();
    for _ in 0..options.keys {
        viewer.ask(true).await?;
        let pressed = clock::now();
        viewer.press(b'x').await?;
        viewer.update().await?;
        times.push(millis(pressed, clock::now()) * 1000.0);
    }
    (view.key_p50_us, view.key_p99_us) = (percentile(&mut times, 50), percentile(&mut times, 99));
    Ok(view)
}

fn percentile(all: &mut [f64], percent: usize) -> f64 {
    all.sort_by(f64::total_cmp);
    let at = (all.len() * percent).div_ceil(100).saturating_sub(1);
    all.get(at).copied().unwrap_or_default()
}

/// One that is logged in.
struct Browser<'a> {
    site: &'a Site,
    number: usize,
    cookie: String,
}

impl<'a> Browser<'a> {
    async fn log_in(site: &'a Site, user: &str, number: usize) -> Result<Self> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(connect(site, number).await?)).await?;
        let connection = tokio::spawn(connection);
        let (_, page) = post(site, &mut sender, "/login", &[("user", user)]).await?;
        let id = page.split_once("name=\"id\" value=\"").and_then(|(_, rest)| rest.split_once('"'));
        let (id, _) = id.with_context(|| format!("no form for {user}: {}", plain(&page)))?;
        let answers = [("id", id), ("answer", &site.password)];
        let (cookie, page) = post(site, &mut sender, "/answer", &answers).await?;
        connection.abort();
        let cookie = cookie.with_context(|| format!("{user} is not let in: {}", plain(&page)))?;
        Ok(Self { site, number, cookie })
    }

    async fn desktop(&self) -> Result<Wire> {
        let Self { site, number, cookie } = self;
        let (host, request) = (&site.host, Uuid::new_v4());
        let address = format!("wss://{host}/rfb?request={request}&width=1024&height=768");
        let mut request = address.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("Origin", format!("https://{host}").parse()?);
        headers.insert("Cookie", cookie.parse()?);
        headers.insert("Sec-WebSocket-Protocol", "binary".parse()?);
        let (web, _) = client_async(request, connect(site, *number).await?).await?;
        Ok(Wire::Web(Box::new(web)))
    }
}

async fn connect(site: &Site, number: usize) -> Result<TlsStream<TcpStream>> {
    let pem = fs::read(&site.authority).with_context(|| site.authority.display().to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate?)?;
    }
    let tls =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let to =
        lookup_host((&*site.host, 443)).await?.find(SocketAddr::is_ipv4).context("no address")?;
    let from = Ipv4Addr::from_bits(site.from.to_bits() + u32::try_from(number)?);
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).with_context(|| from.to_string())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(site.host.clone())?;
    Ok(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?)
}

/// Sends a form; the cookie that comes with the answer, and the page.
async fn post(
    site: &Site,
    sender: &mut SendRequest<Full<Bytes>>,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<(Option<String>, String)> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::post(path)
        .header(header::HOST, &site.host)
        .header(header::ORIGIN, format!("https://{}", site.host))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(body))?;
    let answer = sender.send_request(request).await?;
    let is_good = answer.status() == StatusCode::OK || answer.status() == StatusCode::SEE_OTHER;
    let cookie = answer.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
    let status = answer.status();
    let page = answer.into_body().collect().await?.to_bytes();
    let page = String::from_utf8_lossy(&page).into_owned();
    ensure!(is_good, "{path}: {status}: {}", plain(&page));
    Ok((cookie, page))
}

/// A page's words.
fn plain(page: &str) -> String {
    let body = page.split_once("<body>").map_or(page, |(_, body)| body);
    let words =
        body.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
    words.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_figures_are_read() {
        assert_eq!(plain("<head>x</head><body><p>One <b>two</b></p></body>"), "One two");
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 50), 2.0);
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 99), 3.0);
        assert_eq!(percentile(&mut [], 99), 0.0);
    }
}
