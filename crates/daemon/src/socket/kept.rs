//! A socket that stays: where somebody takes it away it is opened again. Nobody who calls would be heard otherwise, and
//! all else seem to be well.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::{Interval, MissedTickBehavior},
};

use super::{Access, SocketError, listen};

/// How often it is looked whether a socket is still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A listener, and how its socket is opened again.
pub struct Kept<F> {
    listener: UnixListener,
    path: PathBuf,
    open: F,
    looks: Interval,
    told: bool,
}

/// One that is opened again as it was opened.
pub type Plain = Kept<Box<dyn Fn() -> Result<UnixListener, SocketError> + Send>>;

impl<F> fmt::Debug for Kept<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.path).finish()
    }
}

/// Opens the socket at `path`, and again whenever it is gone; must be called within a tokio runtime.
///
/// # Errors
/// As [`listen`].
pub fn keep(path: &Path, access: Access) -> Result<Plain, SocketError> {
    let at = path.to_owned();
    Ok(Kept::new(listen(path, access)?, path.to_owned(), Box::new(move || listen(&at, access))))
}

impl<E: fmt::Display, F: Fn() -> Result<UnixListener, E>> Kept<F> {
    /// On a socket that is open already; `open` opens it again.
    pub fn new(listener: UnixListener, path: PathBuf, open: F) -> Self {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { listener, path, open, looks, told: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next caller. It may be dropped at any moment without losing one.
    ///
    /// # Errors
    /// What the system says: of a lack of descriptors, most likely.
    pub async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                biased;
                _ = self.looks.tick() => {}
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
            }
            self.look();
        }
    }

    fn look(&mut self) {
        if self.path.symlink_metadata().is_ok() {
            return;
        }
        let socket = self.path.display();
        match (self.open)() {
            Ok(again) => {
                tracing::warn!(%socket, "it was taken away, and is there again");
                (self.listener, self.told) = (again, false);
            }
            Err(error) if !self.told => {
                tracing::warn!(%socket, %error, "it was taken away");
                self.told = true;
            }
            Err(_) => {}
        }
    }
}
