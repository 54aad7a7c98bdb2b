//! The one place of xtask that looks at the clock and waits.
//!
//! The workspace bans ambient time; a developer's tool needs it, so it is kept behind these
//! functions. Waiting is always for a condition, with a deadline and the last reason.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

/// How often a condition is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The current monotonic time.
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock in xtask")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock in microseconds since 1970, for comparing with the times in logs.
#[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock in xtask")]
pub(crate) fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Pauses this thread; only [`wait_for`] and loops with a bound of their own use it.
#[expect(clippy::disallowed_methods, reason = "the one pause, inside loops that have a deadline")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// A number that is another one each time: a seed for who gave none.
#[expect(clippy::disallowed_methods, reason = "nothing depends on this time")]
pub(crate) fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| u64::from(since.subsec_nanos()) | 1)
}

/// Calls `probe` until it succeeds and returns its value.
///
/// # Errors
/// When `deadline` has passed: names `what` and the last reason that `probe` gave. Also when the
/// process was asked to stop.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let end = now() + deadline;
    loop {
        interrupt::check()?;
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if now() >= end => {
                bail!("waited {} ms for {what}: {reason}", deadline.as_millis())
            }
            Err(_) => pause(POLL_INTERVAL),
        }
    }
}
