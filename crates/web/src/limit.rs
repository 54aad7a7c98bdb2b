//! How often somebody may try to log in: by the address that they come from, and by the name that they give. sshd sees
//! this host alone, so its own penalties cannot tell one from the other.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use vsm_daemon::{clock, share::network};

/// Logins that may begin at once from one address, and so many more in each minute; a network behind one address has
/// many users.
const OF_ADDRESS: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// The same with one name: somebody who mistypes, in several windows.
const OF_NAME: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Keys that sshd is shown at one time; with all forms that wait it is below the package's `MaxStartups`.
const KEYS_MAX: usize = 200;
/// Keys of one address that may be refused at once and in each minute, and how long the address waits after more.
const REFUSED_OF_ADDRESS: NonZeroU32 = NonZeroU32::new(60).unwrap();
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// So many attempts, and what is not needed any more is forgotten.
const TIDY_EVERY: u32 = 1024;

/// Two buckets of attempts.
#[derive(Debug)]
pub(crate) struct Limits {
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    names: DefaultKeyedRateLimiter<String>,
    count: AtomicU32,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self {
            addresses: DefaultKeyedRateLimiter::keyed(Quota::per_minute(OF_ADDRESS)),
            names: DefaultKeyedRateLimiter::keyed(Quota::per_minute(OF_NAME)),
            count: AtomicU32::new(0),
        }
    }

    /// Whether one more may come from there whose name is not known yet.
    pub(crate) fn may_come(&self, address: IpAddr) -> bool {
        self.addresses.check_key(&network(address)).is_ok()
    }

    /// Whether one more attempt may be made.
    pub(crate) fn may_try(&self, address: IpAddr, name: &str) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.addresses.retain_recent();
            self.names.retain_recent();
        }
        // One who may try no more does not use up what others' names have. Names as sshd may take them for the same.
        self.addresses.check_key(&network(address)).is_ok()
            && self.names.check_key(&name.to_lowercase()).is_ok()
    }
}

/// What stands before logins by the keys that browsers bring: whoever forges one costs sshd a login.
#[derive(Debug)]
pub(crate) struct KeyLogins {
    /// Those that are looked at now.
    places: Semaphore,
    refused: DefaultKeyedRateLimiter<IpAddr>,
    /// Addresses of which too many were refused, and until when they wait.
    waiting: Mutex<HashMap<IpAddr, Instant>>,
}

impl KeyLogins {
    pub(crate) fn new() -> Self {
        Self {
            places: Semaphore::new(KEYS_MAX),
            refused: DefaultKeyedRateLimiter::keyed(Quota::per_minute(REFUSED_OF_ADDRESS)),
            waiting: Mutex::default(),
        }
    }

    /// A place to look at a key, for as long as it is held; none = this address has to wait.
    pub(crate) async fn place(&self, address: IpAddr) -> Option<SemaphorePermit<'_>> {
        let until = self.waiting.lock().get(&network(address)).copied();
        if until.is_some_and(|until| clock::now() < until) {
            return None;
        }
        // It is never closed.
        self.places.acquire().await.ok()
    }

    /// A key was refused.
    pub(crate) fn refused(&self, address: IpAddr) {
        let address = network(address);
        if self.refused.check_key(&address).is_err() {
            self.refused.retain_recent();
            let mut waiting = self.waiting.lock();
            waiting.retain(|_, until| clock::now() < *until);
            waiting.insert(address, clock::now() + REFUSED_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn one_name_is_bounded_from_wherever_it_is_tried() {
        let limits = Limits::new();
        let may = |last| limits.may_try(address(last), "Alice");
        assert!((0..10).all(may));
        assert!((10..20).all(|last| !may(last)));
        assert!(!limits.may_try(address(30), "alice"));
        assert!(limits.may_try(address(30), "bob"));
    }

    #[tokio::test]
    async fn an_address_with_too_many_bad_keys_waits_and_others_do_not() {
        let keys = KeyLogins::new();
        for _ in 0..60 {
            keys.refused(address(1));
        }
        assert!(keys.place(address(1)).await.is_some());
        keys.refused(address(1));
        assert!(keys.place(address(1)).await.is_none());
        assert!(keys.place(address(2)).await.is_some());
    }

    #[test]
    fn one_address_is_bounded_with_whatever_names() {
        let limits = Limits::new();
        let may = |number: u32| limits.may_try(address(1), &format!("user{number}"));
        assert!((0..30).all(may));
        assert!(!may(31));
        assert!(limits.may_try(address(2), "user31"));
        // A network of IPv6 is one.
        let within = |last: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + last));
        assert_eq!(network(within(1)), network(within(u128::from(u64::MAX))));
    }
}
