//! The helper's own reading of the configuration: in files that are root's, never what a request says.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use vsm_config::{Config, LoadError, Looks};

/// The configuration as the files have it.
#[derive(Debug)]
pub(crate) struct Settings {
    dir: PathBuf,
    /// The last good one, and how the files looked then.
    known: Mutex<(Looks, Arc<Config>)>,
}

impl Settings {
    /// Reads the files of `dir`.
    ///
    /// # Errors
    /// If they are bad.
    pub(crate) fn load(dir: &Path) -> Result<Self, LoadError> {
        let looks = vsm_config::looks(dir);
        let known = Mutex::new((looks.unwrap_or_default(), Arc::new(Config::load(dir)?)));
        Ok(Self { dir: dir.to_owned(), known })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// As the files are now. Where they are bad the last good one holds, as for the broker.
    pub(crate) fn now(&self) -> Arc<Config> {
        let mut known = self.known.lock();
        let looks = vsm_config::looks(&self.dir).unwrap_or_default();
        if looks != known.0 {
            match Config::load(&self.dir) {
                Ok(config) => *known = (looks, Arc::new(config)),
                Err(error) => {
                    tracing::warn!(%error, "the configuration is bad; the last good one holds");
                    // Told once; looked at again when the files change.
                    known.0 = looks;
                }
            }
        }
        Arc::clone(&known.1)
    }
}
