//! What all requests share.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::{
    limit::KeyLogins, login::Logins, openid::OpenId, settings::Settings, viewing::Viewing,
};

/// Each holds a connection to sshd: so many administrators have a page open, and some have several.
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
    pub(crate) live: Arc<Semaphore>,
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
            live: Arc::new(Semaphore::new(LIVE_MAX)),
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
