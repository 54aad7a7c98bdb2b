//! Who a uid is: asked of NSS on blocking threads with a deadline, and remembered for a while.
//!
//! A directory service that hangs must not hang the broker: look-ups are bounded in number and time, and an answer
//! that has run out still serves a reconnect while NSS does not answer.

use std::{
    collections::HashMap,
    ffi::CString,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::unistd::{Group, Uid, User, getgrouplist};
use tokio::sync::Semaphore;
use vsm_core::UserName;
use vsm_daemon::clock;

/// How long an answer of NSS is used without asking again.
const FRESH: Duration = Duration::from_secs(60);
/// How long a caller waits for NSS.
const DEADLINE: Duration = Duration::from_secs(10);
/// Look-ups at a time: a directory that hangs keeps at most so many threads.
const LOOKUPS_MAX: usize = 16;
/// Users remembered; beyond it the memory starts over.
const REMEMBERED_MAX: usize = 100_000;

/// A user as NSS knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Login name.
    pub user: UserName,
    /// Names of their groups.
    pub groups: Vec<String>,
}

/// Why a uid has no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// NSS answered: there is none.
    #[error("uid {0} has no login name on this host")]
    Unknown(u32),
    /// The name is one that we do not take.
    #[error("{0}")]
    BadName(String),
    /// NSS did not answer, or failed.
    #[error("the user database does not answer: {0}")]
    Down(String),
}

/// Remembers who uids are.
#[derive(Debug)]
pub struct Users {
    known: Mutex<HashMap<u32, (Instant, Arc<Identity>)>>,
    permits: Arc<Semaphore>,
}

impl Default for Users {
    fn default() -> Self {
        Self { known: Mutex::default(), permits: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Users {
    /// Who the uid is. Groups are those of the last minute.
    ///
    /// # Errors
    /// If NSS knows no such user, or does not answer and there is no earlier answer.
    pub async fn identity(&self, uid: u32) -> Result<Arc<Identity>, LookupError> {
        let earlier = self.known().get(&uid).cloned();
        if let Some((at, identity)) = &earlier
            && clock::now().duration_since(*at) < FRESH
        {
            return Ok(Arc::clone(identity));
        }
        match (self.ask(uid).await, earlier) {
            (Ok(identity), _) => {
                let mut known = self.known();
                if known.len() >= REMEMBERED_MAX {
                    known.clear();
                }
                known.insert(uid, (clock::now(), Arc::clone(&identity)));
                Ok(identity)
            }
            (Err(LookupError::Down(why)), Some((_, identity))) => {
                tracing::warn!(uid, why, "using an old answer of the user database");
                Ok(identity)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u32, (Instant, Arc<Identity>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, uid: u32) -> Result<Arc<Identity>, LookupError> {
        let down = |why: &str| LookupError::Down(why.to_owned());
        let permits = Arc::clone(&self.permits);
        let asked = async {
            let permit = permits.acquire_owned().await.map_err(|_| down("stopping"))?;
            // The permit goes with the thread, not with the caller: a caller that gives up frees no thread.
            let look_up = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                look_up(uid)
            });
            look_up.await.map_err(|error| down(&error.to_string()))?
        };
        tokio::time::timeout(DEADLINE, asked).await.map_err(|_| down("no answer in time"))?
    }
}

fn look_up(uid: u32) -> Result<Arc<Identity>, LookupError> {
    let down = |error: nix::Error| LookupError::Down(error.to_string());
    let user =
        User::from_uid(Uid::from_raw(uid)).map_err(down)?.ok_or(LookupError::Unknown(uid))?;
    let name =
        user.name.parse::<UserName>().map_err(|error| LookupError::BadName(error.to_string()))?;
    let c_name =
        CString::new(user.name).map_err(|error| LookupError::BadName(error.to_string()))?;
    let groups = getgrouplist(&c_name, user.gid).map_err(down)?;
    let mut names = Vec::new();
    for gid in groups {
        // A group without a name is one that no configuration can mean; one that NSS cannot look up now is not.
        names.extend(Group::from_gid(gid).map_err(down)?.map(|group| group.name));
    }
    Ok(Arc::new(Identity { user: name, groups: names }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_is_known_and_nobody_else_is_made_up() {
        let users = Users::default();
        let root = users.identity(0).await.unwrap();
        assert_eq!(root.user.as_str(), "root");
        assert!(root.groups.contains(&"root".to_owned()));
        assert_eq!(users.identity(4_000_000_000).await, Err(LookupError::Unknown(4_000_000_000)));
    }
}
