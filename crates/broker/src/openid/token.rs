//! What a token says, and whether it may be believed (OpenID Connect Core 1.0, 3.1.3.7). Before its signature has been
//! checked no more is taken from it than which key that is by.

use std::{collections::BTreeMap, time::Duration};

use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Value;
use vsm_core::{UnixMillis, printable};

use super::{keys::Key, signatures};

/// So far the clocks of provider and broker may be apart.
const LEEWAY: Duration = Duration::from_secs(60);
/// Oldest token: it was made for a login that goes on now.
pub(super) const AGE_MAX: Duration = Duration::from_secs(600);
/// Longest token; a browser's cookie would not take as much.
pub(super) const LENGTH_MAX: usize = 32 << 10;

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("it is no token, or none that says what it must: {0}")]
    Malformed(String),
    #[error("it is signed by {0}, which proves nothing here")]
    Algorithm(String),
    #[error("it is by no key of the provider")]
    Signature,
    #[error("it is by another issuer: {0:?}")]
    Issuer(String),
    #[error("it is for another client: {0:?}")]
    Audience(Vec<String>),
    #[error("it was given to another client: {0:?}")]
    Party(Option<String>),
    #[error("its nonce is not that of the key")]
    Nonce,
    #[error("it was taken before")]
    Taken,
    #[error("it is older than this broker's turn, so it may have been taken before")]
    BeforeTurn,
    /// By the clock.
    #[error("{0}; compare the clocks of the provider and of the brokers")]
    Time(Time),
}

/// What is wrong with its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Time {
    #[error("it has expired")]
    Expired,
    #[error("it was made in the future")]
    Future,
    #[error("it was made more than 10 minutes ago")]
    Old,
}

/// Who a token is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn all(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![printable(one)],
            Self::Several(all) => all.iter().map(|one| printable(one)).collect(),
        }
    }
}

/// What it says. Times are seconds, which may have a fraction.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    iss: String,
    pub(super) sub: String,
    aud: Audience,
    azp: Option<String>,
    pub(super) nonce: String,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What it should say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: UnixMillis,
    /// Since when this broker knows which ones were taken.
    pub(super) since: UnixMillis,
}

/// Which key has signed a token, as it says itself.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) key: Option<String>,
    pub(super) algorithm: Algorithm,
}

impl Signed {
    /// # Errors
    /// If it is no token, or signed by what proves nothing.
    pub(super) fn of(token: &str) -> Result<Self, Wrong> {
        if token.len() > LENGTH_MAX {
            return Err(Wrong::Malformed("it is too long".to_owned()));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| malformed(&error))?;
        // An extension that has to be understood is not.
        if header.extras.contains_key("crit") {
            return Err(Wrong::Malformed("it has a critical extension".to_owned()));
        }
        if !signatures::is_known(header.alg) {
            return Err(Wrong::Algorithm(format!("{:?}", header.alg)));
        }
        Ok(Self { key: header.kid, algorithm: header.alg })
    }

    /// What the token says, by one of these keys.
    ///
    /// # Errors
    /// If it is by none of them.
    pub(super) fn read(&self, token: &str, keys: &[Key]) -> Result<Claims, Wrong> {
        let mut only = Validation::new(self.algorithm);
        // All that is done here, by this program's clock, and also where a claim is not there.
        (only.validate_exp, only.validate_nbf, only.validate_aud) = (false, false, false);
        only.required_spec_claims.clear();
        let fitting = keys.iter().filter(|key| key.fits(self.key.as_deref(), self.algorithm));
        for key in fitting {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &only) {
                Ok(read) => return Ok(read.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {}
                Err(error) => return Err(malformed(&error)),
            }
        }
        Err(Wrong::Signature)
    }
}

fn malformed(error: &jsonwebtoken::errors::Error) -> Wrong {
    Wrong::Malformed(printable(&error.to_string()))
}

impl Claims {
    /// Checks it.
    ///
    /// # Errors
    /// What is wrong, the worst first.
    pub(super) fn check(&self, wanted: &Wanted<'_>) -> Result<(), Wrong> {
        let Wanted { issuer, client_id, nonce, now, since } = *wanted;
        if self.iss != issuer {
            return Err(Wrong::Issuer(printable(&self.iss)));
        }
        let for_us = match &self.aud {
            Audience::One(one) => one == client_id,
            Audience::Several(all) => all.iter().any(|one| one == client_id),
        };
        if !for_us {
            return Err(Wrong::Audience(self.aud.all()));
        }
        // Where others are meant too it has to say that it was given to us.
        let several = matches!(&self.aud, Audience::Several(all) if all.len() > 1);
        let given = self.azp.as_ref().map_or(!several, |party| party == client_id);
        if !given {
            return Err(Wrong::Party(self.azp.as_deref().map(printable)));
        }
        if self.nonce != nonce {
            return Err(Wrong::Nonce);
        }
        let seconds = |time: UnixMillis| Duration::from_millis(time.0).as_secs_f64();
        self.check_times(seconds(now)).map_err(Wrong::Time)?;
        // Seconds are what most providers tell it by: one of the same second is let through.
        if self.iat < seconds(since).floor() {
            return Err(Wrong::BeforeTurn);
        }
        Ok(())
    }

    fn check_times(&self, now: f64) -> Result<(), Time> {
        let leeway = LEEWAY.as_secs_f64();
        if self.exp + leeway <= now {
            return Err(Time::Expired);
        }
        if self.iat > now + leeway || self.nbf.is_some_and(|from| from > now + leeway) {
            return Err(Time::Future);
        }
        if self.iat + AGE_MAX.as_secs_f64() + leeway < now {
            return Err(Time::Old);
        }
        Ok(())
    }

    /// A claim that is a text; that of `email` only where the provider has verified it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match name {
            "sub" => Some(&self.sub),
            "email" if self.others.get("email_verified") != Some(&Value::Bool(true)) => None,
            _ => self.others.get(name)?.as_str(),
        }
    }

    /// Whether a claim is one of these texts, or a list that has one.
    pub(super) fn has_one(&self, name: &str, of: &[String]) -> bool {
        let is_one =
            |value: &Value| value.as_str().is_some_and(|text| of.iter().any(|one| one == text));
        match self.others.get(name) {
            Some(Value::Array(all)) => all.iter().any(is_one),
            Some(one) => is_one(one),
            None => false,
        }
    }
}

/// So long one that was taken could be taken again.
pub(super) const fn remember_for() -> Duration {
    Duration::from_secs(AGE_MAX.as_secs() + 2 * LEEWAY.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is wrong with good claims at second 10,000 of which some are others; null = it is not there.
    fn wrong(others: &Value) -> Option<Wrong> {
        let mut all = json!({
            "iss": "https://a", "sub": "1", "aud": ["vsm"], "nonce": "n", "iat": 10_000, "exp": 10_300,
        });
        for (name, value) in others.as_object().unwrap() {
            all[name] = value.clone();
        }
        let claims: Claims = serde_json::from_value(all).unwrap();
        let wanted = Wanted {
            issuer: "https://a",
            client_id: "vsm",
            nonce: "n",
            now: UnixMillis(10_000_000),
            since: UnixMillis(9_000),
        };
        claims.check(&wanted).err()
    }

    #[test]
    fn each_wrong_thing_has_its_name() {
        assert_eq!(wrong(&json!({})), None);
        assert_eq!(
            wrong(&json!({ "iss": "https://b" })),
            Some(Wrong::Issuer("https://b".to_owned()))
        );
        assert_eq!(wrong(&json!({ "aud": "b" })), Some(Wrong::Audience(vec!["b".to_owned()])));
        assert_eq!(wrong(&json!({ "aud": ["vsm", "b"] })), Some(Wrong::Party(None)));
        assert_eq!(wrong(&json!({ "aud": ["vsm", "b"], "azp": "vsm" })), None);
        assert_eq!(wrong(&json!({ "azp": "b" })), Some(Wrong::Party(Some("b".to_owned()))));
        assert_eq!(wrong(&json!({ "nonce": "m" })), Some(Wrong::Nonce));
        // What a terminal would obey is shown in no log.
        let Some(Wrong::Issuer(shown)) = wrong(&json!({ "iss": "a\u{1b}[2J" })) else { panic!() };
        assert!(!shown.contains('\u{1b}'));
    }

    #[test]
    fn clocks_may_be_a_minute_apart() {
        for (others, time) in [
            (json!({ "exp": 9_941 }), None),
            (json!({ "exp": 9_940 }), Some(Time::Expired)),
            (json!({ "iat": 10_060 }), None),
            (json!({ "iat": 10_060.5 }), Some(Time::Future)),
            (json!({ "nbf": 10_060 }), None),
            (json!({ "nbf": 10_061 }), Some(Time::Future)),
            (json!({ "iat": 9_340 }), None),
            (json!({ "iat": 9_339 }), Some(Time::Old)),
            (json!({ "iat": -1e300 }), Some(Time::Old)),
            (json!({ "exp": 1e300 }), None),
        ] {
            assert_eq!(wrong(&others), time.map(Wrong::Time), "{others}");
        }
    }

    #[test]
    fn what_another_broker_may_have_taken_is_not_taken_again() {
        let claims: Claims = serde_json::from_value(json!({
            "iss": "a", "sub": "1", "aud": "b", "nonce": "n", "iat": 1000, "exp": 2000,
        }))
        .unwrap();
        let check = |since| {
            let now = UnixMillis(1_100_000);
            let since = UnixMillis(since);
            claims.check(&Wanted { issuer: "a", client_id: "b", nonce: "n", now, since })
        };
        assert_eq!(check(1_000_999), Ok(()), "the same second");
        assert_eq!(check(1_001_000), Err(Wrong::BeforeTurn));
    }

    #[test]
    fn a_claim_is_a_text_and_a_mail_address_only_where_it_is_verified() {
        let claims: Claims = serde_json::from_value(json!({
            "iss": "a", "sub": "s", "aud": "b", "nonce": "n", "iat": 1, "exp": 2,
            "name": "x", "number": 1, "email": "x@y", "groups": ["a", 1, "b"],
        }))
        .unwrap();
        assert_eq!(claims.text("sub"), Some("s"));
        assert_eq!(claims.text("name"), Some("x"));
        for none in ["number", "email", "other", "groups"] {
            assert_eq!(claims.text(none), None, "{none}");
        }
        let of =
            |groups: &[&str]| groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>();
        assert!(claims.has_one("groups", &of(&["z", "b"])) && claims.has_one("name", &of(&["x"])));
        assert!(!claims.has_one("groups", &of(&["z"])) && !claims.has_one("other", &of(&["a"])));
    }
}
