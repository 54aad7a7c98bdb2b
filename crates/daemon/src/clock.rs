//! The one place that reads clocks. Timers use [`now`], records and people use [`unix_millis`].

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vsm_core::UnixMillis;

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else is to use")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock; 0 where it stands before 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else is to use")]
pub fn unix_millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
