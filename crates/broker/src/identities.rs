//! The identities of hosts: inviting one, signing its certificate, and that what was revoked counts nowhere.
//!
//! What is invited and what is revoked is in the session table, so both brokers know it. Each follows it by itself:
//! what counts no more is refused in handshakes, and connections by it end. Agents are told over their reports, as
//! they have no table; they remember it.
//!
//! | module | owns |
//! | --- | --- |
//! | `sign` | invitations, and certificates for those who come with one |
//! | `revoke` | revoking, and who has been told |

mod revoke;
mod sign;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::{Code, Status};
use vsm_core::{AgentName, IdentityName, NodeName, NotGiven, Rejected, Table, UnixMillis};
use vsm_daemon::{clock, grpc, open::Revoked, pki::PkiError};
use vsm_sync::ProposeError;

use crate::{
    authority::Authority, error::Refusal, hosts::agents::Agents, journal::Journal,
    process::Process, site::Site,
};

pub(crate) use revoke::tell;
pub(crate) use sign::Made;

/// A host with an invitation need not wait for longer after the clock of this node was set.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// So long a host may ask again by a token that it has used.
const AGAIN_MS: u64 = 600_000;

/// What is known of hosts' identities, and what is done with it.
#[derive(Debug)]
pub struct Identities {
    process: Arc<Process>,
    site: Arc<Site>,
    authority: Arc<Authority>,
    journal: Arc<Journal>,
    agents: Arc<Agents>,
    /// Those of the pair, or this one alone.
    nodes: Vec<String>,
    revoked: watch::Sender<Arc<Revoked>>,
}

/// Why a host or an administrator does not get what they asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "there is no agent {0} in /vsmserver/subclusters; add it and reload before it is invited"
    )]
    UnknownAgent(AgentName),
    #[error(
        "{node} cannot sign certificates: {why}. On the authority's host: vsmctl pki issuer {node} --out DIR; then copy \
         issuer.pem and issuer.key to {dir} on {node}"
    )]
    NoIssuer { node: NodeName, dir: String, why: NoIssuer },
    #[error("{name}: {why}")]
    NotGiven { name: IdentityName, why: NotGiven },
    #[error(transparent)]
    Request(PkiError),
    #[error(
        "nothing is known of {0}: no host of the configuration has this name, and no certificate was seen; --force \
         revokes it all the same"
    )]
    Unknown(IdentityName),
    #[error("{name} has a certificate of which not half is over; it is renewed later")]
    TooEarly { name: IdentityName },
    #[error(
        "{0} is this broker's own certificate: hand over to the other one first and revoke it there, or add --force"
    )]
    Own(IdentityName),
    #[error(transparent)]
    Table(#[from] Refusal),
}

/// Why a broker cannot sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoIssuer {
    #[error(transparent)]
    Files(#[from] PkiError),
    #[error("its issuer.pem is not an issuer of {0}")]
    Other(NodeName),
    #[error("its issuer was revoked")]
    Revoked,
    #[error("its issuer ends at {0}")]
    Ends(String),
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Self {
        if let ProposeError::Rejected(Rejected::NotGiven { name, why }) = error {
            return Self::NotGiven { name, why };
        }
        Self::Table(error.into())
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let (reason, code) = match refused {
            Refused::UnknownAgent(_) => ("UNKNOWN_AGENT", Code::NotFound),
            Refused::NoIssuer { .. } => ("NO_ISSUER", Code::FailedPrecondition),
            Refused::NotGiven { .. } => ("NOT_GIVEN", Code::PermissionDenied),
            Refused::Request(_) => ("BAD_REQUEST", Code::InvalidArgument),
            Refused::Unknown(_) => ("UNKNOWN_IDENTITY", Code::NotFound),
            Refused::TooEarly { .. } => ("TOO_EARLY", Code::FailedPrecondition),
            Refused::Own(_) => ("OWN_CERTIFICATE", Code::FailedPrecondition),
            Refused::Table(refusal) => return refusal.into(),
        };
        grpc::with_reason(Self::new(code, refused.to_string()), reason)
    }
}

impl Identities {
    /// Identities by these rooms.
    #[must_use]
    pub fn new(
        process: Arc<Process>,
        site: Arc<Site>,
        authority: Arc<Authority>,
        journal: Arc<Journal>,
        agents: Arc<Agents>,
        nodes: Vec<String>,
    ) -> Self {
        let revoked = watch::Sender::default();
        Self { process, site, authority, journal, agents, nodes, revoked }
    }

    /// What counts no more; changes as it does.
    pub(crate) fn watch_revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    /// Takes what the table says now: before anybody is dialled or served.
    pub fn begin(&self) {
        self.take(self.authority.table.read(|view| revoked(&view.table)));
    }

    /// Keeps to what the table says, until the broker stops.
    pub async fn follow(self: Arc<Self>) {
        let mut table = self.authority.table.watch();
        let mut known = None;
        loop {
            let now = self.authority.table.read(|view| Arc::clone(view.table.identities()));
            if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &now)) {
                self.take(self.authority.table.read(|view| revoked(&view.table)));
                known = Some(now);
            }
            let left = self.authority.table.read(|view| invited_for(&view.table));
            self.process.tls.let_guests_in(left.is_some() && self.authority.acts());
            let look = left.unwrap_or(LOOK_AT_LEAST_EVERY).min(LOOK_AT_LEAST_EVERY);
            tokio::select! {
                biased;
                () = self.process.stop.cancelled() => return,
                changed = table.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    fn take(&self, now: Revoked) {
        self.revoked.send_if_modified(|known| {
            let is_new = **known != now;
            if is_new {
                self.process.tls.revoke(now.clone());
                *known = Arc::new(now);
            }
            is_new
        });
    }
}

/// What the table says that counts no more.
fn revoked(table: &Table) -> Revoked {
    let revoked = table.identities().iter();
    revoked
        .filter_map(|(name, known)| Some((name.clone(), known.revoked.as_ref()?.before)))
        .collect()
}

/// For how long somebody is invited yet; none = nobody is.
fn invited_for(table: &Table) -> Option<Duration> {
    let now = clock::unix_millis();
    let untils = table.identities().values().filter_map(|known| {
        let invitation = known.invited.as_ref()?;
        let used = invitation.used_for.and(known.issued.as_ref());
        // Whose answer was lost asks again.
        let again = used.map(|issued| UnixMillis(issued.at.0.saturating_add(AGAIN_MS)));
        Some(again.map_or(invitation.until, |again| again.min(invitation.until)))
    });
    let last: UnixMillis = untils.max()?;
    (last > now).then(|| Duration::from_millis(last.0 - now.0))
}
