//! What the configuration means: values made of it as a whole, asked without waiting for anything. It knows neither
//! the table nor any host.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`] | all of it, replaced as a whole on reload |
//! | [`subclusters`] | which subcluster a user belongs to |
//! | [`lifetimes`] | which limits a user's desktops have |
//! | [`openid`] | whose word counts beside sshd's, and whom it means |
//! | [`members`] | who is named by a list of users and groups |

pub mod lifetimes;
pub mod members;
pub mod openid;
pub mod settings;
pub mod subclusters;

use std::sync::Arc;

use tokio::sync::watch;

use crate::users::{Identity, LookupError, Users};
use settings::Settings;

/// The site as it is configured now, and its users.
#[derive(Debug)]
pub struct Site {
    settings: watch::Sender<Arc<Settings>>,
    /// Who uids are.
    pub users: Arc<Users>,
}

impl Site {
    /// With the settings that hold at first.
    #[must_use]
    pub fn new(settings: Settings, users: Users) -> Self {
        Self { settings: watch::Sender::new(Arc::new(settings)), users: Arc::new(users) }
    }

    /// The settings that hold now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Follows the settings.
    pub(crate) fn watch_settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// Replaces the settings as a whole.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// Who a uid is, and in which of the groups that the configuration names.
    ///
    /// # Errors
    /// See [`Users::identity`].
    pub async fn identity(&self, uid: u32) -> Result<Arc<Identity>, LookupError> {
        self.users.identity(uid, self.settings().named_groups()).await
    }
}
