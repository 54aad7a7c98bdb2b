//! A login that is done. All of it is in the browser: who, and the private half of the key that the broker accepts.
//! Nothing of it is kept here, so another host can take over.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::ssh::SEED;

/// Its name. By its beginning browsers take it from a secure page alone, and give it to no other host.
const NAME: &str = "__Host-vsm";
/// Longest value: names are much shorter.
const LENGTH_MAX: usize = 1024;
/// Longest name of a user.
pub(crate) const USER_MAX: usize = 256;

/// What it says.
#[derive(Clone)]
pub(crate) struct Cookie {
    /// Whose login it is, as they gave it.
    pub(crate) user: String,
    /// Which web key.
    pub(crate) id: Uuid,
    /// Its private half.
    pub(crate) seed: Zeroizing<[u8; SEED]>,
}

impl Cookie {
    /// What the browser brings; none = nothing, or nothing that we gave it.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::read(value(headers, NAME)?)
    }

    fn read(value: &str) -> Option<Self> {
        if value.len() > LENGTH_MAX {
            return None;
        }
        let mut parts = value.split('.');
        let mut next = || BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok();
        let (user, id, seed) = (next()?, next()?, Zeroizing::new(next()?));
        let user = String::from_utf8(user).ok().filter(|user| is_name(user))?;
        let mut whole = Zeroizing::new([0; SEED]);
        if parts.next().is_some() || seed.len() != SEED {
            return None;
        }
        whole.copy_from_slice(&seed);
        Some(Self { user, id: Uuid::from_slice(&id).ok()?, seed: whole })
    }

    /// The header that gives it to a browser, for so long.
    pub(crate) fn set(&self, life: Duration) -> String {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (user, id) = (part(self.user.as_bytes()), part(self.id.as_bytes()));
        let seed = part(self.seed.as_slice());
        let seconds = life.as_secs();
        format!(
            "{NAME}={user}.{id}.{seed}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict"
        )
    }

    /// The header that takes it away.
    pub(crate) fn unset() -> String {
        format!("{NAME}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
    }
}

/// The value of a cookie; none = the browser brings none of this name.
pub(crate) fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Whether this can be somebody's name: sshd, PAM and logs get it as it is.
pub(crate) fn is_name(user: &str) -> bool {
    (1..=USER_MAX).contains(&user.len())
        && !user.starts_with('-')
        && !user.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Cookie> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, line.parse().unwrap());
        Cookie::of(&headers)
    }

    fn value(cookie: &Cookie) -> String {
        let set = cookie.set(Duration::from_secs(60));
        set.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn what_a_browser_is_given_it_brings_back() {
        let given = Cookie {
            user: "alice@example.org".to_owned(),
            id: Uuid::from_u128(7),
            seed: Zeroizing::new([9; SEED]),
        };
        let line = format!("other=1; {}; more=2", value(&given));
        let read = read(&line).unwrap();
        assert_eq!((read.user, read.id), (given.user, given.id));
        assert_eq!(*read.seed, [9; SEED]);
    }

    #[test]
    fn what_we_did_not_give_is_none() {
        let cookie =
            Cookie { user: "alice".to_owned(), id: Uuid::nil(), seed: Zeroizing::new([1; SEED]) };
        let good = value(&cookie);
        assert!(read(&good).is_some());
        for bad in [
            good[..good.len() - 1].to_owned(),
            good.clone() + ".AA",
            good.replace("__Host-vsm", "vsm"),
            good.replace("__Host-vsm=", "__Host-vsm=x"),
            "__Host-vsm=".to_owned(),
            "__Host-vsm=..".to_owned(),
            format!("__Host-vsm={}", "A".repeat(2000)),
        ] {
            assert!(read(&bad).is_none(), "{bad}");
        }
        let named = |user: &str| value(&Cookie { user: user.to_owned(), ..cookie.clone() });
        assert!(read(&named("-oProxyCommand=x")).is_none());
        assert!(read(&named("a\nb")).is_none());
        assert!(read(&named("a b")).is_none());
        assert!(read(&named("müller")).is_some());
    }
}
