//! The cluster software says that the other node's power was cut. What that means is the replica's business
//! (`core::replica::off`); here its time is made comparable with ours.
//!
//! Pacemaker tells times of day and the replica compares moments: whether the other node was heard since. A clock that
//! was set back would make an old report look new, so it is taken for as old as it can be by any reading that this
//! process has seen of the clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use vsm_daemon::clock;
use vsm_sync::{SessionTable, State};

use super::Pair;

/// How long the note may take to be durable.
const NOTED_WAIT: Duration = Duration::from_secs(3);
/// Pacemaker counts in whole seconds, and whoever asks us rounds up.
const AHEAD_MAX_MS: u64 = 1000;

/// The wall clock as this process has seen it.
#[derive(Debug)]
pub struct WallClock {
    began: Instant,
    /// The most by which it ever was ahead of the time that this process runs.
    ahead_ms: AtomicU64,
}

impl WallClock {
    /// From now on.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self { began: clock::now(), ahead_ms: AtomicU64::new(0) };
        clock.look();
        clock
    }

    fn running_ms(&self) -> u64 {
        let running = clock::now().duration_since(self.began);
        u64::try_from(running.as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads it; to be called now and then, so that no setting of the clock goes unseen.
    pub fn look(&self) {
        let ahead_ms = clock::unix_millis().0.saturating_sub(self.running_ms());
        self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed);
    }

    /// How long ago a time of day was, at most; none for one that is yet to come.
    fn ago(&self, unix_ms: u64) -> Option<Duration> {
        self.look();
        if unix_ms > clock::unix_millis().0 + AHEAD_MAX_MS {
            return None;
        }
        let began_ms = self.ahead_ms.load(Ordering::Relaxed);
        let at_ms = unix_ms.saturating_sub(began_ms);
        Some(Duration::from_millis(self.running_ms().saturating_sub(at_ms)))
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether hearing of it would change anything.
pub(crate) fn matters(state: &State) -> bool {
    let replica = &state.replica;
    replica.silent
        && !replica.peer_off
        && replica.roster.as_ref().is_some_and(|roster| roster.is_empty())
}

/// Why the word of the cluster software is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Here nobody can know.
    #[error("/vsmserver/HA/role_source is not cluster: nobody here can be certain of that")]
    NotCluster,
    /// It cannot be true.
    #[error("that is yet to come, by this host's clock")]
    YetToCome,
    /// The table's owner has stopped.
    #[error("{0}")]
    Table(String),
}

/// Passes it on, and waits until it is durable: whether the other node's vote counts as given, and why.
pub(crate) async fn told(
    table: &SessionTable,
    pair: &Pair,
    at_unix_ms: u64,
) -> Result<(bool, String), NotTaken> {
    if pair.source != vsm_config::RoleSource::Cluster {
        return Err(NotTaken::NotCluster);
    }
    let Some(ago) = pair.clock.ago(at_unix_ms) else {
        return Err(NotTaken::YetToCome);
    };
    let taken = table.peer_off(ago).await;
    let mut counts = taken.map_err(|error| NotTaken::Table(error.to_string()))?;
    let mut states = table.watch();
    if counts {
        let noted = states.wait_for(|state| state.replica.peer_off);
        counts = tokio::time::timeout(NOTED_WAIT, noted).await.is_ok();
    }
    let state = table.state();
    let detail = match () {
        () if counts => format!("{}'s vote counts as given until it is heard again", pair.peer),
        () if state.replica.roster.as_ref().is_some_and(|roster| !roster.is_empty()) => {
            "there are witnesses: their votes are needed and enough".to_owned()
        }
        () if state.replica.link => {
            format!(
                "{} has been heard since, {} s ago it may have been off",
                pair.peer,
                ago.as_secs()
            )
        }
        () => format!(
            "{} may have committed what is not here: it was heard since, or this node was not in step with it in this run of vsmserver",
            pair.peer
        ),
    };
    if counts {
        tracing::info!(peer = %pair.peer, "the cluster software says that it is off; its vote counts as given");
    } else {
        tracing::debug!(peer = %pair.peer, detail, "the cluster software says that it is off");
    }
    Ok((counts, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_time_is_taken_for_as_old_as_any_reading_of_the_clock_makes_it() {
        let clock = WallClock { began: clock::now() - MINUTE, ahead_ms: AtomicU64::new(0) };
        let now = clock::unix_millis().0;
        let near = |at: u64| clock.ago(at).unwrap().as_millis();
        assert!((10_000..12_000).contains(&near(now - 10_000)));
        assert_eq!(clock.ago(now + 60_000), None, "yet to come");
        // The clock was an hour ahead, and was set back.
        clock.ahead_ms.fetch_add(3_600_000, Ordering::Relaxed);
        clock.look();
        assert!((60_000..62_000).contains(&near(now - 10_000)), "as old as this process");
    }
}
