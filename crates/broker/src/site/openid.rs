//! Whose word on who somebody is counts beside that of sshd, and whom it means: `/vsmserver/openid`.

use std::path::PathBuf;

use vsm_config::{Config, keys::openid as k};

/// An OpenID provider, and what is made of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIdSettings {
    /// Its address, as its tokens name it.
    pub issuer: String,
    /// By what name it knows this site.
    pub client_id: String,
    /// A file with its keys; none = it is asked for them.
    pub keys_file: Option<PathBuf>,
    /// Authorities by which its host is known.
    pub ca_file: PathBuf,
    /// The claim that says who a user is.
    pub claim: String,
    /// What stands behind the name in it; none = nothing.
    pub domain: Option<String>,
    /// Lowest user id of those who may log in so.
    pub first_uid: u32,
    /// The claim with a user's groups.
    pub groups_claim: String,
    /// One of which a user has to be in; empty = none.
    pub allowed_groups: Vec<String>,
}

impl OpenIdSettings {
    /// None where no provider is named.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let issuer = Some(config.get(&k::ISSUER)).filter(|issuer| !issuer.is_empty())?;
        let is_named = |path: &PathBuf| !path.as_os_str().is_empty();
        Some(Self {
            issuer,
            client_id: config.get(&k::CLIENT_ID),
            keys_file: Some(config.get(&k::KEYS_FILE)).filter(is_named),
            ca_file: config.get(&k::CA_FILE),
            claim: config.get(&k::CLAIM),
            domain: Some(config.get(&k::DOMAIN)).filter(|domain| !domain.is_empty()),
            first_uid: config.get(&k::FIRST_UID),
            groups_claim: config.get(&k::GROUPS_CLAIM),
            allowed_groups: config.get(&k::ALLOWED_GROUPS),
        })
    }
}
