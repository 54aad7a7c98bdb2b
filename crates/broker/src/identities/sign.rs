//! Invitations, and certificates for those who come with one, or with a certificate that they have.

use std::{net::IpAddr, path::Path, time::Duration};

use vsm_core::{
    AgentName, Asked, Hash, Identity, IdentityName, Invitation, Issued, NotGiven, Proposal,
    UnixMillis,
};
use vsm_daemon::{
    authorities::{self, Certificate},
    clock,
    hole::{self, Hole},
    pki::{self, Requested, Signer, Wanted},
    tls::{Peer, Role},
};

use super::{Identities, NoIssuer, Refused};
use crate::journal::trail::{Note, SELF};

/// Characters of a token: five bits each, without those that are mistaken for others.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
/// 130 bits.
const TOKEN_LENGTH: usize = 26;

/// An issuer that ends sooner signs nothing more: what it signs ends with it.
const LEFT_MS: u64 = 86_400_000;

/// What an invited host needs.
#[derive(Debug)]
pub(crate) struct Invited {
    /// As the configuration spells it.
    pub(crate) agent: AgentName,
    pub(crate) token: String,
    pub(crate) until: UnixMillis,
    pub(crate) authority: Hash,
    /// Whether the host is known to have a certificate already.
    pub(crate) has_certificate: bool,
}

/// A certificate as a host takes it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) chain: String,
    pub(crate) authorities: String,
    pub(crate) until: UnixMillis,
}

impl Identities {
    /// Lets a host have a certificate signed, once.
    pub(crate) async fn invite(
        &self,
        agent: AgentName,
        valid: Duration,
        actor: String,
    ) -> Result<Invited, Refused> {
        let settings = self.site.settings();
        let agent = self.configured_agent(agent)?;
        // Else the host would come in vain.
        drop(self.signer()?);
        let authorities = Certificate::all(&read(&settings.certificates.authority)?);
        // While a new one takes the place of an old one, the one that all hosts know: it vouches for the other.
        let authority = authorities::known_to_all(&authorities, &self.process.tls.own());
        let authority = match authority {
            Some(authority) => authority.shown.key,
            None => pki::key_of(&settings.certificates.authority).map_err(Refused::Request)?,
        };
        let (token, name) = (token(), name_of(&agent)?);
        let has_certificate = self.has_certificate(&name);
        let now = clock::unix_millis();
        let valid_ms = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
        let until = UnixMillis(now.0.saturating_add(valid_ms));
        let (hash, by) = (Hash::of(token.as_bytes()), actor.clone());
        let invitation = Invitation { token: hash, by, until, used_for: None };
        self.ask(name, Asked::Invite(invitation)).await?;
        tracing::info!(%agent, by = actor, "invited: it may have a certificate signed once");
        self.journal.note(Note::new(actor, "agent-invited").agent(&agent));
        Ok(Invited { agent, token, until, authority, has_certificate })
    }

    /// Whether a host has a certificate, as far as that is known: a broker has signed one, one was revoked, or it is
    /// seen.
    fn has_certificate(&self, name: &IdentityName) -> bool {
        let known = self.authority.table.read(|view| view.table.identities().get(name).cloned());
        known.is_some_and(|known| known.issued.is_some() || known.revoked.is_some())
            || self.process.tls.shown().iter().any(|shown| shown.names.contains(name))
    }

    /// Signs for a host that shows its token.
    pub(crate) async fn enrol(
        &self,
        agent: AgentName,
        token: &str,
        request: &[u8],
        from: Option<IpAddr>,
    ) -> Result<Made, Refused> {
        let name = name_of(&agent)?;
        // Letters are typed in either case.
        let shown = Hash::of(token.to_ascii_lowercase().as_bytes());
        // Nothing is worked or told for those who know no token.
        let invited = self.authority.table.read(|view| {
            let known = view.table.identities().get(&name)?;
            Some(known.invited.as_ref()?.token)
        });
        if invited != Some(shown) {
            return Err(Refused::NotGiven { name, why: NotGiven::NotInvited });
        }
        // It may have been taken out since it was invited.
        self.check_configured(&agent)?;
        if hole::is_open(Hole::TokenTwice) {
            let (by, until) = (SELF.to_owned(), UnixMillis(u64::MAX));
            let again = Invitation { token: shown, by, until, used_for: None };
            self.ask(name.clone(), Asked::Invite(again)).await?;
        }
        let key = Requested::parse(request).map_err(Refused::Request)?;
        let asked = |issued| Asked::Enrol { token: shown, issued };
        let made = self.issue(&name, &key, asked).await?;
        let from = from.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
        tracing::info!(%agent, from, "enrolled: it has its first certificate");
        let note = Note::new(SELF, "certificate-issued").agent(&agent);
        self.journal.note(note.detail(format!("enrolled from {from}")));
        Ok(made)
    }

    /// Signs for an agent that shows a certificate.
    pub(crate) async fn renew(&self, peer: &Peer, request: &[u8]) -> Result<Made, Refused> {
        let key = Requested::parse(request).map_err(Refused::Request)?;
        let agent: AgentName = peer.name.parse().map_err(|error: vsm_core::InvalidId| {
            Refused::Request(pki::PkiError::Request(error.to_string()))
        })?;
        self.check_configured(&agent)?;
        let (since, until) = (peer.since, peer.until);
        let half = since.0.saturating_add(until.0.saturating_sub(since.0) / 2);
        let name = name_of(&agent)?;
        if clock::unix_millis().0 < half && !self.asking.has(&name) {
            return Err(Refused::TooEarly { name });
        }
        let asked = |issued| Asked::Renew { since, issued };
        let made = self.issue(&name, &key, asked).await?;
        tracing::info!(%agent, "its certificate is renewed");
        self.journal.note(Note::new(SELF, "certificate-issued").agent(&agent).detail("renewed"));
        Ok(made)
    }

    /// A host that is in no subcluster gets no certificate.
    fn check_configured(&self, agent: &AgentName) -> Result<(), Refused> {
        match self.site.settings().agents().contains_key(agent) {
            true => Ok(()),
            false => Err(Refused::UnknownAgent(agent.clone())),
        }
    }

    /// Signs first and has the table agree then: what nobody agreed to is never handed out.
    async fn issue(
        &self,
        name: &IdentityName,
        key: &Requested,
        asked: impl FnOnce(Issued) -> Asked,
    ) -> Result<Made, Refused> {
        let (settings, signer) = (self.site.settings(), self.signer()?);
        let now = clock::unix_millis();
        let known = self.authority.table.read(|view| view.table.identities().get(name).cloned());
        let (begins, authorities) =
            (begin(now, known.as_deref()), read(&settings.certificates.authority)?);
        let wanted = Wanted {
            name: name.name().to_owned(),
            roles: vec![Role::Agent],
            addresses: Vec::new(),
            since: Some(begins),
            life: settings.certificates.agent_life,
        };
        let (own, until) = signer.sign(key, &wanted).map_err(Refused::Request)?;
        let by = self.process.node.to_string();
        let issued = Issued { key: key.key(), at: begins, until, by };
        self.ask(name.clone(), asked(issued)).await?;
        Ok(Made { chain: format!("{own}{}", signer.pem()), authorities, until })
    }

    /// Has the table agree.
    pub(super) async fn ask(&self, name: IdentityName, asked: Asked) -> Result<(), Refused> {
        self.authority.table.propose(Proposal::Identity { name, asked }).await?;
        Ok(())
    }

    pub(super) fn signer(&self) -> Result<Signer, Refused> {
        let settings = self.site.settings();
        let files = &settings.certificates;
        self.issuer(&files.issuer_cert, &files.issuer_key).map_err(|why| Refused::NoIssuer {
            node: self.process.node.clone(),
            dir: files.issuer_cert.parent().unwrap_or_else(|| Path::new("/")).display().to_string(),
            why,
        })
    }

    /// This broker's issuer, if what it signs counts, and for more than a moment.
    fn issuer(&self, certificate: &Path, key: &Path) -> Result<Signer, NoIssuer> {
        let (signer, node) = (Signer::load(certificate, key)?, &self.process.node);
        let own = IdentityName::new("issuer", node.as_str()).ok();
        let shown = signer.shown().filter(|shown| own.is_some_and(|own| shown.names == [own]));
        let shown = shown.ok_or_else(|| NoIssuer::Other(node.clone()))?;
        let known =
            |name| self.authority.table.read(|view| view.table.identities().get(name).cloned());
        if shown.names.iter().filter_map(known).any(|known| !known.counts(shown.since)) {
            return Err(NoIssuer::Revoked);
        }
        let trusted = std::fs::read_to_string(&self.site.settings().certificates.authority);
        let trusted = Certificate::all(&trusted.unwrap_or_default());
        let chain = Certificate::all(signer.pem());
        if !trusted.is_empty() && authorities::signer_of_issuer(&trusted, &chain).is_none() {
            return Err(NoIssuer::Untrusted);
        }
        let now = clock::unix_millis().0;
        if shown.until.0 < now.saturating_add(LEFT_MS) {
            return Err(NoIssuer::Ends(clock::shown(shown.until)));
        }
        Ok(signer)
    }
}

/// From when on a certificate counts that is made now: not from before what was revoked in this second.
fn begin(now: UnixMillis, known: Option<&Identity>) -> UnixMillis {
    let revoked = known.and_then(|known| known.revoked.as_ref());
    // Made have whole seconds.
    let least = revoked.map_or(0, |revoked| revoked.before.0.div_ceil(1000).saturating_mul(1000));
    UnixMillis((now.0 / 1000 * 1000).max(least))
}

pub(super) fn name_of(agent: &AgentName) -> Result<IdentityName, Refused> {
    IdentityName::new(Role::Agent.word(), agent.as_str())
        .map_err(|error| Refused::Request(pki::PkiError::Request(error.to_string())))
}

pub(super) fn read(path: &Path) -> Result<String, Refused> {
    std::fs::read_to_string(path)
        .map_err(|source| Refused::Request(pki::PkiError::Read { path: path.to_owned(), source }))
}

fn token() -> String {
    let bytes: [u8; TOKEN_LENGTH] = rand::random();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}
