//! Revoking, and who has been told.

use std::{sync::Arc, time::Duration};

use vsm_core::{Asked, IdentityName, Revocation, UnixMillis};
use vsm_daemon::{clock, open::Revoked, tls::Role, trouble::Kind};

use super::{Identities, Refused};
use crate::{authority::Authority, hosts::agents::Link, journal::trail::Note};

/// Who revokes waits so long for the agents to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of revoking.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) before: UnixMillis,
    pub(crate) told: u32,
    pub(crate) not_told: Vec<String>,
}

impl Identities {
    /// Has the certificates of an identity count no more, from now on.
    pub(crate) async fn revoke(
        &self,
        name: IdentityName,
        (actor, why): (String, String),
        force: bool,
    ) -> Result<Done, Refused> {
        self.check_not_own(&name, force)?;
        let seen: Vec<UnixMillis> = self
            .process
            .tls
            .shown()
            .into_iter()
            .filter(|shown| shown.names.contains(&name))
            .map(|shown| shown.since)
            .collect();
        if !force && seen.is_empty() && !self.knows(&name) {
            return Err(Refused::Unknown(name));
        }
        // Certificates begin with whole seconds, by the clock of whoever signed them.
        let next =
            |at: UnixMillis| UnixMillis((at.0 / 1000).saturating_add(1).saturating_mul(1000));
        let before =
            seen.into_iter().chain([clock::unix_millis()]).map(next).max().unwrap_or_default();
        let revocation = Revocation { before, by: actor.clone(), why: why.clone() };
        self.ask(name.clone(), Asked::Revoke(revocation)).await?;
        tracing::warn!(%name, by = actor, why, "revoked: its certificates count no more");
        let note = Note::new(actor, "certificate-revoked").detail(format!("{name} {why}"));
        let agent = Some(name.name()).filter(|_| name.role() == Role::Agent.word());
        self.journal.note(match agent.and_then(|agent| agent.parse().ok()) {
            Some(agent) => note.agent(&agent),
            None => note,
        });
        let known = self.authority.table.read(|view| view.table.identities().get(&name).cloned());
        let before =
            known.and_then(|known| known.revoked.as_ref().map(|was| was.before)).unwrap_or(before);
        let (told, not_told) = self.wait_for_agents(&name, before).await;
        Ok(Done { before, told, not_told })
    }

    /// Refuses to revoke the certificate of the broker that is asked: whoever does so locks themselves out of it.
    pub(crate) fn check_not_own(&self, name: &IdentityName, force: bool) -> Result<(), Refused> {
        let own = name.role() == Role::Broker.word()
            && name.name().eq_ignore_ascii_case(self.process.node.as_str());
        if own && !force { Err(Refused::Own(name.clone())) } else { Ok(()) }
    }

    /// Whether the configuration or the table has this identity.
    fn knows(&self, name: &IdentityName) -> bool {
        let is_it = |other: &str| other.eq_ignore_ascii_case(name.name());
        let settings = self.site.settings();
        let configured = settings.agents().keys().any(|agent| is_it(agent.as_str()));
        let is_node = self.nodes.iter().any(|node| is_it(node));
        // They may be addresses; what is none is a host's name, as its certificate has it.
        let is_client = settings.allowed_clients.iter().any(|client| is_it(client));
        configured && name.role() == Role::Agent.word()
            || is_client && name.role() == Role::Admin.word()
            || is_node && ["broker", "issuer"].contains(&name.role())
            || self.authority.table.read(|view| view.table.identities().contains_key(name))
    }

    async fn wait_for_agents(&self, name: &IdentityName, before: UnixMillis) -> (u32, Vec<String>) {
        let until = clock::now() + TOLD_WITHIN;
        let is_told = |link: &Arc<Link>| link.knows_revoked(name, before);
        loop {
            let links = self.agents.all();
            let waits = links.iter().any(|link| link.is_up() && !is_told(link));
            if waits && clock::now() < until && !self.process.stop.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            let (told, not): (Vec<_>, Vec<_>) = links.into_iter().partition(is_told);
            let told = u32::try_from(told.len()).unwrap_or(u32::MAX);
            return (told, not.iter().map(|link| link.name.to_string()).collect());
        }
    }
}

/// Tells an agent what counts no more. What fails is told of the agent, and is to be tried again.
pub(crate) async fn tell(authority: &Authority, link: &Link, revoked: &Arc<Revoked>) {
    match link.set_revoked(authority.table.fence(), revoked).await {
        Ok(()) => link.troubles.over(Kind::Identity, "revoked"),
        // Whoever is out of reach, or out of the cluster, is told when it is back.
        Err(_) if !link.is_up() => link.troubles.over(Kind::Identity, "revoked"),
        Err(error) => {
            let what = format!("it cannot be told which certificates are revoked: {error}");
            link.troubles.raise(Kind::Identity, "revoked", what);
        }
    }
}
