//! How many files and sockets this process has open, of those that it may: told before there are none left, when nobody
//! could be served and nothing be said.

use std::{fs, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::trouble::{Kind, Troubles};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Told from here on, in percent of the limit,
const MANY: u64 = 80;
/// and until here, so that it does not come and go.
const FEWER: u64 = 70;

/// Looks until `stop`; `program` is what it is called.
pub async fn follow(program: &'static str, troubles: Troubles, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // Read each time: prlimit changes it while a process runs. Without one there is nothing to run out of.
        let (Some(used), Some(limit)) = (open(), getrlimit(Resource::Nofile).current) else {
            continue;
        };
        told = are_many(used, limit, told);
        let what = || format!("{program} has {used} of {limit} files and sockets open");
        troubles.set(Kind::Descriptors, "", told.then(what));
    }
}

/// How many are open; none = that cannot be seen, as no file can be opened for example.
fn open() -> Option<u64> {
    let all = fs::read_dir("/proc/self/fd").ok()?;
    // All but the one by which the folder is read.
    u64::try_from(all.flatten().count()).ok()?.checked_sub(1)
}

/// Whether so many are too many, or still are.
const fn are_many(used: u64, limit: u64, told: bool) -> bool {
    used.saturating_mul(100) >= limit.saturating_mul(if told { FEWER } else { MANY })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_before_there_are_none_left_and_until_there_is_room() {
        for (used, told, tells) in
            [(79, false, false), (80, false, true), (79, true, true), (69, true, false)]
        {
            assert_eq!(are_many(used, 100, told), tells, "{used} of 100");
        }
        assert!(!are_many(u64::MAX / 200, u64::MAX, false), "no limit");
    }

    #[test]
    fn what_is_opened_is_counted() {
        let before = open().unwrap();
        let more: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(open().unwrap() >= before + 60, "other tests close theirs meanwhile");
        drop(more);
    }
}
