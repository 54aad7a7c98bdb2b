//! Whether the resource address may be on this host. One answer for everybody who asks: `vsmctl ha health`, the gRPC
//! health service, the OCF agent, and the file that keepalived's `track_file` reads.
//!
//! The address is to follow the node that has the votes. So a node that tried and did not get them says no for a
//! while; a node that is behind says no until it has caught up; and all others say yes, or nobody would be asked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tonic_health::{ServingStatus, server::HealthReporter};
use vsm_core::replica::Standing;
use vsm_daemon::{
    clock,
    trouble::{Kind, Troubles},
};
use vsm_sync::State;

use super::{Ha, Pair};
use crate::pair::Side;

/// The name under which the gRPC health service tells it.
pub const SERVICE: &str = "vsm.admin.v1.Ha";
/// A node that has failed this often to get votes says no.
const FAILED_MAX: u32 = 3;
/// After so long it may try again.
const FORGIVE: Duration = Duration::from_secs(10);
/// After its start a node looks for the other one for so long before it says yes without it.
const LOOK_FOR_PEER: Duration = Duration::from_secs(3);
/// A standby that lacks more is behind.
const NEAR: u64 = 256;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the file says: keepalived adds it to the priority, and this much means a fault.
const YES: &str = "0\n";
const NO: &str = "-254\n";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether the address may be here.
    pub healthy: bool,
    /// Why, in one line.
    pub reason: String,
}

impl Health {
    pub(crate) fn yes(reason: &str) -> Self {
        Self { healthy: true, reason: reason.to_owned() }
    }

    pub(crate) fn no(reason: impl Into<String>) -> Self {
        Self { healthy: false, reason: reason.into() }
    }
}

/// What was noticed before and counts still.
#[derive(Debug, Clone, Copy)]
pub struct Past {
    /// How long this process runs.
    pub running: Duration,
    /// How long ago the last claim failed.
    pub since_failure: Duration,
}

/// Judges a node of a pair.
#[must_use]
pub fn judge(state: &State, past: Past) -> Health {
    let replica = &state.replica;
    if let Some(fault) = &state.fault {
        return Health::no(format!("the session table cannot be written: {fault}"));
    }
    if replica.foreign.is_some() {
        return Health::no("its table is of a former life of the pair");
    }
    let failed = replica.attempts >= FAILED_MAX && past.since_failure < FORGIVE;
    match &replica.standing {
        Standing::Active { votes: false, .. } => {
            Health::no("active, but neither the other broker nor enough witnesses answer")
        }
        Standing::Active { ready: true, .. } => Health::yes("active"),
        Standing::Active { .. } => Health::yes("taking over"),
        Standing::Claiming(_) if failed => Health::no("it asks for votes and does not get them"),
        Standing::Claiming(_) => Health::yes("asking for votes"),
        Standing::Standby { .. } if replica.relieved => {
            Health::no("handed over to the other node; the address is to follow")
        }
        Standing::Standby { leader: Some(_) } if replica.link && !replica.joined => {
            Health::no("has no table yet; it is being sent")
        }
        Standing::Standby { leader: Some(_) } if replica.link && replica.behind > NEAR => {
            Health::no(format!("catching up: {} changes behind", replica.behind))
        }
        Standing::Standby { leader: Some(_) } if replica.link => Health::yes("standby, in step"),
        Standing::Standby { .. } if replica.link && replica.roster.is_none() => {
            Health::yes("a new pair, both are here")
        }
        Standing::Standby { .. } if !replica.joined => {
            Health::no("has no table and does not reach the other broker")
        }
        Standing::Standby { .. } if failed => Health::no("it asked for votes and did not get them"),
        Standing::Standby { .. } if !replica.link && past.running < LOOK_FOR_PEER => {
            Health::no("has just started and looks for the other broker")
        }
        Standing::Standby { .. } if replica.link => Health::yes("standby, nobody is active"),
        Standing::Standby { .. } => Health::yes("standby, the other broker is away"),
    }
}

/// How much this node is to be preferred as the active one, 0 to 100, for cluster software that compares the nodes.
///
/// The one that is active is better than any other: moving costs the users something. Then the one that lacks least. An
/// active node without votes is still better than none, as it hands out what runs, and worse than any that may get
/// votes.
#[must_use]
pub fn preference(state: &State, healthy: bool) -> u32 {
    const MOST_BEHIND: u64 = 30;
    let replica = &state.replica;
    match (&replica.standing, healthy) {
        (Standing::Active { .. }, true) => 100,
        (Standing::Active { .. }, false) => 1,
        (_, false) => 0,
        (Standing::Claiming(_), true) => 90,
        (Standing::Standby { leader: Some(_) }, true) if replica.link => {
            80 - u32::try_from(replica.behind.min(MOST_BEHIND)).unwrap_or(0)
        }
        (Standing::Standby { .. }, true) => 40,
    }
}

/// Keeps the answer true until the broker stops; then the file says no.
pub(crate) async fn follow(
    side: Arc<Side>,
    pair: Arc<Pair>,
    file: PathBuf,
    reporters: Vec<HealthReporter>,
) {
    let began = clock::now();
    let mut attempts = 0;
    let mut failed_at: Option<Instant> = None;
    let mut state = side.authority.table.watch();
    let mut told = None;
    loop {
        pair.clock.look();
        let now = clock::now();
        let health = {
            let seen = Arc::clone(&state.borrow_and_update());
            if seen.replica.attempts > attempts {
                failed_at = Some(now);
            }
            attempts = seen.replica.attempts;
            let since = failed_at.map_or(Duration::MAX, |at| now.duration_since(at));
            judge(&seen, Past { running: now.duration_since(began), since_failure: since })
        };
        if told.as_ref() != Some(&health) {
            tell(&side, &pair, &file, &reporters, &health).await;
            told = Some(health);
        }
        tokio::select! {
            biased;
            () = side.process.stop.cancelled() => break,
            changed = state.changed() => if changed.is_err() {
                // The table has gone, and with it this process: that is for its owner to say.
                break side.process.stop.cancelled().await;
            },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    tell(&side, &pair, &file, &reporters, &Health::no("stopping")).await;
}

/// The same without a pair: a broker with HA off may have the address, as while a pair is being set up; one whose HA
/// could not be turned on may not, as the other node may serve.
pub(crate) async fn alone(side: Arc<Side>, file: PathBuf) {
    let yes = matches!(side.ha, Ha::Off { unsafe_because: None });
    write(&side.process.troubles, &file, yes).await;
    side.process.stop.cancelled().await;
    write(&side.process.troubles, &file, false).await;
}

async fn tell(
    side: &Side,
    pair: &Pair,
    file: &Path,
    reporters: &[HealthReporter],
    health: &Health,
) {
    let was = pair.health.send_replace(health.clone());
    if was.healthy != health.healthy {
        tracing::info!(healthy = health.healthy, reason = health.reason, "health");
    }
    write(&side.process.troubles, file, health.healthy).await;
    let status = if health.healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    for reporter in reporters {
        reporter.set_service_status(SERVICE, status).await;
    }
}

async fn write(troubles: &Troubles, file: &Path, healthy: bool) {
    let failed = tokio::fs::write(file, if healthy { YES } else { NO }).await.err();
    let what = |error| {
        format!("keepalived is not told of this node's health: {}: {error}", file.display())
    };
    troubles.set(Kind::Disk, "health", failed.map(what));
}

#[cfg(test)]
mod tests {
    use vsm_core::{Epoch, Lsn, replica::Status};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn epoch() -> Epoch {
        Epoch { nonce: 0, counter: 3, node: "peer".parse().unwrap() }
    }

    fn state(change: impl FnOnce(&mut Status)) -> State {
        let mut replica = Status {
            standing: Standing::Standby { leader: Some(epoch()) },
            want: false,
            relieved: false,
            joined: true,
            promised: epoch(),
            seen: epoch(),
            last: Lsn { epoch: epoch(), seq: 10 },
            commit: 10,
            behind: 0,
            attempts: 0,
            link: true,
            peer_off: false,
            silent: false,
            peer: None,
            mute: Vec::new(),
            peer_foreign: false,
            foreign: None,
            roster: Some([].into()),
            witnesses: Vec::new(),
        };
        change(&mut replica);
        State { replica, fault: None }
    }

    fn healthy(change: impl FnOnce(&mut Status)) -> bool {
        judge(&state(change), Past { running: LONG, since_failure: Duration::ZERO }).healthy
    }

    #[test]
    fn the_address_follows_the_votes_and_never_goes_to_old_data() {
        let active = |ready, votes| Standing::Active { epoch: epoch(), ready, votes, synced: true };
        assert!(healthy(|_| {}), "a standby in step");
        assert!(healthy(|status| status.standing = active(true, true)));
        assert!(!healthy(|status| status.standing = active(true, false)), "no votes");
        assert!(!healthy(|status| status.behind = 1000), "catching up");
        assert!(!healthy(|status| status.relieved = true), "handed over");
        assert!(!healthy(|status| status.joined = false), "no table");
        let alone = |status: &mut Status| {
            (status.link, status.standing) = (false, Standing::Standby { leader: None });
        };
        assert!(healthy(alone), "it may get the witnesses' votes");
        assert!(!healthy(|status| {
            alone(status);
            status.attempts = 3;
        }));
        let forgiven = |past: Duration| {
            let state = state(|status| {
                alone(status);
                status.attempts = 3;
            });
            judge(&state, Past { running: LONG, since_failure: past }).healthy
        };
        assert!(!forgiven(Duration::from_secs(9)) && forgiven(Duration::from_secs(10)));
    }

    #[test]
    fn the_active_node_is_preferred_and_then_the_one_that_lacks_least() {
        let of = |healthy, change: &dyn Fn(&mut Status)| preference(&state(change), healthy);
        let active = |votes| Standing::Active { epoch: epoch(), ready: true, votes, synced: true };
        let alone = |status: &mut Status| status.link = false;
        let order = [
            of(true, &|status| status.standing = active(true)),
            of(true, &|status| status.standing = Standing::Claiming(epoch())),
            of(true, &|_| {}),
            of(true, &|status| status.behind = 5),
            of(true, &|status| status.behind = 200),
            of(true, &alone),
            of(false, &|status| status.standing = active(false)),
            of(false, &|_| {}),
        ];
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
        assert_eq!(order[7], 0, "never promoted");
    }

    #[test]
    fn one_that_has_just_started_looks_for_the_other_first() {
        let judge_at = |running| {
            let state = state(|status| {
                (status.link, status.standing) = (false, Standing::Standby { leader: None });
            });
            judge(&state, Past { running, since_failure: LONG }).healthy
        };
        assert!(!judge_at(Duration::from_secs(1)) && judge_at(LOOK_FOR_PEER));
    }

    #[test]
    fn a_new_pair_can_begin() {
        assert!(healthy(|status| {
            (status.joined, status.roster) = (false, None);
            status.standing = Standing::Standby { leader: None };
        }));
        assert!(!healthy(|status| {
            (status.joined, status.roster, status.link) = (false, None, false);
            status.standing = Standing::Standby { leader: None };
        }));
    }
}
