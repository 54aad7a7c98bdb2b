//! Renewing this host's certificate: when two thirds of its life are over the broker is asked for another, by a new key
//! that is made here. It goes on asking until it has one, also after the end.
//!
//! Only what a broker's issuer has signed is renewed so. What was issued by hand ends as it always did, and is told of
//! 30 days ahead.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use vsm_config::{Config, keys};
use vsm_core::UnixMillis;
use vsm_daemon::{
    backoff::Backoff,
    cause, clock, grpc,
    pki::{self, Request},
    shown::Shown,
    stop::Stop,
    tls::Tls,
    trouble::Kind,
};
use vsm_proto::broker::v1::{Certificates, RenewRequest, enrolment_client::EnrolmentClient};

use super::Agent;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Looks at the certificate so often at least: another may have been put in its place.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A broker that has no issuer may have one before long.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The files of this host.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(config: &Config) -> Self {
        Self {
            certificate: config.get(&keys::tls::CERT_FILE),
            key: config.get(&keys::tls::KEY_FILE),
        }
    }
}

/// Ends a renewal that was interrupted.
///
/// # Errors
/// If the files cannot be moved.
pub(super) fn recover(config: &Config) -> std::io::Result<()> {
    let Files { certificate, key } = Files::of(config);
    pki::recover(&certificate, &key)
}

/// Renews until `stop`.
pub(super) async fn follow(agent: Arc<Agent>, tls: Tls, dir: PathBuf, stop: Stop) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    let stop = &stop.token;
    loop {
        let wait = match due(&dir).await {
            Some((_, left)) if left > Duration::ZERO => left.min(LOOK_EVERY),
            None => LOOK_EVERY,
            Some((files, _)) => match renew(&agent, &tls, &files, &dir, stop).await {
                Ok(()) => {
                    backoff.reset();
                    agent.troubles.over(Kind::Certificate, "renewal");
                    continue;
                }
                Err(why) => {
                    let what = format!("this host's certificate is not renewed: {why}");
                    agent.troubles.raise(Kind::Certificate, "renewal", what);
                    backoff.next_wait()
                }
            },
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// The files of a certificate that a broker signed, and how long until it is to be renewed; none = it is not such a
/// one, or cannot be read, which whoever loads it tells.
async fn due(dir: &Path) -> Option<(Files, Duration)> {
    let dir = dir.to_owned();
    let read = move || {
        let files = Files::of(&Config::load(&dir).ok()?);
        let chain = pki::shown(&std::fs::read_to_string(&files.certificate).ok()?);
        let is_issuer = |one: &Shown| one.names.iter().any(|name| name.role() == "issuer");
        if !chain.iter().skip(1).any(is_issuer) {
            return None;
        }
        let left = left(chain.first()?, clock::unix_millis());
        Some((files, left))
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

/// How long until two thirds of its life are over.
fn left(own: &Shown, now: UnixMillis) -> Duration {
    let life = own.until.0.saturating_sub(own.since.0);
    let due = own.since.0.saturating_add(life / 3 * 2);
    Duration::from_millis(due.saturating_sub(now.0))
}

async fn renew(
    agent: &Agent,
    tls: &Tls,
    files: &Files,
    dir: &Path,
    stop: &CancellationToken,
) -> Result<(), String> {
    let Request { key, request } = Request::new().map_err(|error| error.to_string())?;
    let settings = agent.settings();
    let broker = settings.master_hostname.clone();
    let asked = async {
        let channel =
            grpc::channel(&broker, settings.master_port, tls).map_err(|error| error.to_string())?;
        let mut client = EnrolmentClient::new(channel);
        client.renew(RenewRequest { request }).await.map_err(|status| cause::of(&status))
    };
    let answer = tokio::select! {
        biased;
        () = stop.cancelled() => return Err("the agent is stopping".to_owned()),
        answer = tokio::time::timeout(CALL_TIMEOUT, asked) => answer,
    };
    let answer = answer.unwrap_or_else(|_| Err("no answer".to_owned()));
    let Certificates { chain, .. } = answer.map_err(|why| format!("{broker}: {why}"))?.into_inner();
    pki::install(&files.certificate, &files.key, (&chain, &key))
        .map_err(|error| error.to_string())?;
    let config = Config::load(dir).map_err(|error| error.to_string())?;
    tls.reload(&config).map_err(|error| error.to_string())?;
    tracing::info!(%broker, "this host's certificate is renewed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let (since, until) = (UnixMillis(1000), UnixMillis(91_000));
        let own = Shown { names: Vec::new(), since, until, key: vsm_core::Hash([0; 32]) };
        assert_eq!(left(&own, UnixMillis(1000)), Duration::from_secs(60));
        assert_eq!(left(&own, UnixMillis(60_000)), Duration::from_secs(1));
        for late in [61_000, 95_000] {
            assert_eq!(left(&own, UnixMillis(late)), Duration::ZERO);
        }
    }
}
