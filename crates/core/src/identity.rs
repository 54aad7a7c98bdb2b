//! What the cluster remembers of a host's identity beside its certificate: that it is invited, what it was issued last,
//! and since when its certificates count no more.
//!
//! It is part of the table, so that both brokers answer alike: an invitation is used once, whichever of them is asked,
//! and what was revoked stays revoked. What is revoked is an identity up to a moment, not a certificate: whoever lost a
//! host need not know which certificates it had, and the host can be invited anew.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Change, InvalidId, Rejected, Row, UnixMillis, id::checked_text};

/// Certificates begin with whole seconds.
const SECOND_MS: u64 = 1000;

/// One name in one role, as certificates say it: `agent/lab7` for `vsm://agent/lab7`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityName(Arc<str>);

impl IdentityName {
    /// The roles that there are. An `issuer` signs the certificates of agents for a broker.
    pub const ROLES: [&str; 4] = ["broker", "agent", "admin", "issuer"];

    /// The name in the role.
    ///
    /// # Errors
    /// If there is no such role, or the name is none of a host.
    pub fn new(role: &str, name: &str) -> Result<Self, InvalidId> {
        format!("{role}/{name}").parse()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> &str {
        self.0.split_once('/').map_or("", |(role, _)| role)
    }

    /// Its name in that role.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl FromStr for IdentityName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let whole = text.split_once('/');
        let Some((_, name)) = whole.filter(|(role, _)| Self::ROLES.contains(role)) else {
            let why = "it is ROLE/NAME with the role broker, agent, admin or issuer";
            return Err(InvalidId::new("identity", text, why));
        };
        name.parse::<crate::NodeName>()?;
        // DNS knows no case: another spelling is the same host.
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

checked_text!(IdentityName, InvalidId);

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 hash: of a token, or of a public key (its `SubjectPublicKeyInfo`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of 32 bytes.
    ///
    /// # Errors
    /// If they are not 32.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
        let long = "it has 32 bytes, 64 hexadecimal digits";
        bytes.try_into().map(Self).map_err(|_| InvalidId::new("hash", "(bytes)", long))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::new("hash", text, "it has 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(place * 2..place * 2 + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// Leave for a host to have a certificate signed, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Of the token that proves it.
    pub token: Hash,
    /// Who gave it.
    pub by: String,
    /// Until when it counts.
    pub until: UnixMillis,
    /// The key that it was used for. The answer may be lost: the same key may ask again.
    pub used_for: Option<Hash>,
}

/// The certificate that was issued last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Of its public key.
    pub key: Hash,
    /// When it begins.
    pub at: UnixMillis,
    /// When it ends.
    pub until: UnixMillis,
    /// The broker that signed it.
    pub by: String,
}

impl Issued {
    /// The issuer that signed it; none = its broker has a name that no issuer can have.
    #[must_use]
    pub fn issuer(&self) -> Option<IdentityName> {
        IdentityName::new("issuer", &self.by).ok()
    }
}

/// That its certificates count no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Those that begin before this do not count.
    pub before: UnixMillis,
    /// Who said so.
    pub by: String,
    /// Why, in their words; may be empty.
    pub why: String,
}

/// What is remembered of one identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// A host may have a certificate signed.
    pub invited: Option<Invitation>,
    /// What it was issued last by a broker.
    pub issued: Option<Issued>,
    /// Since when its former certificates do not count.
    pub revoked: Option<Revocation>,
}

/// What is asked for an identity.
#[derive(Debug, Clone)]
pub enum Asked {
    /// Let a host have a certificate signed. A former invitation counts no more.
    Invite(Invitation),
    /// Use an invitation.
    Enrol {
        /// Of the token that is shown.
        token: Hash,
        /// What is issued for it.
        issued: Issued,
    },
    /// A new certificate by one that counts.
    Renew {
        /// When the certificate begins that is shown.
        since: UnixMillis,
        /// What is issued for it.
        issued: Issued,
    },
    /// Its certificates are to count no more; nor is an invitation.
    Revoke(Revocation),
}

/// Why an identity is not given what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    /// There is no invitation with this token.
    #[error("this token invites nobody: it is wrong, was replaced, or was revoked")]
    NotInvited,
    /// The invitation is over.
    #[error("this token is no longer valid")]
    Over,
    /// It was used for another key.
    #[error("this token was used already")]
    Used,
    /// The certificate that was shown is revoked.
    #[error("its certificate was revoked")]
    Revoked,
}

impl Identity {
    /// What it is after this was asked for.
    ///
    /// # Errors
    /// If that is not given.
    pub fn after(&self, asked: Asked) -> Result<Self, NotGiven> {
        let mut new = self.clone();
        match asked {
            Asked::Invite(invitation) => new.invited = Some(invitation),
            Asked::Enrol { token, issued } => {
                let shown = |invitation: &&mut Invitation| invitation.token == token;
                let invitation = new.invited.as_mut().filter(shown).ok_or(NotGiven::NotInvited)?;
                if invitation.used_for.is_some_and(|key| key != issued.key) {
                    return Err(NotGiven::Used);
                }
                if invitation.until <= issued.at {
                    return Err(NotGiven::Over);
                }
                invitation.used_for = Some(issued.key);
                new.issued = Some(issued);
            }
            Asked::Renew { since, issued } => {
                if !self.counts(since) {
                    return Err(NotGiven::Revoked);
                }
                new.issued = Some(issued);
            }
            Asked::Revoke(revocation) => {
                // What began by a clock that was ahead of this one is revoked too.
                let later = |at: UnixMillis| UnixMillis(at.0.saturating_add(SECOND_MS));
                let was = self.revoked.as_ref().map_or(UnixMillis(0), |was| later(was.before));
                let began = self.issued.as_ref().map_or(UnixMillis(0), |last| later(last.at));
                let before = revocation.before.max(was).max(began);
                new.revoked = Some(Revocation { before, ..revocation });
                new.invited = None;
            }
        }
        Ok(new)
    }

    /// Whether a certificate counts that begins at this moment.
    #[must_use]
    pub fn counts(&self, since: UnixMillis) -> bool {
        self.revoked.as_ref().is_none_or(|revoked| since >= revoked.before)
    }
}

/// All of them, by name.
pub type AllIdentities = Arc<BTreeMap<IdentityName, Arc<Identity>>>;

/// The last revocation that concerns an identity: of itself, or of the issuer of its last certificate, as what an
/// issuer has signed is out with it. With whose it is.
#[must_use]
pub fn revocation<'a>(
    all: &'a AllIdentities,
    name: &IdentityName,
) -> Option<(&'a IdentityName, &'a Revocation)> {
    let (own, known) = all.get_key_value(name)?;
    let issuer = known.issued.as_ref().and_then(|issued| {
        let (issuer, known) = all.get_key_value(&issued.issuer()?)?;
        let revoked = known.revoked.as_ref().filter(|revoked| revoked.before > issued.at)?;
        Some((issuer, revoked))
    });
    let revoked = known.revoked.as_ref().map(|revoked| (own, revoked));
    revoked.into_iter().chain(issuer).max_by_key(|(_, revoked)| revoked.before)
}

/// Those of a table. Shared by copies: whoever follows them sees by the pointer that nothing changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identities(AllIdentities);

impl Identities {
    pub(crate) const fn all(&self) -> &AllIdentities {
        &self.0
    }

    pub(crate) fn row(&self, name: &IdentityName) -> Option<Row> {
        let known = self.0.get(name).cloned()?;
        Some(Row::Identity { name: name.clone(), known })
    }

    pub(crate) fn check(&self, name: IdentityName, asked: Asked) -> Result<Change, Rejected> {
        let unknown = Arc::default();
        match self.0.get(&name).unwrap_or(&unknown).after(asked) {
            Ok(known) => Ok(Change::Identity { name, known: Arc::new(known) }),
            Err(why) => Err(Rejected::NotGiven { name, why }),
        }
    }

    pub(crate) fn set(&mut self, name: &IdentityName, known: &Arc<Identity>) {
        Arc::make_mut(&mut self.0).insert(name.clone(), Arc::clone(known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Hash {
        Hash([n; 32])
    }

    fn issued(key: u8, at: u64) -> Issued {
        Issued { key: hash(key), at: UnixMillis(at), until: UnixMillis(at + 100), by: "a".into() }
    }

    fn invited() -> Identity {
        let (by, until) = ("root".to_owned(), UnixMillis(50));
        let invitation = Invitation { token: hash(1), by, until, used_for: None };
        Identity::default().after(Asked::Invite(invitation)).unwrap()
    }

    fn enrol(identity: &Identity, token: u8, key: u8, at: u64) -> Result<Identity, NotGiven> {
        identity.after(Asked::Enrol { token: hash(token), issued: issued(key, at) })
    }

    fn revoke(identity: &Identity, before: u64) -> Identity {
        let (by, why) = ("root".to_owned(), String::new());
        let revocation = Revocation { before: UnixMillis(before), by, why };
        identity.after(Asked::Revoke(revocation)).unwrap()
    }

    #[test]
    fn a_token_is_for_one_key_and_for_a_while() {
        let identity = invited();
        assert_eq!(enrol(&Identity::default(), 1, 7, 10), Err(NotGiven::NotInvited));
        assert_eq!(enrol(&identity, 2, 7, 10), Err(NotGiven::NotInvited));
        assert_eq!(enrol(&identity, 1, 7, 50), Err(NotGiven::Over));
        let used = enrol(&identity, 1, 7, 10).unwrap();
        assert_eq!(used.issued, Some(issued(7, 10)));
        assert_eq!(enrol(&used, 1, 8, 11), Err(NotGiven::Used));
        assert_eq!(enrol(&used, 1, 7, 11).unwrap().issued, Some(issued(7, 11)), "asked again");
    }

    /// What an issuer has signed is out with it; what another one signs later is not.
    #[test]
    fn the_last_revocation_that_concerns_an_identity_counts() {
        let (agent, issuer) = (IdentityName::new("agent", "x"), IdentityName::new("issuer", "a"));
        let (agent, issuer) = (agent.unwrap(), issuer.unwrap());
        let before = |identity: &Identity, issuer_before: Option<u64>| {
            let of_issuer = issuer_before.map(|at| revoke(&Identity::default(), at));
            let mut all = BTreeMap::from([(agent.clone(), Arc::new(identity.clone()))]);
            all.extend(of_issuer.map(|one| (issuer.clone(), Arc::new(one))));
            let all = Arc::new(all);
            revocation(&all, &agent)
                .map(|(name, revoked)| (name.role().to_owned(), revoked.before.0))
        };
        let of = |role: &str, at: u64| Some((role.to_owned(), at));
        let enrolled = enrol(&invited(), 1, 7, 10).unwrap();
        assert_eq!(before(&enrolled, None), None);
        assert_eq!(before(&enrolled, Some(2000)), of("issuer", 2000));
        assert_eq!(before(&enrolled, Some(10)), None, "signed since");
        let out = revoke(&enrolled, 3000);
        assert_eq!(before(&out, Some(2000)), of("agent", 3000));
        assert_eq!(before(&out, Some(4000)), of("issuer", 4000));
    }

    #[test]
    fn what_is_revoked_does_not_come_back() {
        let revoked = revoke(&invited(), 30);
        assert_eq!(enrol(&revoked, 1, 7, 31), Err(NotGiven::NotInvited), "nor by its invitation");
        let renew = |identity: &Identity, since| {
            identity.after(Asked::Renew { since: UnixMillis(since), issued: issued(9, 40) })
        };
        assert_eq!(renew(&revoked, 29), Err(NotGiven::Revoked));
        assert!(renew(&revoked, 30).is_ok());
        assert!(!revoke(&revoked, 10).counts(UnixMillis(29)), "not by an earlier moment");
        let again = revoke(&revoked, 30);
        assert!(!again.counts(UnixMillis(30)), "nor what was issued since");
        let (by, until) = ("root".to_owned(), UnixMillis(99));
        let invitation = Invitation { token: hash(3), by, until, used_for: None };
        let back = revoked.after(Asked::Invite(invitation)).unwrap();
        assert!(enrol(&back, 3, 7, 60).is_ok() && !back.counts(UnixMillis(29)));
    }

    #[test]
    fn names_and_hashes_are_checked() {
        let name: IdentityName = "agent/lab7".parse().unwrap();
        assert_eq!((name.role(), name.name()), ("agent", "lab7"));
        assert_eq!("agent/LAB7".parse::<IdentityName>(), Ok(name));
        for bad in ["agent", "agent/", "root/x", "agent/a b", "/x", "", "agent/a/b"] {
            assert!(bad.parse::<IdentityName>().is_err(), "{bad:?}");
        }
        assert_eq!(hash(171).to_string().parse(), Ok(hash(171)));
        for bad in ["", "ab", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Hash>().is_err(), "{bad:?}");
        }
    }
}
