//! What is remembered of hosts' identities, to and from its messages.

use std::sync::Arc;

use vsm_core::{Hash, Identity, IdentityName, Invitation, Issued, Revocation, UnixMillis};

use crate::{
    convert::{Invalid, bounded, text},
    sync::v1 as pb,
};

impl TryFrom<pb::Identity> for (IdentityName, Arc<Identity>) {
    type Error = Invalid;

    fn try_from(identity: pb::Identity) -> Result<Self, Invalid> {
        let known = Identity {
            invited: identity.invited.map(Invitation::try_from).transpose()?,
            issued: identity.issued.map(Issued::try_from).transpose()?,
            revoked: identity.revoked.map(Revocation::try_from).transpose()?,
        };
        Ok((text("identity.name", &identity.name)?, Arc::new(known)))
    }
}

impl From<(&IdentityName, &Identity)> for pb::Identity {
    fn from((name, known): (&IdentityName, &Identity)) -> Self {
        Self {
            name: name.to_string(),
            invited: known.invited.as_ref().map(Into::into),
            issued: known.issued.as_ref().map(Into::into),
            revoked: known.revoked.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Invitation> for Invitation {
    type Error = Invalid;

    fn try_from(invitation: pb::Invitation) -> Result<Self, Invalid> {
        let used = Some(invitation.used_for).filter(|hash| !hash.is_empty());
        Ok(Self {
            token: hash("invitation.token_hash", &invitation.token_hash)?,
            by: bounded("invitation.by", invitation.by)?,
            until: UnixMillis(invitation.until_unix_ms),
            used_for: used.map(|used| hash("invitation.used_for", &used)).transpose()?,
        })
    }
}

impl From<&Invitation> for pb::Invitation {
    fn from(invitation: &Invitation) -> Self {
        Self {
            token_hash: invitation.token.0.to_vec(),
            by: invitation.by.clone(),
            until_unix_ms: invitation.until.0,
            used_for: invitation.used_for.map(|hash| hash.0.to_vec()).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::Issued> for Issued {
    type Error = Invalid;

    fn try_from(issued: pb::Issued) -> Result<Self, Invalid> {
        Ok(Self {
            key: hash("issued.key_hash", &issued.key_hash)?,
            at: UnixMillis(issued.at_unix_ms),
            until: UnixMillis(issued.until_unix_ms),
            by: bounded("issued.by", issued.by)?,
        })
    }
}

impl From<&Issued> for pb::Issued {
    fn from(issued: &Issued) -> Self {
        Self {
            key_hash: issued.key.0.to_vec(),
            at_unix_ms: issued.at.0,
            until_unix_ms: issued.until.0,
            by: issued.by.clone(),
        }
    }
}

impl TryFrom<pb::Revocation> for Revocation {
    type Error = Invalid;

    fn try_from(revocation: pb::Revocation) -> Result<Self, Invalid> {
        Ok(Self {
            before: UnixMillis(revocation.before_unix_ms),
            by: bounded("revocation.by", revocation.by)?,
            why: bounded("revocation.why", revocation.why)?,
        })
    }
}

impl From<&Revocation> for pb::Revocation {
    fn from(revocation: &Revocation) -> Self {
        Self {
            before_unix_ms: revocation.before.0,
            by: revocation.by.clone(),
            why: revocation.why.clone(),
        }
    }
}

fn hash(field: &'static str, bytes: &[u8]) -> Result<Hash, Invalid> {
    Hash::of_bytes(bytes).map_err(|error| Invalid::new(field, error.to_string()))
}
