//! The keys by which a provider signs: from a file of the site's, or as the provider says. They are kept for a while,
//! and asked for anew when a token names one that is not among them, as after the provider has changed its key.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use tokio::sync::Mutex;
use vsm_daemon::{
    clock,
    https::{Https, HttpsError},
    openid::{self, ProviderError},
};

use crate::site::openid::OpenIdSettings;

/// So long keys count that were fetched.
const KEEP: Duration = Duration::from_secs(3600);
/// A key that is not known has them fetched at most so often: whoever has tokens refused does not have us ask all day.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// One that cannot be asked is asked again after so long: not by each who waits for it.
const AWAY: Duration = Duration::from_secs(3);
/// Keys of one provider; it has one, or two while it changes them.
const KEYS_MAX: usize = 64;
/// Longest file of keys.
const FILE_MAX: u64 = 256 << 10;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKeys {
    /// The provider does not say.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It could not be asked at all.
    #[error("the OpenID provider cannot be asked: {0} (/vsmserver/openid/ca_file)")]
    Https(#[from] HttpsError),
    /// The site's file cannot be read.
    #[error("/vsmserver/openid/keys_file: {path}: {source}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It was asked a moment ago.
    #[error("{0}")]
    Lately(Arc<Self>),
    /// There is none that could sign a token.
    #[error("the OpenID provider has no key by which a token could be signed")]
    None,
}

/// A key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its name, if it has one.
    pub(super) id: Option<String>,
    /// The only algorithm that it is for, if it says one.
    only: Option<String>,
    pub(super) key: DecodingKey,
}

impl Key {
    /// None = it signs nothing, or we could not tell.
    fn of(value: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs = match &jwk.common.public_key_use {
            Some(PublicKeyUse::Signature) | None => true,
            Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
        };
        // A secret that somebody has published by mistake would let everybody sign.
        let is_public = !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        if !signs || !is_public {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let only = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
        Some(Self { id: jwk.common.key_id, only, key })
    }

    /// Whether it may have signed by this algorithm, with a name or without one.
    pub(super) fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let is_rsa = matches!(self.key.kind(), DecodingKeyKind::RsaModulusExponent { .. });
        let wants_rsa = format!("{algorithm:?}").starts_with(['R', 'P']);
        let named = id.is_none_or(|id| self.id.as_deref() == Some(id));
        let only = self.only.as_ref().is_none_or(|only| *only == format!("{algorithm:?}"));
        named && only && is_rsa == wants_rsa
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    fn read(self) -> Result<Arc<[Key]>, NoKeys> {
        let keys: Arc<[Key]> = self.keys.into_iter().take(KEYS_MAX).filter_map(Key::of).collect();
        if keys.is_empty() { Err(NoKeys::None) } else { Ok(keys) }
    }
}

/// Those that were fetched.
#[derive(Debug, Default)]
pub(super) struct Keys {
    fetched: Mutex<Option<Fetched>>,
}

#[derive(Debug)]
struct Fetched {
    issuer: String,
    at: Instant,
    keys: Result<Arc<[Key]>, Arc<NoKeys>>,
}

impl Fetched {
    /// What it says, if it still counts for whom none of the keys fits, or one.
    fn counts(&self, fits: impl Fn(&Key) -> bool) -> Option<Result<Arc<[Key]>, NoKeys>> {
        let age = clock::now().duration_since(self.at);
        match &self.keys {
            Ok(keys) if age < ASK_EVERY || age < KEEP && keys.iter().any(fits) => {
                Some(Ok(Arc::clone(keys)))
            }
            Err(why) if age < AWAY => Some(Err(NoKeys::Lately(Arc::clone(why)))),
            Ok(_) | Err(_) => None,
        }
    }
}

impl Keys {
    /// The keys; where `fits` finds none of those that are kept, they are fetched anew.
    pub(super) async fn find(
        &self,
        settings: &OpenIdSettings,
        fits: impl Fn(&Key) -> bool,
    ) -> Result<Arc<[Key]>, NoKeys> {
        if let Some(path) = &settings.keys_file {
            return of_file(path.clone()).await;
        }
        // One fetches, and the others wait for what it brings.
        let mut fetched = self.fetched.lock().await;
        let kept = fetched.as_ref().filter(|kept| kept.issuer == settings.issuer);
        if let Some(counts) = kept.and_then(|kept| kept.counts(fits)) {
            return counts;
        }
        let keys = fetch(settings).await.map_err(Arc::new);
        let count = keys.as_ref().map_or(0, |keys| keys.len());
        tracing::info!(issuer = settings.issuer, count, "asked the OpenID provider for its keys");
        let (issuer, at) = (settings.issuer.clone(), clock::now());
        *fetched = Some(Fetched { issuer, at, keys: keys.clone() });
        keys.map_err(NoKeys::Lately)
    }
}

async fn fetch(settings: &OpenIdSettings) -> Result<Arc<[Key]>, NoKeys> {
    // The authorities may have changed since the last time, which is seldom.
    let https = Https::new(&settings.ca_file)?;
    let provider = openid::discover(&https, &settings.issuer).await?;
    openid::get::<KeySet>(&https, &provider.jwks_uri).await?.read()
}

async fn of_file(path: PathBuf) -> Result<Arc<[Key]>, NoKeys> {
    use std::io::{Error, Read as _};
    let file = path.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        std::fs::File::open(&file)?.take(FILE_MAX).read_to_end(&mut text)?;
        serde_json::from_slice::<KeySet>(&text).map_err(Error::from)
    });
    let read = read.await.unwrap_or_else(|error| Err(Error::other(error)));
    read.map_err(|source| NoKeys::File { path, source })?.read()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(others: &serde_json::Value) -> serde_json::Value {
        let mut all = json!({ "kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB" });
        for (name, value) in others.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    }

    #[test]
    fn a_key_counts_for_what_it_is_for() {
        let key = Key::of(rsa(&json!({}))).unwrap();
        for (id, algorithm, fits) in [
            (Some("one"), Algorithm::RS256, true),
            (None, Algorithm::PS512, true),
            (Some("two"), Algorithm::RS256, false),
            (Some("one"), Algorithm::ES256, false),
            (Some("one"), Algorithm::EdDSA, false),
            (Some("one"), Algorithm::HS256, false),
        ] {
            assert_eq!(key.fits(id, algorithm), fits, "{id:?} {algorithm:?}");
        }
        let only = Key::of(rsa(&json!({ "alg": "RS512", "use": "sig" }))).unwrap();
        assert!(only.fits(None, Algorithm::RS512) && !only.fits(None, Algorithm::RS256));
        let point = json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA" });
        let point = Key::of(point).unwrap();
        assert!(point.fits(None, Algorithm::ES256) && !point.fits(None, Algorithm::RS256));
        for none in [
            rsa(&json!({ "use": "enc" })),
            json!({ "kty": "oct", "kid": "one", "k": "AAAA" }),
            json!({ "kty": "new", "kid": "one" }),
            json!({ "kty": "RSA", "kid": "one" }),
            json!(7),
        ] {
            assert!(Key::of(none.clone()).is_none(), "{none}");
        }
    }

    /// One that is not known has the provider asked, and not by each who hands in nonsense.
    #[test]
    fn keys_are_asked_for_anew_when_none_fits_and_not_all_the_time() {
        let mut fetched = Fetched {
            issuer: String::new(),
            at: clock::now(),
            keys: Ok([Key::of(rsa(&json!({}))).unwrap()].into()),
        };
        let counts = |fetched: &Fetched, id: &'static str| {
            fetched.counts(|key| key.fits(Some(id), Algorithm::RS256)).is_some()
        };
        let ago = |age: Duration| clock::now().checked_sub(age).unwrap();
        assert!(counts(&fetched, "one") && counts(&fetched, "two"), "just asked");
        fetched.at = ago(ASK_EVERY);
        assert!(counts(&fetched, "one") && !counts(&fetched, "two"), "there may be a new one");
        fetched.at = ago(KEEP);
        assert!(!counts(&fetched, "one"), "it may be gone");
        fetched.keys = Err(Arc::new(NoKeys::None));
        assert!(!counts(&fetched, "one"));
        fetched.at = clock::now();
        assert!(counts(&fetched, "one"), "it was away a moment ago");
    }
}
