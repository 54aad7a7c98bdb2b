//! What is asked about the identities of hosts: by administrators, by hosts that are invited, and by agents whose
//! certificate is to be renewed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, transport::Channel};
use vsm_core::{AgentName, AllIdentities, Hash, IdentityName, UnixMillis};
use vsm_daemon::{access::Refusals, grpc, shown::Shown, tls};
use vsm_proto::{
    admin::v1::{
        self as pb, identities_client::IdentitiesClient, identities_server::Identities as Admin,
    },
    broker::v1::{Certificates, EnrolRequest, RenewRequest, enrolment_server::Enrolment},
    convert,
};

use crate::{
    api::{
        Edge, caller,
        forward::{self, Place},
    },
    identities::{
        ALL_WITHIN, CertificateAuthority, HostTrust, Identities, Made, Refused, Renewed, Which,
    },
    journal::trail::Note,
    pair::Ha,
    process::Process,
};

/// Whoever asks for the list waits no longer for hosts to show their certificates.
const LIST_WITHIN: Duration = Duration::from_secs(5);
/// How long an invitation may count, in seconds.
const VALID_S: std::ops::RangeInclusive<u64> = 60..=604_800;
const ENROL: &str = "vsm.broker.v1.Enrolment/Enrol";
/// Longest reason, in bytes.
const REASON_MAX: usize = 256;
/// Agents in one request: more than a cell of the largest size has.
const AGENTS_MAX: usize = 65_536;

/// What administrators ask.
#[derive(Debug, Clone)]
pub struct IdentitiesApi {
    /// What it serves.
    pub edge: Arc<Edge>,
    /// Who knows.
    pub identities: Arc<Identities>,
}

impl IdentitiesApi {
    /// Under which name agents reach the broker that is active.
    fn broker(&self) -> String {
        self.resource().unwrap_or_else(|| self.edge.process.node.to_string())
    }

    /// The name of the resource address, if there is one.
    fn resource(&self) -> Option<String> {
        match &self.edge.side.ha {
            Ha::On(pair) => Some(pair.resource.clone()).filter(|name| !name.is_empty()),
            Ha::Off { .. } | Ha::Apart(_) => None,
        }
    }

    /// What is shown now, newest first for each name: this broker's own, what others have shown when they connected,
    /// and what they show to whoever connects now, as a connection outlives a renewal.
    async fn seen(&self) -> Result<BTreeMap<IdentityName, Shown>, Refused> {
        let tls = &self.edge.process.tls;
        let own = tls.own().into_iter().map(|one| one.shown).chain(self.identities.own_issuer());
        let hosts = self.identities.look_at_hosts(Which::Up, LIST_WITHIN).await?.into_iter();
        let hosts = hosts.filter_map(|host| host.seen.ok()?.own);
        let mut seen: BTreeMap<IdentityName, Shown> = BTreeMap::new();
        for shown in own.chain(tls.shown()).chain(hosts) {
            for name in shown.names.clone() {
                let newest = seen.entry(name).or_insert_with(|| shown.clone());
                if newest.since < shown.since {
                    *newest = shown.clone();
                }
            }
        }
        Ok(seen)
    }
}

fn there(channel: Channel) -> IdentitiesClient<Channel> {
    IdentitiesClient::new(channel).max_decoding_message_size(grpc::MESSAGE_MAX)
}

#[tonic::async_trait]
impl Admin for IdentitiesApi {
    async fn invite(
        &self,
        request: Request<pb::InviteRequest>,
    ) -> Result<Response<pb::InviteResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            return there(channel)
                .invite(caller::forwarded_for(request.into_inner(), &actor))
                .await;
        }
        let pb::InviteRequest { agent, valid_s } = request.into_inner();
        let agent = convert::text("agent", &agent)?;
        if !VALID_S.contains(&valid_s) {
            let (least, most) = (VALID_S.start(), VALID_S.end());
            let text = format!("valid_s: {valid_s} is not within {least} to {most}");
            return Err(Status::invalid_argument(text));
        }
        let (identities, broker) = (Arc::clone(&self.identities), self.broker());
        let port = u32::from(self.edge.site.settings().broker_port);
        self.edge
            .done(async move {
                let valid = Duration::from_secs(valid_s);
                let invited = identities.invite(agent, valid, actor).await?;
                let (token, authority) = (invited.token, invited.authority.to_string());
                Ok(pb::InviteResponse {
                    agent: invited.agent.to_string(),
                    token,
                    until_unix_ms: invited.until.0,
                    authority,
                    broker,
                    port,
                    has_certificate: invited.has_certificate,
                })
            })
            .await
    }

    async fn revoke(
        &self,
        request: Request<pb::RevokeRequest>,
    ) -> Result<Response<pb::RevokeResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        let pb::RevokeRequest { role, name, force, .. } = request.get_ref();
        if let Ok(name) = IdentityName::new(role, name) {
            self.identities.check_not_own(&name, *force)?;
        }
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            return there(channel)
                .revoke(caller::forwarded_for(request.into_inner(), &actor))
                .await;
        }
        let pb::RevokeRequest { role, name, reason, force } = request.into_inner();
        let name = IdentityName::new(&role, &name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
            let text = format!("reason: it is one line of at most {REASON_MAX} bytes");
            return Err(Status::invalid_argument(text));
        }
        let identities = Arc::clone(&self.identities);
        self.edge
            .done(async move {
                let done = identities.revoke(name, (actor, reason), force).await?;
                let (before_unix_ms, told, not_told) = (done.before.0, done.told, done.not_told);
                Ok(pb::RevokeResponse { before_unix_ms, told, not_told })
            })
            .await
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            return there(channel).renew(caller::forwarded_for(request.into_inner(), &actor)).await;
        }
        let named = request.into_inner().agents;
        if named.len() > AGENTS_MAX {
            return Err(Status::invalid_argument(format!("agents: at most {AGENTS_MAX}")));
        }
        let named = named.iter().map(|name| convert::text("agents", name));
        let named = named.collect::<Result<Vec<AgentName>, _>>()?;
        let identities = Arc::clone(&self.identities);
        self.edge
            .done(async move {
                let agents = identities.renew_now(named, actor).await?;
                Ok(pb::RenewResponse { agents: agents.into_iter().map(renewed).collect() })
            })
            .await
    }

    async fn list_identities(
        &self,
        request: Request<pb::ListIdentitiesRequest>,
    ) -> Result<Response<pb::ListIdentitiesResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            let request = caller::forwarded_for(request.into_inner(), &actor);
            return there(channel).list_identities(request).await;
        }
        let known = self.edge.table.read(|view| Arc::clone(view.table.identities()));
        let seen = self.seen().await?;
        let names: BTreeSet<&IdentityName> = known.keys().chain(seen.keys()).collect();
        let all = names.into_iter().map(|name| status(name, &known, seen.get(name)));
        let identities = all.collect();
        Ok(Response::new(pb::ListIdentitiesResponse { identities }))
    }

    async fn list_authorities(
        &self,
        request: Request<pb::ListAuthoritiesRequest>,
    ) -> Result<Response<pb::ListAuthoritiesResponse>, Status> {
        // While nobody is active each node tells what it has.
        if let Ok(Place::There(channel)) = forward::find(&self.edge, &request).await {
            let request = caller::forwarded(request.into_inner(), None);
            return there(channel).list_authorities(request).await;
        }
        let all = self.identities.authorities()?;
        let authorities = all.into_iter().map(authority).collect();
        let hosts = match request.into_inner().hosts {
            true => self.identities.look_at_hosts(Which::All, ALL_WITHIN).await?,
            false => Vec::new(),
        };
        let resource = self.resource().unwrap_or_default();
        Ok(Response::new(pb::ListAuthoritiesResponse {
            authorities,
            hosts: hosts.into_iter().map(|one| host(one, &resource)).collect(),
            node: self.edge.process.node.to_string(),
            signs_by: self.identities.signs_by().map_or_else(String::new, |key| key.to_string()),
        }))
    }
}

fn authority(CertificateAuthority { certificate, issuers }: CertificateAuthority) -> pb::Authority {
    let issuer = |((broker, key), until): ((String, Hash), UnixMillis)| pb::Issuer {
        broker,
        key: key.to_string(),
        until_unix_ms: until.0,
    };
    pb::Authority {
        subject: certificate.subject(),
        key: certificate.shown.key.to_string(),
        since_unix_ms: certificate.shown.since.0,
        until_unix_ms: certificate.shown.until.0,
        issuers: issuers.into_iter().map(issuer).collect(),
        certificate: certificate.pem,
    }
}

fn host(HostTrust { role, name, seen }: HostTrust, resource: &str) -> pb::HostTrust {
    let is_broker = role == tls::Role::Broker;
    let addresses =
        if is_broker && !resource.is_empty() { vec![resource.to_owned()] } else { Vec::new() };
    let role = role.word().to_owned();
    let keys = |all: Vec<Hash>| all.iter().map(ToString::to_string).collect();
    match seen {
        Ok(seen) => pb::HostTrust {
            roles: seen.own.iter().flat_map(roles).collect(),
            addresses,
            role,
            name,
            trusts: keys(seen.trusts),
            by: keys(seen.by),
            renews: seen.renews,
            why: String::new(),
        },
        Err(why) => {
            let why = vsm_core::printable(&why.to_string());
            let roles = vec![role.clone()];
            pb::HostTrust { role, name, why, roles, addresses, ..pb::HostTrust::default() }
        }
    }
}

fn roles(own: &Shown) -> Vec<String> {
    own.names.iter().map(|name| name.role().to_owned()).collect()
}

fn renewed(Renewed { agent, done }: Renewed) -> pb::RenewedAgent {
    let (until, why, next) = match &done {
        Ok(until) => (until.0, String::new(), String::new()),
        Err(why) => (0, why.to_string(), why.next_step().to_owned()),
    };
    let agent = agent.to_string();
    pb::RenewedAgent { agent, until_unix_ms: until, why, next_step: next }
}

fn status(name: &IdentityName, all: &AllIdentities, seen: Option<&Shown>) -> pb::IdentityStatus {
    let nothing = Arc::default();
    let known = all.get(name).unwrap_or(&nothing);
    let invited = known.invited.as_ref().filter(|invitation| invitation.used_for.is_none());
    let issued = known.issued.as_ref();
    let (revoked_as, revoked) = vsm_core::revocation(all, name).unzip();
    // A connection outlives the certificate that it began with.
    let is_newest = |seen: &&Shown| issued.is_none_or(|issued| issued.at <= seen.since);
    let until = seen.filter(is_newest).map(|seen| seen.until);
    let until = until.or_else(|| issued.map(|issued| issued.until));
    pb::IdentityStatus {
        role: name.role().to_owned(),
        name: name.name().to_owned(),
        invited_until_unix_ms: invited.map_or(0, |invitation| invitation.until.0),
        issued_unix_ms: issued.map_or(0, |issued| issued.at.0),
        until_unix_ms: until.map_or(0, |until| until.0),
        revoked_before_unix_ms: revoked.map_or(0, |revoked| revoked.before.0),
        revoked_by: revoked.map_or_else(String::new, |revoked| revoked.by.clone()),
        revoked_why: revoked.map_or_else(String::new, |revoked| revoked.why.clone()),
        seen_unix_ms: seen.map_or(0, |seen| seen.since.0),
        issued_by: issued.map_or_else(String::new, |issued| issued.by.clone()),
        revoked_as: revoked_as.map_or_else(String::new, ToString::to_string),
    }
}

/// What hosts ask about their own certificate.
#[derive(Debug)]
pub struct EnrolmentApi {
    identities: Arc<Identities>,
    process: Arc<Process>,
    /// Signing takes a core for a moment: one at a time.
    turn: Arc<Semaphore>,
    refusals: Refusals,
}

impl EnrolmentApi {
    /// For hosts that ask this broker.
    #[must_use]
    pub fn new(identities: Arc<Identities>, process: Arc<Process>) -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self { identities, process, turn, refusals: Refusals::default() }
    }

    /// Signs in a task of the broker's: what the table has agreed to is handed out, or asked for again.
    async fn signed(
        &self,
        work: impl Future<Output = Result<Made, Refused>> + Send + 'static,
    ) -> Result<Response<Certificates>, Status> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|error| Status::internal(error.to_string()))?;
        let work = self.process.tasks.spawn(async move {
            let made = work.await;
            drop(turn);
            made
        });
        let made = work.await.map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(certificates(made)))
    }
}

fn certificates(made: Made) -> Certificates {
    let Made { chain, authorities, until } = made;
    Certificates { chain, authorities, until_unix_ms: until.0 }
}

#[tonic::async_trait]
impl Enrolment for EnrolmentApi {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<Certificates>, Status> {
        let from = vsm_daemon::access::address(request.extensions());
        let EnrolRequest { agent, token, request } = request.into_inner();
        let agent: AgentName = convert::text("agent", &agent)?;
        let (identities, name) = (Arc::clone(&self.identities), agent.to_string());
        let work = async move { identities.enrol(agent, &token, &request, from).await };
        self.signed(work).await.inspect_err(|status| {
            let from = from.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
            // A name is what anybody says.
            let (who, why) = (format!("a host at {from}"), status.message());
            if self.refusals.tell(&who, &from, ENROL, why) {
                let note = Note::new(who, "enrol-refused").detail(format!("as {name}: {why}"));
                self.identities.note(note);
            }
        })
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<Certificates>, Status> {
        let peer = tls::peer(request.extensions())?;
        let (identities, request) = (Arc::clone(&self.identities), request.into_inner().request);
        self.signed(async move { identities.renew(&peer, &request).await }).await
    }
}
