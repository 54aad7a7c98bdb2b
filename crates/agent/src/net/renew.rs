//! Renewing this host's certificate: when two thirds of its life are over the broker is asked for another, by a new key
//! that is made here. It goes on asking until it has one, also after the end. The files are root's: `vsmagent` puts
//! both in place.
//!
//! Only what a broker's issuer has signed is renewed so. What was issued by hand ends as it always did, and is told of
//! 30 days ahead.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use vsm_config::{Config, keys};
use vsm_core::UnixMillis;
use vsm_daemon::{
    backoff::Backoff,
    cause, clock, grpc,
    pki::{self, PkiError, Request},
    shown::Shown,
    tls::{Role, TlsError},
    trouble::Kind,
};
use vsm_proto::broker::v1::{Certificates, RenewRequest, enrolment_client::EnrolmentClient};

use super::{Net, host::unexpected};
use crate::message::{Answer, Call, Failure};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Looks at the certificate so often at least: another may have been put in its place.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Between two renewals, however short a certificate lives.
const LEAST_WAIT: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A broker that has no issuer may have one before long.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error("{0}: {1}")]
    Broker(String, String),
    #[error("the agent is stopping")]
    Stopping,
    #[error(transparent)]
    Request(#[from] PkiError),
    #[error(transparent)]
    NotInstalled(#[from] Failure),
    #[error(transparent)]
    Config(#[from] vsm_config::LoadError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Renews until `stop`.
pub(super) async fn follow(net: Arc<Net>, dir: PathBuf) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    let stop = &net.stop.token;
    loop {
        let wait = match due(&dir).await {
            Some(left) if left > Duration::ZERO => left.min(LOOK_EVERY),
            None => LOOK_EVERY,
            Some(_) => match renew(&net, &dir).await {
                Ok(()) => {
                    backoff.reset();
                    net.troubles.over(Kind::Identity, "renewal");
                    LEAST_WAIT
                }
                Err(why) => {
                    let what = format!("this host's certificate is not renewed: {why}");
                    net.troubles.raise(Kind::Identity, "renewal", what);
                    backoff.next_wait()
                }
            },
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
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

async fn renew(net: &Net, dir: &Path) -> Result<(), NotRenewed> {
    let Request { key, request } = Request::new()?;
    let settings = net.settings();
    let broker = settings.master_hostname.clone();
    let said = |why: String| NotRenewed::Broker(broker.clone(), why);
    let asked = async {
        let channel = grpc::channel_to(Role::Broker, &broker, settings.master_port, &net.tls)
            .map_err(|error| said(error.to_string()))?;
        let mut client = EnrolmentClient::new(channel);
        let answer = client.renew(RenewRequest { request }).await;
        answer.map_err(|status| said(cause::of(&status)))
    };
    let answer = tokio::select! {
        biased;
        () = net.stop.token.cancelled() => return Err(NotRenewed::Stopping),
        answer = tokio::time::timeout(CALL_TIMEOUT, asked) => answer,
    };
    let answer = answer.map_err(|_| said("no answer".to_owned()))??;
    let Certificates { chain, .. } = answer.into_inner();
    // What is put in place can be used: a host without a certificate is out of reach.
    net.tls.check(&chain).map_err(|why| {
        said(format!("it answered with a certificate that is not this cluster's: {why}"))
    })?;
    let answer = net.host.ask(Call::Install { chain, key: key.into() }).await?;
    if answer != Answer::Done {
        return Err(unexpected(&answer).into());
    }
    net.tls.reload(&Config::load(dir)?)?;
    tracing::info!(%broker, "this host's certificate is renewed");
    Ok(())
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
