//! Reloading by itself when a configuration file changes (`/vsmserver/watch_config`).
//!
//! The folder is looked at now and then, which also works where the kernel tells nothing, as on a network file system.

use std::{io, sync::Arc, time::Duration};

use vsm_config::Looks;

use crate::{journal::trail::SELF, reload::Reloader};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reloads whenever a file has changed, while the parameter says so, until the broker stops.
pub(crate) async fn follow(reloader: Arc<Reloader>) {
    let mut settings = reloader.site.watch_settings();
    loop {
        let mut is = async |on| settings.wait_for(|now| now.watch_config == on).await.is_ok();
        if reloader.process.stop.run_until_cancelled(is(true)).await != Some(true) {
            return;
        }
        tokio::select! {
            biased;
            () = reloader.process.stop.cancelled() => return,
            known = is(false) => if !known { return },
            () = watch(&reloader) => {}
        }
    }
}

async fn watch(reloader: &Arc<Reloader>) {
    let mut taken = looks(reloader).await;
    let mut before = taken.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = looks(reloader).await;
        // Editors and package managers touch files several times: they are read when they have been left alone.
        if now == before && now != taken {
            // It has logged why not. A bad one is not tried again before it changes.
            let _ = reloader.reload(SELF).await;
            taken.clone_from(&now);
        }
        before = now;
    }
}

/// How the files look; a folder that cannot be read looks like an empty one.
async fn looks(reloader: &Arc<Reloader>) -> Looks {
    let dir = reloader.dir().to_owned();
    let looked = tokio::task::spawn_blocking(move || vsm_config::looks(&dir));
    looked.await.map_err(io::Error::other).and_then(|looks| looks).unwrap_or_default()
}
