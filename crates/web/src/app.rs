//! What all requests share.

use std::sync::Arc;

use parking_lot::RwLock;
use vsm_daemon::share::Shares;

use crate::{
    limit::KeyLogins, login::Logins, openid::OpenId, settings::Settings, viewing::Viewing,
};

/// Pages of administrators that change by themselves, from one address and in all: each holds a connection to sshd.
const LIVE_OF_ADDRESS_MAX: usize = 32;
const LIVE_MAX: usize = 200;

/// Nothing of it is about somebody who is logged in: that is in their browsers.
#[derive(Debug)]
pub(crate) struct App {
    settings: RwLock<Arc<Settings>>,
    /// Logins under way.
    pub(crate) logins: Logins,
    /// What stands before logins by browsers' keys.
    pub(crate) keys: KeyLogins,
    /// Desktops that are shown.
    pub(crate) viewing: Viewing,
    /// Pages of administrators that change by themselves, at a time.
    pub(crate) live: Arc<Shares>,
    /// What is known of the OpenID provider.
    pub(crate) openid: OpenId,
}

impl App {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            logins: Logins::new(),
            keys: KeyLogins::new(),
            viewing: Viewing::default(),
            live: live(),
            openid: OpenId::default(),
        })
    }

    /// As they are now; a reload changes them for what begins later.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Takes others.
    pub(crate) fn take(&self, settings: Settings) {
        *self.settings.write() = Arc::new(settings);
    }
}

fn live() -> Arc<Shares> {
    Shares::new("live pages", LIVE_OF_ADDRESS_MAX, LIVE_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use vsm_daemon::share::Who;

    use super::*;

    #[test]
    fn live_pages_are_shared_by_address() {
        let live = live();
        let address = |last: u8| Who::Address(IpAddr::from([10, 0, 0, last]));
        let held: Vec<_> = std::iter::from_fn(|| live.take(address(1))).collect();
        assert_eq!(held.len(), LIVE_OF_ADDRESS_MAX);
        assert!(live.take(address(2)).is_some());
    }
}
