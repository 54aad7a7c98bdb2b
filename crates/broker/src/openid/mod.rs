//! Logins by OpenID Connect: whether a token of the site's provider is good, and whom it means. Who has it handed in is
//! not asked: a token is for one key, and its user's browser alone has the private half of that.

mod keys;
mod signatures;
mod token;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use vsm_core::{SshKey, UnixMillis, UserName, printable};
use vsm_daemon::{clock, openid};

use self::{
    keys::Keys,
    token::{Claims, Signed, Wanted},
};
pub(crate) use self::{keys::NoKeys, token::Wrong};
use crate::{
    authority::Authority,
    process::Process,
    site::{Site, openid::OpenIdSettings},
    users::{Identity, LookupError, Source},
};

/// Tokens that are remembered: as many as 100 logins in each second make.
const TAKEN_MAX: usize = 100_000;
/// Nobody's, whatever a site has made of it.
const NOBODY: u32 = 65_534;

/// What looks at tokens.
#[derive(Debug)]
pub struct OpenId {
    process: Arc<Process>,
    site: Arc<Site>,
    authority: Arc<Authority>,
    keys: Keys,
    taken: Mutex<Taken>,
}

/// Which tokens were taken, by nonce, and from when on each is too old anyway.
#[derive(Debug)]
struct Taken {
    until: HashMap<String, Instant>,
    /// Since when this is all of them: the node that was active before has not told of its own.
    since: UnixMillis,
}

/// Somebody for whom the provider has vouched.
#[derive(Debug)]
pub(crate) struct Vouched {
    pub(crate) who: Arc<Identity>,
    pub(crate) issuer: String,
    /// How the provider calls them.
    pub(crate) subject: String,
    nonce: String,
    /// Whether it is the first time that this token is handed in.
    pub(crate) first: bool,
}

/// Why a token lets nobody in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotVouched {
    #[error("no OpenID provider is set (/vsmserver/openid/issuer)")]
    Off,
    #[error("the token is refused: {0}")]
    Wrong(#[from] Wrong),
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
    #[error("the token has no claim {0} that says who its user is (/vsmserver/openid/claim)")]
    NoClaim(String),
    #[error("{0:?} is no user of /vsmserver/openid/domain")]
    OtherDomain(String),
    #[error("{0:?} is nobody's login name here")]
    NoUser(String),
    #[error(
        "{0} may not log in by OpenID Connect: user ids below /vsmserver/openid/first_uid may not"
    )]
    System(UserName),
    #[error("{0} is in none of the groups of /vsmserver/openid/allowed_groups")]
    Groups(UserName),
    #[error("the user database does not answer: {0}")]
    UsersDown(String),
    #[error("too many logins by OpenID Connect at once")]
    Busy,
}

/// The same, and how the provider calls them where its signature has been checked.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: NotVouched,
    pub(crate) subject: Option<String>,
}

impl OpenId {
    /// None was taken yet.
    #[must_use]
    pub fn new(process: Arc<Process>, site: Arc<Site>, authority: Arc<Authority>) -> Self {
        signatures::install();
        let taken = Taken { until: HashMap::new(), since: process.started.at };
        Self { process, site, authority, keys: Keys::default(), taken: Mutex::new(taken) }
    }

    /// Notes when this node becomes the active one, until the broker stops.
    pub async fn follow(self: Arc<Self>) {
        let mut serving = self.authority.table.watch_serving();
        loop {
            if *serving.borrow_and_update() {
                self.taken.lock().since = clock::unix_millis();
            }
            tokio::select! {
                biased;
                () = self.process.stop.cancelled() => return,
                changed = serving.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whom a token names that was handed in for this key.
    pub(crate) async fn vouched(&self, token: &str, key: &SshKey) -> Result<Vouched, Refused> {
        let unproven = |why: NotVouched| Refused { why, subject: None };
        let settings = self.site.settings();
        let Some(settings) = &settings.openid else { return Err(unproven(NotVouched::Off)) };
        let claims = self.claims(settings, token).await.map_err(unproven)?;
        let subject = printable(&claims.sub);
        let vouched = async {
            let nonce = openid::nonce(key.as_str());
            let since = self.taken.lock().since;
            let wanted = Wanted {
                issuer: &settings.issuer,
                client_id: &settings.client_id,
                nonce: &nonce,
                now: clock::unix_millis(),
                since,
            };
            claims.check(&wanted)?;
            let who = self.user(settings, &claims).await?;
            let first = self.take(&nonce)?;
            let (issuer, subject) = (settings.issuer.clone(), subject.clone());
            Ok(Vouched { who, issuer, subject, nonce, first })
        };
        vouched.await.map_err(|why| Refused { why, subject: Some(subject.clone()) })
    }

    /// Of a token whose login came to nothing: it may be handed in again.
    pub(crate) fn give_back(&self, vouched: &Vouched) {
        if vouched.first {
            self.taken.lock().until.remove(&vouched.nonce);
        }
    }

    async fn claims(&self, settings: &OpenIdSettings, token: &str) -> Result<Claims, NotVouched> {
        let signed = Signed::of(token)?;
        let fits = |key: &keys::Key| key.fits(signed.key.as_deref(), signed.algorithm);
        let keys = self.keys.find(settings, fits).await?;
        Ok(signed.read(token, &keys)?)
    }

    /// Takes a token; whether for the first time.
    fn take(&self, nonce: &str) -> Result<bool, NotVouched> {
        let now = clock::now();
        let mut taken = self.taken.lock();
        if taken.until.get(nonce).is_some_and(|until| now < *until) {
            return Ok(false);
        }
        if taken.until.len() >= TAKEN_MAX {
            taken.until.retain(|_, until| now < *until);
        }
        if taken.until.len() >= TAKEN_MAX {
            return Err(NotVouched::Busy);
        }
        let until = now + token::remember_for() + Duration::from_secs(1);
        taken.until.insert(nonce.to_owned(), until);
        Ok(true)
    }

    /// The user of this host whom the claims mean.
    async fn user(
        &self,
        settings: &OpenIdSettings,
        claims: &Claims,
    ) -> Result<Arc<Identity>, NotVouched> {
        let name = login_name(settings, claims)?;
        let lost = |error: LookupError| match error {
            LookupError::Down(why) => NotVouched::UsersDown(why),
            LookupError::Unknown(_) | LookupError::BadName(_) => {
                NotVouched::NoUser(name.to_string())
            }
        };
        let uid = self.site.users.uid(&name).await.map_err(lost)?;
        if uid < settings.first_uid.max(1) || uid == NOBODY {
            return Err(NotVouched::System(name));
        }
        let who = self.site.identity(uid).await.map_err(lost)?;
        // What it said before is good for what somebody has, and for nothing new.
        if who.source != Source::Nss {
            return Err(NotVouched::UsersDown("it gave no answer just now".to_owned()));
        }
        let groups = &settings.allowed_groups;
        if !groups.is_empty() && !claims.has_one(&settings.groups_claim, groups) {
            return Err(NotVouched::Groups(who.user.clone()));
        }
        Ok(who)
    }
}

/// The login name in the claims.
fn login_name(settings: &OpenIdSettings, claims: &Claims) -> Result<UserName, NotVouched> {
    let claim = &settings.claim;
    let text = claims.text(claim).ok_or_else(|| NotVouched::NoClaim(claim.clone()))?;
    let name = match &settings.domain {
        Some(domain) => {
            let parts = text.rsplit_once('@').filter(|(_, end)| end.eq_ignore_ascii_case(domain));
            parts.ok_or_else(|| NotVouched::OtherDomain(printable(text)))?.0
        }
        None => text,
    };
    // Names that a cookie could not hold, or a directory may take for another's.
    let is_plain = !name.chars().any(|c| c.is_whitespace() || vsm_core::is_unprintable(c));
    let nobody = || NotVouched::NoUser(printable(text));
    if is_plain { name.parse().map_err(|_| nobody()) } else { Err(nobody()) }
}
