//! The promise: the highest epoch that this agent has served. A broker below it has been replaced and may not act.
//!
//! `STATE_DIR/promise` holds it, durable before anyone is answered by it. Whoever acts holds a [`Permit`] while they
//! do, so that no higher promise can be given between the check and the deed.
//!
//! A damaged promise is moved to `promise.damaged`, and as long as that file is there the agent changes nothing: what
//! it had promised is unknown, and serving a broker that was replaced is worse than not serving. Desktops go on and
//! look-ups are answered. The administrator, who knows which broker is active, removes the file and restarts the agent.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, RwLockReadGuard};
use tonic::Status;
use vsm_core::{Epoch, Fence, LineageId};

use crate::record;

const FILE: &str = "promise";
const DAMAGED: &str = "promise.damaged";
const VERSION: u32 = 1;

/// What is promised, and to which table's brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promise {
    pub(super) epoch: Epoch,
    pub(super) lineage: LineageId,
}

/// The file: a promise that a flipped bit cannot change into another.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    promise: Promise,
    checksum: u64,
}

/// FNV-1a over what counts.
fn checksum(promise: &Promise) -> u64 {
    let text = format!("{VERSION} {} {}", promise.epoch, promise.lineage);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[derive(Debug)]
enum State {
    Known(Option<Promise>),
    Damaged(PathBuf),
}

/// Why a call is not served.
#[derive(Debug)]
pub(super) enum Denied {
    /// To a higher epoch was promised.
    Fenced(Epoch),
    /// Not to be served at all.
    Status(Status),
}

/// The right to act now. Nothing higher is promised while it is held.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    _held: RwLockReadGuard<'a, State>,
}

/// Keeps the promise.
#[derive(Debug)]
pub(super) struct FenceKeeper {
    path: PathBuf,
    state: RwLock<State>,
}

impl FenceKeeper {
    /// Reads the promise.
    pub(super) fn load(state_dir: &Path) -> io::Result<Self> {
        let (path, damaged) = (state_dir.join(FILE), state_dir.join(DAMAGED));
        let state = if damaged.exists() {
            State::Damaged(damaged)
        } else if !path.exists() {
            State::Known(None)
        } else {
            match read(&path) {
                Ok(promise) => State::Known(Some(promise)),
                Err(error) => {
                    fs::rename(&path, &damaged)?;
                    tracing::error!(%error, moved_to = %damaged.display(), "the promise cannot be read");
                    State::Damaged(damaged)
                }
            }
        };
        if let State::Damaged(file) = &state {
            tracing::error!(
                file = %file.display(),
                "starts and ends are refused: make sure that no replaced broker runs, remove the file, restart vsmagent"
            );
        }
        Ok(Self { path, state: RwLock::new(state) })
    }

    /// The promise now.
    pub(super) async fn promise(&self) -> Option<Promise> {
        match &*self.state.read().await {
            State::Known(promise) => promise.clone(),
            State::Damaged(_) => None,
        }
    }

    /// Lets a broker act, promising to it first if its epoch is higher than any before. `is_empty` tells whether no
    /// session of the old lineage is left, so that another may take the agent over.
    pub(super) async fn admit(
        &self,
        fence: &Fence,
        is_empty: impl Fn() -> bool + Send,
    ) -> Result<Permit<'_>, Denied> {
        // Twice at most in practice; each round that fails means that the promise has grown.
        loop {
            let held = self.state.read().await;
            let State::Known(promise) = &*held else { return Err(Denied::Status(damaged(&held))) };
            match promise {
                Some(known) if known.lineage == fence.lineage => {
                    if fence.epoch < known.epoch {
                        return Err(Denied::Fenced(known.epoch.clone()));
                    }
                    if fence.epoch == known.epoch {
                        return Ok(Permit { _held: held });
                    }
                }
                Some(known) if !is_empty() => {
                    return Err(Denied::Status(other_lineage(known, fence)));
                }
                Some(_) | None => {}
            }
            drop(held);
            self.raise(fence, &is_empty).await?;
        }
    }

    async fn raise(
        &self,
        fence: &Fence,
        is_empty: &(impl Fn() -> bool + Send),
    ) -> Result<(), Denied> {
        let mut state = self.state.write().await;
        let State::Known(promise) = &*state else { return Ok(()) };
        let higher = promise.as_ref().is_none_or(|known| {
            if known.lineage == fence.lineage { fence.epoch > known.epoch } else { is_empty() }
        });
        if !higher {
            return Ok(());
        }
        let promise = Promise { epoch: fence.epoch.clone(), lineage: fence.lineage };
        let (path, stored) = (self.path.clone(), promise.clone());
        // Written while the lock is held: nobody acts by a promise that is not durable.
        let written = tokio::task::spawn_blocking(move || write(&path, stored)).await;
        written.map_err(io::Error::other).and_then(|result| result).map_err(|error| {
            Denied::Status(Status::resource_exhausted(format!("cannot keep the promise: {error}")))
        })?;
        tracing::info!(epoch = %promise.epoch, lineage = %promise.lineage, "promised");
        *state = State::Known(Some(promise));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Promise, String> {
    let stored: Stored = record::read_json(path).map_err(|error| error.to_string())?;
    if stored.checksum == checksum(&stored.promise) {
        Ok(stored.promise)
    } else {
        Err(format!("the checksum of {} is wrong", path.display()))
    }
}

fn write(path: &Path, promise: Promise) -> io::Result<()> {
    let stored = Stored { version: VERSION, checksum: checksum(&promise), promise };
    record::replace(path, &serde_json::to_vec(&stored)?)
}

fn damaged(state: &State) -> Status {
    let file = match state {
        State::Damaged(file) => file.display().to_string(),
        State::Known(_) => String::new(),
    };
    Status::failed_precondition(format!(
        "this agent's promise was damaged; see {file} and the agent's log"
    ))
}

fn other_lineage(known: &Promise, fence: &Fence) -> Status {
    Status::failed_precondition(format!(
        "this agent has sessions of the brokers with lineage {}, and you are of lineage {}",
        known.lineage, fence.lineage
    ))
}

#[cfg(test)]
mod tests {
    use vsm_core::Incarnation;

    use super::*;

    fn fence(counter: u64, lineage: u128) -> Fence {
        Fence {
            epoch: Epoch { counter, node: "a".parse().unwrap() },
            incarnation: Incarnation(1),
            lineage: LineageId::new(uuid::Uuid::from_u128(lineage)),
        }
    }

    #[tokio::test]
    async fn a_lower_epoch_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = FenceKeeper::load(dir.path()).unwrap();
        assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
        assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
        let again = FenceKeeper::load(dir.path()).unwrap();
        let denied = again.admit(&fence(4, 1), || true).await;
        assert!(matches!(denied, Err(Denied::Fenced(epoch)) if epoch.counter == 5));
        assert!(again.admit(&fence(6, 1), || false).await.is_ok());
        assert_eq!(again.promise().await.unwrap().epoch.counter, 6);
    }

    #[tokio::test]
    async fn another_lineage_is_served_only_when_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = FenceKeeper::load(dir.path()).unwrap();
        assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
        assert!(matches!(keeper.admit(&fence(9, 2), || false).await, Err(Denied::Status(_))));
        assert!(keeper.admit(&fence(1, 2), || true).await.is_ok());
        assert!(matches!(keeper.admit(&fence(5, 1), || false).await, Err(Denied::Status(_))));
    }

    #[tokio::test]
    async fn a_damaged_promise_serves_nobody_until_someone_looked() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = FenceKeeper::load(dir.path()).unwrap();
        assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        fs::write(dir.path().join(FILE), text.replace("\"counter\":5", "\"counter\":4")).unwrap();
        for _ in 0..2 {
            let keeper = FenceKeeper::load(dir.path()).unwrap();
            assert!(matches!(keeper.admit(&fence(9, 1), || true).await, Err(Denied::Status(_))));
        }
        fs::remove_file(dir.path().join(DAMAGED)).unwrap();
        assert!(FenceKeeper::load(dir.path()).unwrap().admit(&fence(9, 1), || true).await.is_ok());
    }
}
