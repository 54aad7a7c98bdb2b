//! The authorities that this broker trusts, and what is seen of them on hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet};
use vsm_core::{Hash, UnixMillis};
use vsm_daemon::{
    authorities::{self, Certificate},
    cause, clock, grpc,
    shown::Shown,
    tls::Role,
};

use super::{Identities, Refused, sign::read};

/// Hosts that are looked at at a time.
const AT_A_TIME: usize = 32;
/// Ten thousand hosts that answer take half a minute.
pub(crate) const ALL_WITHIN: Duration = Duration::from_secs(120);

/// An authority of this broker's.
#[derive(Debug)]
pub(crate) struct CertificateAuthority {
    pub(crate) certificate: Certificate,
    /// Issuers that it has signed, by broker and key, with their ends.
    pub(crate) issuers: BTreeMap<(String, Hash), UnixMillis>,
}

/// What a host shows.
#[derive(Debug)]
pub(crate) struct HostTrust {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// What it shows, or why nothing is known of it.
    pub(crate) seen: Result<Seen, NotSeen>,
}

/// Which hosts are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Brokers and agents.
    All,
    /// Without the agents that are down: each would take seconds.
    Up,
}

/// Why nothing is known of a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSeen {
    #[error("{}", cause::of_error(.0))]
    Away(std::io::Error),
    #[error("not looked at within {} s", .0.as_secs())]
    Late(Duration),
}

/// What is seen of a host.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its certificate.
    pub(crate) own: Option<Shown>,
    /// Authorities that it trusts.
    pub(crate) trusts: Vec<Hash>,
    /// Those by which its certificate is.
    pub(crate) by: Vec<Hash>,
    /// Whether an issuer has signed it.
    pub(crate) renews: bool,
}

impl Seen {
    /// What certificates show of which the first is the host's own, to whoever trusts these authorities.
    fn of(shown: &[Certificate], known: &[Certificate]) -> Self {
        let signs_itself = |one: &&Certificate| one.is_authoritys() && one.shown.by == one.name();
        let is_trusted = |one: &&Certificate| {
            signs_itself(one) || known.iter().any(|known| known.der() == one.der())
        };
        let mut trusts: Vec<Hash> =
            shown.iter().skip(1).filter(is_trusted).map(|one| one.shown.key).collect();
        trusts.dedup();
        // It may know one already that this broker is to know yet.
        let theirs = shown.iter().skip(1).filter(signs_itself);
        let by = known.iter().chain(theirs).filter(|one| authorities::is_by(one, shown));
        let by: BTreeSet<Hash> = by.map(|one| one.shown.key).collect();
        let issuers = shown.iter().skip(1).filter(|one| one.shown.is_issuers());
        let renews = shown.first().is_some_and(|own| {
            own.shown.is_agents() && issuers.into_iter().any(|one| one.name() == own.shown.by)
        });
        let own = shown.first().map(|own| own.shown.clone());
        Self { own, trusts, by: by.into_iter().collect(), renews }
    }
}

impl Identities {
    /// Those of this broker's file, with the issuers that are seen.
    pub(crate) fn authorities(&self) -> Result<Vec<CertificateAuthority>, Refused> {
        let pem = read(&self.site.settings().certificates.authority)?;
        let own = self.own_issuer().into_iter();
        let seen: Vec<Shown> = own.chain(self.process.tls.shown()).collect();
        let of = |certificate: Certificate| {
            let is_its = |one: &&Shown| one.is_issuers() && one.by == certificate.name();
            let each = |one: &Shown| {
                let name = one.names.iter().find(|name| name.role() == "issuer")?;
                Some(((name.name().to_owned(), one.key), one.until))
            };
            let issuers = seen.iter().filter(is_its).filter_map(each).collect();
            CertificateAuthority { certificate, issuers }
        };
        Ok(Certificate::all(&pem).into_iter().map(of).collect())
    }

    /// What this broker's issuer shows, if it has one.
    pub(crate) fn own_issuer(&self) -> Option<Shown> {
        let pem = read(&self.site.settings().certificates.issuer_cert).ok()?;
        Certificate::all(&pem).into_iter().next().map(|one| one.shown)
    }

    /// The key of the authority by which this broker's issuer is, if it has one.
    pub(crate) fn signs_by(&self) -> Option<Hash> {
        let settings = self.site.settings();
        let chain = Certificate::all(&read(&settings.certificates.issuer_cert).ok()?);
        let known = Certificate::all(&read(&settings.certificates.authority).ok()?);
        authorities::signer_of_issuer(&known, &chain)
    }

    /// What brokers and agents show now, by role and name: not what was seen when a connection was made. Whoever asks
    /// waits no longer than `within`.
    pub(crate) async fn look_at_hosts(
        &self,
        which: Which,
        within: Duration,
    ) -> Result<Vec<HostTrust>, Refused> {
        let settings = self.site.settings();
        let known = Arc::new(Certificate::all(&read(&settings.certificates.authority)?));
        let brokers =
            self.nodes.iter().map(|node| (Role::Broker, node.clone(), settings.broker_port));
        let agents = settings
            .agents()
            .keys()
            .filter(|name| {
                let is_up = || self.agents.link(name).is_some_and(|link| link.is_up());
                which == Which::All || is_up()
            })
            .map(|name| (Role::Agent, name.to_string(), settings.agent_port));
        let (places, until) = (Arc::new(Semaphore::new(AT_A_TIME)), clock::now() + within);
        let mut looks = JoinSet::new();
        for (role, name, port) in brokers.chain(agents) {
            let (known, places, tls) =
                (Arc::clone(&known), Arc::clone(&places), self.process.tls.clone());
            if role == Role::Broker && name.eq_ignore_ascii_case(self.process.node.as_str()) {
                // What is in use here, and the file that others get as this broker's.
                let shown = [tls.own(), known.to_vec()].concat();
                looks.spawn(async move { (role, name, Ok(Seen::of(&shown, &known))) });
                continue;
            }
            looks.spawn(async move {
                let look = async {
                    let _place = places.acquire().await.map_err(std::io::Error::other)?;
                    grpc::shown_by(role, &name, port, &tls).await
                };
                let seen = match tokio::time::timeout_at(until.into(), look).await {
                    Ok(Ok(shown)) => Ok(Seen::of(&shown, &known)),
                    Ok(Err(error)) => Err(NotSeen::Away(error)),
                    Err(_) => Err(NotSeen::Late(within)),
                };
                (role, name, seen)
            });
        }
        let mut all = looks.join_all().await;
        all.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let host = |(role, name, seen)| HostTrust { role, name, seen };
        Ok(all.into_iter().map(host).collect())
    }
}
