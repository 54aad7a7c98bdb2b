//! What all requests share.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::{limit::KeyLogins, login::Logins, openid::OpenId, settings::Settings};

/// Nothing of it is about somebody who is logged in: that is in their browsers.
#[derive(Debug)]
pub(crate) struct App {
    settings: RwLock<Arc<Settings>>,
    /// Logins under way.
    pub(crate) logins: Logins,
    /// What stands before logins by browsers' keys.
    pub(crate) keys: KeyLogins,
    /// What is known of the OpenID provider.
    pub(crate) openid: OpenId,
}

impl App {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            logins: Logins::new(),
            keys: KeyLogins::new(),
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
