//! What all requests share.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::{limit::KeyLogins, login::Logins, settings::Settings, viewing::Viewing};

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
}

impl App {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            logins: Logins::new(),
            keys: KeyLogins::new(),
            viewing: Viewing::default(),
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
