//! From a heal until all that goes wrong afterwards is known.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{STEP_WAIT, check, demand, noise, users::Users};
use crate::clock::{self, wait_for};
use crate::cluster::Cluster;

/// How long no reign may change once all is well.
const WATCH: Duration = Duration::from_secs(10);
/// The same after the last round: an error may come again in its own time.
const LAST_WATCH: Duration = Duration::from_secs(60);

/// What came of a heal.
#[derive(Debug)]
pub(super) struct Healed {
    crippled: Vec<String>,
    took: Duration,
    /// From when the brokers were in step.
    quiet: noise::Mark,
}

/// Heals, and waits until the brokers are in step, as `settle` has it, and all hosts have done what is demanded, or
/// failed to.
///
/// # Errors
/// When something cannot be healed, or the brokers do not come to be in step.
pub(super) fn heal(cluster: &Cluster, settle: impl FnOnce() -> Result<()>) -> Result<Healed> {
    cluster.heal(&[])?;
    let since: Instant = clock::now();
    thread::scope(|scope| {
        let hosts = scope.spawn(move || (demand::hosts(cluster, since), since.elapsed()));
        let settled = settle();
        let quiet = noise::Mark::now(cluster);
        let (crippled, took) = hosts.join().map_err(|_| anyhow!("the demands' thread died"))?;
        settled.map(|()| Healed { crippled, took, quiet })
    })
}

impl std::fmt::Display for Healed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how =
            if self.crippled.is_empty() { "every host is whole" } else { "not all are whole" };
        write!(f, "{how} {} ms after the heal", self.took_ms())
    }
}

impl Healed {
    /// How long the hosts took to do what is demanded, in milliseconds.
    pub(super) fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks at everything while nobody does anything, and for some time at the reign and the logs.
    ///
    /// # Errors
    /// When not all could be looked at.
    pub(super) fn and_then(
        self,
        cluster: &Cluster,
        users: &Users,
        rebooted: &check::Rebooted,
        last: bool,
    ) -> Result<check::Found> {
        let watch = if last { LAST_WATCH } else { WATCH };
        let (duels, mut found) = thread::scope(|scope| {
            let duels = scope.spawn(move || demand::duels(cluster, watch));
            let found = wait_for("the agents to be heard", STEP_WAIT, || {
                check::check(cluster, users, rebooted).map_err(|error| format!("{error:#}"))
            });
            let duels = duels.join().map_err(|_| anyhow!("the watch's thread died"))?;
            anyhow::Ok((duels?, found?))
        })?;
        found.duels = duels;
        found.crippled = self.crippled;
        found.noisy = self.quiet.noise(cluster);
        Ok(found)
    }
}
