//! The identities of hosts: inviting one, signing its certificate, and that what was revoked counts nowhere.
//!
//! What is invited and what is revoked is in the session table, so both brokers know it. Each follows it by itself:
//! what counts no more is refused in handshakes, and connections by it end. Agents are told over their reports, as
//! they have no table; they remember it.
//!
//! | module | owns |
//! | --- | --- |
//! | `sign` | invitations, and certificates for those who come with one |
//! | `authorities` | whom this broker trusts, and who is seen to |
//! | `renew` | having agents renew their certificates now |
//! | `revoke` | revoking, and who has been told |

mod authorities;
mod renew;
mod revoke;
mod sign;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::{Code, Status};
use vsm_core::{AgentName, AllIdentities, IdentityName, NodeName, NotGiven, Rejected, UnixMillis};
use vsm_daemon::{clock, grpc, open::Revoked, pki::PkiError, trouble::Kind};
use vsm_sync::ProposeError;

use crate::{
    authority::Authority,
    error::Refusal,
    hosts::agents::Agents,
    journal::{Journal, trail::Note},
    process::Process,
    site::Site,
};

pub(crate) use authorities::{ALL_WITHIN, CertificateAuthority, HostTrust, Which};
pub(crate) use renew::Renewed;
pub(crate) use revoke::tell;
pub(crate) use sign::Made;

/// How often the issuer is looked at, and at most until the door is shut after the clock of this node was set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

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
    /// Agents that are to renew their certificates now.
    asking: renew::Asking,
}

/// Why a host or an administrator does not get what they asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no agent {0} in /vsmserver/subclusters; add it and reload first")]
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
        "nothing is known of {0}: the configuration names no such host, none is connected, and no broker has signed its \
         certificate; --force revokes it all the same"
    )]
    Unknown(IdentityName),
    #[error("{name} has a certificate of which not half is over; it is renewed later")]
    TooEarly { name: IdentityName },
    #[error(
        "{0} is this broker's own certificate: revoke it on the other broker, once that is active (vsmctl ha takeover there), or \
         add --force"
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
    #[error("its issuer is by no authority that this node trusts (/tls/ca_file)")]
    Untrusted,
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
        let (revoked, asking) = (watch::Sender::default(), renew::Asking::default());
        Self { process, site, authority, journal, agents, nodes, revoked, asking }
    }

    /// What counts no more; changes as it does.
    pub(crate) fn watch_revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    /// Records an event that concerns them.
    pub(crate) fn note(&self, note: Note) {
        self.journal.note(note);
    }

    /// Takes what the table says now: before anybody is dialled or served.
    pub fn begin(&self) {
        self.take(self.authority.table.read(|view| revoked(view.table.identities())));
    }

    /// Keeps to what the table says, until the broker stops.
    pub async fn follow(self: Arc<Self>) {
        let mut table = self.authority.table.watch();
        let (mut known, mut open_until) = (None, None);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut reloads = self.site.watch_settings();
        loop {
            // The table changes with each login; who is invited or revoked seldom does.
            let now = self.authority.table.read(|view| Arc::clone(view.table.identities()));
            if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &now)) {
                self.take(revoked(&now));
                open_until = invited_until(&now);
                known = Some(now);
            }
            let left = open_until.and_then(|until| left(until, clock::unix_millis()));
            self.process.tls.let_guests_in(left.is_some() && self.authority.acts());
            tokio::select! {
                biased;
                () = self.process.stop.cancelled() => return,
                _ = looks.tick() => {
                    let this = Arc::clone(&self);
                    // One that was aborted looks again.
                    let _ = tokio::task::spawn_blocking(move || this.look_at_issuer()).await;
                }
                changed = table.changed() => if changed.is_err() { return },
                changed = reloads.changed() => match changed {
                    Ok(()) => looks.reset_immediately(),
                    Err(_) => return,
                },
                () = tokio::time::sleep(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))) => {}
            }
        }
    }

    /// Tells of an issuer that is there and cannot be used: else it would be seen when somebody needs it.
    fn look_at_issuer(&self) {
        let is_there = self.site.settings().certificates.issuer_cert.exists();
        let wrong = self.signer().err().filter(|_| is_there).map(|refused| refused.to_string());
        self.process.troubles.set(Kind::Identity, "issuer", wrong);
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

/// What counts no more.
fn revoked(all: &AllIdentities) -> Revoked {
    all.iter()
        .filter_map(|(name, known)| Some((name.clone(), known.revoked.as_ref()?.before)))
        .collect()
}

/// Until when somebody is invited; none = nobody is.
fn invited_until(all: &AllIdentities) -> Option<UnixMillis> {
    let untils = all.values().filter_map(|known| {
        let invitation = known.invited.as_ref()?;
        let used = invitation.used_for.and(known.issued.as_ref());
        // Whose answer was lost asks again.
        let again = used.map(|issued| UnixMillis(issued.at.0.saturating_add(AGAIN_MS)));
        Some(again.map_or(invitation.until, |again| again.min(invitation.until)))
    });
    untils.max()
}

/// How long it is until then; none = it is over.
fn left(until: UnixMillis, now: UnixMillis) -> Option<Duration> {
    (until > now).then(|| Duration::from_millis(until.0 - now.0))
}
