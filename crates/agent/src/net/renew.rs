//! Renewing this host's certificate: when two thirds of its life are over, or when a broker wants it, the broker is
//! asked for another, by a new key that is made here. It goes on asking until it has one, also after the end. The files
//! are root's: `vsmagent` puts both in place, and decides which authorities are trusted.
//!
//! Only what a broker's issuer has signed is renewed so. What was issued by hand ends as it always did, and is told of
//! 30 days ahead.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tonic::Response;
use vsm_config::{Config, keys};
use vsm_core::UnixMillis;
use vsm_daemon::{
    authorities,
    backoff::Backoff,
    cause, clock, grpc,
    pki::{self, PkiError, Private, Request},
    shown::Shown,
    tls::{Role, Tls, TlsError},
    trouble::Kind,
};
use vsm_proto::broker::v1::{Certificates, RenewRequest, enrolment_client::EnrolmentClient};

use super::{Net, host::unexpected};
use crate::message::{Answer, Better, Call, Failure, Install};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Looks at the certificate so often at least: another may have been put in its place.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Between two renewals, however short a certificate lives.
const LEAST_WAIT: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A broker that has no issuer may have one before long.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Brokers that wait for a renewal at a time: one has its turn, and there are two.
const WISHES_MAX: usize = 4;

/// So long the answer may take that a certificate is renewed.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRenewed {
    #[error("{0}: {1}")]
    Broker(String, String),
    #[error("the agent is stopping")]
    Stopping,
    #[error("it is being renewed by others")]
    Busy,
    #[error("it was issued by hand, and a broker renews only what a broker's issuer has signed")]
    ByHand,
    #[error(transparent)]
    Request(#[from] PkiError),
    #[error(transparent)]
    NotInstalled(#[from] Failure),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Config(#[from] vsm_config::LoadError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl NotRenewed {
    /// What is to be done about it.
    pub(super) const fn next_step(&self) -> &'static str {
        match self {
            Self::Broker(..) | Self::Stopping | Self::Busy => {
                "mend what it says, then ask again; it also tries by itself"
            }
            Self::ByHand => {
                "vsmctl agent enrol gives this host one that is renewed, vsmctl pki issue another by hand"
            }
            Self::Request(_)
            | Self::NotInstalled(_)
            | Self::Read { .. }
            | Self::Config(_)
            | Self::Tls(_) => "mend what it says on that host, then ask again",
        }
    }
}

/// A broker that waits for a new certificate to be in use, and is told when that ends.
type Wish = oneshot::Sender<Result<UnixMillis, NotRenewed>>;

/// Where brokers say that they want it renewed.
#[derive(Debug)]
pub(super) struct Renewal {
    wishes: mpsc::Sender<Wish>,
    /// The other end, until [`follow`] takes it.
    wished: Mutex<Option<mpsc::Receiver<Wish>>>,
}

impl Default for Renewal {
    fn default() -> Self {
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        Self { wishes, wished: Mutex::new(Some(wished)) }
    }
}

impl Renewal {
    /// Has it renewed now; when the new one ends.
    pub(super) async fn now(&self) -> Result<UnixMillis, NotRenewed> {
        let (wish, done) = oneshot::channel();
        self.wishes.try_send(wish).map_err(|_| NotRenewed::Busy)?;
        done.await.unwrap_or(Err(NotRenewed::Stopping))
    }
}

/// Renews until `stop`.
pub(super) async fn follow(net: Arc<Net>, dir: PathBuf) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    let wished = net.renewal.wished.lock().take();
    let Some(mut wished) = wished else { return };
    loop {
        let wait = match due(&dir).await {
            Some(left) if left > Duration::ZERO => left.min(LOOK_EVERY),
            None => LOOK_EVERY,
            Some(_) => match renew(&net, &dir, Better::Later).await {
                Ok(renewed) => {
                    backoff.reset();
                    forget(&net, &dir, renewed).await;
                    LEAST_WAIT
                }
                Err(why) => {
                    let what = format!("this host's certificate is not renewed: {why}");
                    net.troubles.raise(Kind::Identity, "renewal", what);
                    backoff.next_wait()
                }
            },
        };
        tokio::select! {
            biased;
            () = net.stop.token.cancelled() => return,
            Some(wish) = wished.recv() => {
                let done = match due(&dir).await {
                    Some(_) => renew(&net, &dir, Better::Newer).await,
                    None => Err(NotRenewed::ByHand),
                };
                let (done, renewed) = match done {
                    Ok(renewed) => (Ok(renewed.until), Some(renewed)),
                    Err(why) => {
                        tracing::warn!(%why, "a broker wants this host's certificate renewed, and it is not");
                        (Err(why), None)
                    }
                };
                // A broker that has gone sees it in the certificate.
                let _ = wish.send(done);
                if let Some(renewed) = renewed {
                    backoff.reset();
                    // Trust that is lost ends all connections, also that by which the broker hears of this.
                    let told = tokio::time::sleep(ANSWER_WITHIN);
                    if net.stop.token.run_until_cancelled(told).await.is_none() {
                        return;
                    }
                    forget(&net, &dir, renewed).await;
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long until a certificate is to be renewed that a broker signed; none = it is not such a one, or cannot be read,
/// which whoever loads it tells.
async fn due(dir: &Path) -> Option<Duration> {
    let dir = dir.to_owned();
    let read = move || {
        let certificate = Config::load(&dir).ok()?.get(&keys::tls::CERT_FILE);
        let chain = pki::shown(&std::fs::read_to_string(certificate).ok()?);
        let is_issuer = |one: &Shown| one.names.iter().any(|name| name.role() == "issuer");
        if !chain.iter().skip(1).any(is_issuer) {
            return None;
        }
        Some(left(chain.first()?, clock::unix_millis()))
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

/// How long until two thirds of its life are over.
fn left(own: &Shown, now: UnixMillis) -> Duration {
    let life = own.until.0.saturating_sub(own.since.0);
    let due = own.since.0.saturating_add(life / 3 * 2);
    Duration::from_millis(due.saturating_sub(now.0))
}

/// A new certificate is in use.
struct Renewed {
    until: UnixMillis,
    chain: String,
    key: Private,
    /// Those that the broker trusts.
    authorities: String,
}

/// Has a new certificate in use.
async fn renew(net: &Net, dir: &Path, better: Better) -> Result<Renewed, NotRenewed> {
    let Request { key, request } = Request::new()?;
    let broker = net.settings().master_hostname.clone();
    let Certificates { chain, authorities, .. } = ask(net, &broker, request).await?;
    // What is put in place can be used: a host without a certificate is out of reach.
    net.tls.check(&chain).map_err(|why| {
        let why = format!("it answered with a certificate that is not this cluster's: {why}");
        NotRenewed::Broker(broker.clone(), why)
    })?;
    let until = pki::shown(&chain).first().map_or(UnixMillis(0), |own| own.until);
    let install = Install {
        chain: chain.clone(),
        key: key.clone().into(),
        authorities: authorities.clone(),
        better,
    };
    done(net, Call::Install(Box::new(install))).await?;
    net.tls.reload(&Config::load(dir)?)?;
    tracing::info!(%broker, "this host's certificate is renewed");
    net.troubles.over(Kind::Identity, "renewal");
    Ok(Renewed { until, chain, key, authorities })
}

/// Trusts an authority no more that the broker trusts no more, where this host can do without: its own certificate is
/// by another one, and so is the broker's.
async fn forget(net: &Net, dir: &Path, renewed: Renewed) {
    if let Err(error) = try_to_forget(net, dir, renewed).await {
        tracing::warn!(%error, "an authority is trusted on that the broker trusts no more");
    }
}

async fn try_to_forget(net: &Net, dir: &Path, renewed: Renewed) -> Result<(), NotRenewed> {
    let Renewed { chain, key, authorities: offered, .. } = renewed;
    let path = Config::load(dir)?.get(&keys::tls::CA_FILE);
    let trusted =
        std::fs::read_to_string(&path).map_err(|source| NotRenewed::Read { path, source })?;
    let Some(left) = authorities::left(&trusted, &chain, &offered) else { return Ok(()) };
    let settings = net.settings();
    let (broker, port) = (&settings.master_hostname, settings.master_port);
    let without = Tls::of(&left, &chain, &key)?;
    if let Err(error) = grpc::shown_by(Role::Broker, broker, port, &without).await {
        let why = cause::of_error(&error);
        tracing::info!(%broker, why, "an authority is trusted on, as the broker would not be");
        return Ok(());
    }
    done(net, Call::Forget(offered)).await?;
    net.tls.reload(&Config::load(dir)?)?;
    Ok(())
}

/// Has `vsmagent` do something that has no answer of its own.
async fn done(net: &Net, call: Call) -> Result<(), NotRenewed> {
    let answer = net.host.ask(call).await?;
    if answer == Answer::Done { Ok(()) } else { Err(unexpected(&answer).into()) }
}

async fn ask(net: &Net, broker: &str, request: Vec<u8>) -> Result<Certificates, NotRenewed> {
    let said = |why: String| NotRenewed::Broker(broker.to_owned(), why);
    let asked = async {
        let channel = grpc::channel_to(Role::Broker, broker, net.settings().master_port, &net.tls)
            .map_err(|error| said(error.to_string()))?;
        let answer = EnrolmentClient::new(channel).renew(RenewRequest { request }).await;
        answer.map(Response::into_inner).map_err(|status| said(cause::of(&status)))
    };
    tokio::select! {
        biased;
        () = net.stop.token.cancelled() => Err(NotRenewed::Stopping),
        answer = tokio::time::timeout(CALL_TIMEOUT, asked) => {
            answer.unwrap_or_else(|_| Err(said("no answer".to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let (since, until) = (UnixMillis(1000), UnixMillis(91_000));
        let nothing = vsm_core::Hash([0; 32]);
        let own = Shown { names: Vec::new(), since, until, key: nothing, by: nothing };
        assert_eq!(left(&own, UnixMillis(1000)), Duration::from_secs(60));
        assert_eq!(left(&own, UnixMillis(60_000)), Duration::from_secs(1));
        for late in [61_000, 95_000] {
            assert_eq!(left(&own, UnixMillis(late)), Duration::ZERO);
        }
    }
}
