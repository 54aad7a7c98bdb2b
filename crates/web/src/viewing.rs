//! Desktops that are shown at this moment, by a number that only their pages know. Files go along with a desktop: what
//! moves them is let in for it, and ends with it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{door::Visitor, error::Refused, files::Files, limit::KeyLogins, settings::Settings};

/// Files of one desktop that are on their way at a time: to the host, where others wait, and from it.
const TRANSFERS_MAX: usize = 4;
const FETCHES_MAX: usize = 8;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Viewing(Mutex<HashMap<Uuid, Arc<Shown>>>);

/// One.
#[derive(Debug)]
pub(crate) struct Shown {
    /// By which login.
    login: Uuid,
    session: String,
    files: OnceCell<Arc<Files>>,
    /// Places for files that come.
    pub(crate) transfers: Semaphore,
    /// Places for files that go: each has some hundred KiB here.
    pub(crate) fetches: Arc<Semaphore>,
    /// Ends with the desktop's connection.
    pub(crate) gone: CancellationToken,
}

/// Held as long as a desktop is shown.
pub(crate) struct Held<'a> {
    viewing: &'a Viewing,
    id: Uuid,
    _gone: DropGuard,
}

impl Viewing {
    /// A desktop is shown, by this login; its number is [`Held::id`].
    pub(crate) fn enter(&self, login: Uuid, session: &str) -> Held<'_> {
        let (id, gone) = (Uuid::new_v4(), CancellationToken::new());
        let shown = Shown {
            login,
            session: session.to_owned(),
            files: OnceCell::new(),
            transfers: Semaphore::new(TRANSFERS_MAX),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            gone: gone.clone(),
        };
        self.0.lock().insert(id, Arc::new(shown));
        Held { viewing: self, id, _gone: gone.drop_guard() }
    }

    /// The one with this number, if it is shown by this login.
    pub(crate) fn find(&self, id: Uuid, login: Uuid) -> Option<Arc<Shown>> {
        self.0.lock().get(&id).filter(|shown| shown.login == login).cloned()
    }
}

impl Held<'_> {
    pub(crate) const fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.viewing.0.lock().remove(&self.id);
    }
}

impl Shown {
    /// The files of its user; opened when they are first asked for.
    pub(crate) async fn files(
        &self,
        settings: &Settings,
        keys: &KeyLogins,
        visitor: Visitor<'_>,
    ) -> Result<Arc<Files>, Refused> {
        let open = || Files::open(settings, keys, visitor, &self.session);
        let files = self.files.get_or_try_init(async || Ok(Arc::new(open().await?))).await;
        files.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desktop_is_found_by_its_own_login_as_long_as_it_is_shown() {
        let viewing = Viewing::default();
        let [alice, bob] = [1, 2].map(Uuid::from_u128);
        let held = viewing.enter(alice, "session");
        let id = held.id();
        let shown = viewing.find(id, alice).unwrap();
        assert!(viewing.find(id, bob).is_none());
        assert!(viewing.find(Uuid::nil(), alice).is_none());
        assert!(!shown.gone.is_cancelled());
        drop(held);
        assert!(viewing.find(id, alice).is_none());
        assert!(shown.gone.is_cancelled());
    }
}
