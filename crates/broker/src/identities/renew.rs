//! Having agents renew their certificates now, and not when two thirds of their lives are over: after a new issuer, or
//! while the authority changes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinSet};
use vsm_core::{AgentName, IdentityName, UnixMillis};
use vsm_daemon::clock;

use super::{Identities, Refused, sign::name_of};
use crate::{
    hosts::agents::{Away, CallError, LINK_WAIT, Link, RenewAnswer},
    journal::trail::Note,
};

/// Agents that are asked at a time. Each comes back for a signature, of which one is made at a time.
const AT_A_TIME: usize = 32;
/// Whoever asks waits no longer. Ten thousand hosts that answer take two minutes.
const ALL_WITHIN: Duration = Duration::from_secs(240);
/// So long an agent that is asked may renew a certificate of which not half is over.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// Agents that an event names.
const NAMED_MAX: usize = 8;

/// What came of it at one agent.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) agent: AgentName,
    /// When its new certificate ends.
    pub(crate) done: Result<UnixMillis, NotRenewed>,
}

/// Why an agent has no new certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRenewed {
    #[error("down: {0}")]
    Away(Away),
    #[error("this broker has no link to it yet")]
    Unlinked,
    #[error("its vsmagent is of an older version, which cannot be asked")]
    Older,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{why}")]
    There { why: String, next_step: String },
    #[error("not asked: the others took longer than {} s", ALL_WITHIN.as_secs())]
    Late,
}

impl NotRenewed {
    pub(crate) fn next_step(&self) -> &str {
        match self {
            Self::Away(why) if why.fault().is_some() => {
                "vsmctl agent enrol lets it in anew, if it is to come back"
            }
            Self::Away(_) | Self::Unlinked => {
                "ask again when it is up (vsmctl agent list); one that a broker has signed is also renewed in time by itself, and vsmctl agent \
                 enrol lets a host in anew"
            }
            Self::Older => "upgrade vsmagent there, or vsmctl agent enrol, with --replace there",
            Self::Call(_) | Self::Late => "ask again; vsmctl pki list shows what it has",
            Self::There { next_step, .. } => next_step,
        }
    }
}

/// Agents that are asked, each until when it may come for that.
#[derive(Debug, Default)]
pub(super) struct Asking(Mutex<BTreeMap<IdentityName, Instant>>);

impl Asking {
    fn begin(&self, name: IdentityName) {
        let now = clock::now();
        let mut all = self.0.lock();
        all.retain(|_, until| *until > now);
        all.insert(name, now + ASKED_FOR);
    }

    /// Whether an agent may have a new certificate whatever is left of the one that it has.
    pub(super) fn has(&self, name: &IdentityName) -> bool {
        self.0.lock().get(name).is_some_and(|until| *until > clock::now())
    }
}

impl Identities {
    /// Has these agents of the configuration renew their certificates now; all of it where none is named.
    pub(crate) async fn renew_now(
        self: Arc<Self>,
        named: Vec<AgentName>,
        actor: String,
    ) -> Result<Vec<Renewed>, Refused> {
        let agents = self.configured(named)?;
        // Else all of them would come in vain.
        drop(self.signer()?);
        let (places, until) = (Arc::new(Semaphore::new(AT_A_TIME)), clock::now() + ALL_WITHIN);
        let mut asked = JoinSet::new();
        for agent in agents {
            let (this, places) = (Arc::clone(&self), Arc::clone(&places));
            asked.spawn(async move {
                let place = tokio::time::timeout_at(until.into(), places.acquire()).await;
                let done = match place {
                    Ok(Ok(_place)) => this.renew_one(&agent).await,
                    Ok(Err(_)) | Err(_) => Err(NotRenewed::Late),
                };
                Renewed { agent, done }
            });
        }
        let mut all = asked.join_all().await;
        all.sort_by(|one, other| one.agent.cmp(&other.agent));
        self.note_renewed(&all, actor);
        Ok(all)
    }

    /// The agents of the configuration with these names, in whatever case they are spelled.
    fn configured(&self, named: Vec<AgentName>) -> Result<Vec<AgentName>, Refused> {
        let settings = self.site.settings();
        if named.is_empty() {
            return Ok(settings.agents().keys().cloned().collect());
        }
        let find = |name| self.configured_agent(name);
        let mut found = named.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// An agent of the configuration, in whatever case its name is spelled.
    pub(super) fn configured_agent(&self, name: AgentName) -> Result<AgentName, Refused> {
        let settings = self.site.settings();
        let is_it = |agent: &&AgentName| agent.as_str().eq_ignore_ascii_case(name.as_str());
        let found = settings.agents().keys().find(is_it).cloned();
        found.ok_or(Refused::UnknownAgent(name))
    }

    async fn renew_one(&self, agent: &AgentName) -> Result<UnixMillis, NotRenewed> {
        let link: Arc<Link> = self.agents.link(agent).ok_or(NotRenewed::Unlinked)?;
        // One that is down for longer comes back in its own time.
        let wait = if link.is_expected() { LINK_WAIT } else { Duration::ZERO };
        link.up_within(wait).await.map_err(|(why, _)| NotRenewed::Away(why))?;
        if let Ok(name) = name_of(agent) {
            self.asking.begin(name);
        }
        match link.renew_certificate(self.authority.table.fence()).await? {
            RenewAnswer::Until(until) => Ok(until),
            RenewAnswer::NotRenewed { why, next_step } => Err(NotRenewed::There { why, next_step }),
            RenewAnswer::Older => Err(NotRenewed::Older),
        }
    }

    fn note_renewed(&self, all: &[Renewed], actor: String) {
        let not: Vec<&Renewed> = all.iter().filter(|one| one.done.is_err()).collect();
        let named: Vec<_> = not.iter().take(NAMED_MAX).map(|one| one.agent.as_str()).collect();
        let rest = match not.len() {
            0 => String::new(),
            n if n > named.len() => {
                format!("; not of {} and {} more", named.join(" "), n - named.len())
            }
            _ => format!("; not of {}", named.join(" ")),
        };
        let detail = format!("of {} host(s){rest}", all.len() - not.len());
        let note = Note::new(actor, "certificates-renewed").detail(detail);
        self.journal.note(match all {
            [one] => note.agent(&one.agent),
            _ => note,
        });
    }
}
