//! The one place that reads clocks. Timers use [`now`], records and people use [`unix_millis`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
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

/// A time for people, to the second, in UTC.
#[must_use]
pub fn shown(time: UnixMillis) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis)
        .map_or_else(|_| millis.to_string(), |time| format!("{time:.0}"))
}

/// A time in UTC, to the millisecond, as RFC 3339 has it; none = 0, or a year that has more than four digits.
#[must_use]
pub fn exact(time: UnixMillis) -> Option<String> {
    let millis = i64::try_from(time.0).ok().filter(|millis| *millis != 0)?;
    let time = Timestamp::from_millisecond(millis).ok()?;
    Some(format!("{time:.3}"))
}

/// A moment: people are told when it was, and rules count the time since then, which no clock that is set changes.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// When it was, by the wall clock.
    pub at: UnixMillis,
    began: Instant,
}

impl Since {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { at: unix_millis(), began: now() }
    }

    /// The time since then, by the monotonic clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now().duration_since(self.began)
    }
}
