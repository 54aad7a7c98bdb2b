//! Riding through a failover: a command asks again while one broker takes over from the other. The same request id
//! makes that safe, as the broker that serves then knows what came of the first attempt.

use std::time::Duration;

use clap::Args;
use vsm_daemon::{backoff::Backoff, clock};

use crate::{
    exit::{Failure, Retry},
    output,
    patience::Patience,
};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// For what is mostly a fault that stays.
const BRIEF: Duration = Duration::from_secs(5);
/// While the broker does not answer, in seconds.
const RETRY_FOR: u64 = 30;
/// A host that turns connections away lives. When many come back at once, the last of them is let in minutes after the
/// first: sshd(8) admits a few at a time (`MaxStartups`), and a small host is slow at that.
const BUSY_MAX: Duration = Duration::from_secs(180);

/// How long to go on.
#[derive(Debug, Clone, Args)]
pub struct RetryOptions {
    /// How long to keep trying while the broker does not answer; 0 = try once. By default a host that turns connections
    /// away, as too many come at once, is asked for 180 s
    #[arg(long, value_name = "SECONDS", default_value_t = RETRY_FOR, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub retry_for: u64,
    #[arg(skip)]
    patience: Patience,
}

impl RetryOptions {
    /// How long the network may stall at the next attempt.
    #[must_use]
    pub fn patience(&self) -> Patience {
        if self.retry_for == 0 { Patience::of_one_attempt() } else { self.patience.clone() }
    }
}

/// Calls `attempt` until it succeeds, is refused, or the time since its first failure is over; says so once to a person
/// who watches.
///
/// # Errors
/// The last attempt's.
pub async fn riding<T>(
    options: &RetryOptions,
    attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let patience = Duration::from_secs(options.retry_for);
    let busy = if options.retry_for == RETRY_FOR { BUSY_MAX } else { patience };
    within(patience, busy, "The broker", attempt).await
}

/// The same for the way to a session host, whose sshd turns connections away when many come at once.
///
/// # Errors
/// The last attempt's.
pub async fn at_host<T>(
    patience: Duration,
    host: &str,
    attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    within(patience, BUSY_MAX, host, attempt).await
}

async fn within<T>(
    patience: Duration,
    busy: Duration,
    whom: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, uuid::Uuid::new_v4().as_u64_pair().0);
    let mut failing_since = None;
    let mut doubtful_since = None;
    let mut busy_since = None;
    let mut told = false;
    loop {
        let failure = match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let now = clock::now();
        let (since, bound) = match failure.retry {
            Retry::Never => return Err(failure),
            Retry::Briefly => (*doubtful_since.get_or_insert(now), patience.min(BRIEF)),
            Retry::Patiently => {
                doubtful_since = None;
                (*failing_since.get_or_insert(now), patience)
            }
            Retry::Busy => {
                (doubtful_since, failing_since) = (None, None);
                (*busy_since.get_or_insert(now), busy)
            }
        };
        let wait = backoff.next_wait();
        if now.duration_since(since) + wait >= bound {
            return Err(failure);
        }
        if !std::mem::replace(&mut told, true) {
            output::progress(&format!("{whom} does not answer ({failure}); trying again ..."));
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{NOT_ALLOWED, UNAVAILABLE};

    /// Fails so many times, then succeeds; how many attempts there were.
    async fn attempts(patience_ms: u64, failures: u32, retry: Retry) -> (u32, Result<(), Failure>) {
        let mut attempts = 0;
        let done = within(Duration::from_millis(patience_ms), BUSY_MAX, "It", async || {
            attempts += 1;
            if attempts > failures {
                return Ok(());
            }
            Err(Failure::new(UNAVAILABLE, "away").retry(retry))
        })
        .await;
        (attempts, done)
    }

    #[tokio::test]
    async fn a_broker_that_comes_back_in_time_is_asked_again() {
        let (count, done) = attempts(10_000, 2, Retry::Patiently).await;
        assert!(done.is_ok() && count == 3, "{count} {done:?}");
        let (count, done) = attempts(10_000, 1, Retry::Briefly).await;
        assert!(done.is_ok() && count == 2, "{count} {done:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_patience_has_an_end() {
        let (count, done) = attempts(10_000, 1, Retry::Never).await;
        assert!(done.is_err() && count == 1, "{count}");
        let (count, done) = attempts(0, 1, Retry::Patiently).await;
        assert!(done.is_err() && count == 1, "{count}: 0 means not at all");
        let before = clock::now();
        let (count, done) = attempts(400, u32::MAX, Retry::Patiently).await;
        assert!(done.is_err() && count > 1, "{count}");
        assert!(before.elapsed() < Duration::from_millis(1400), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn a_busy_host_is_asked_for_longer_than_one_that_is_gone() {
        let (count, done) = attempts(300, 3, Retry::Busy).await;
        assert!(done.is_ok() && count == 4, "{count} {done:?}");
        // One that was busy a moment ago has not been gone for long.
        let mut attempts = 0;
        let done = within(Duration::from_millis(1500), BUSY_MAX, "It", async || {
            attempts += 1;
            match attempts {
                2 | 4 | 6 | 8 => Err(Failure::new(UNAVAILABLE, "turned away").retry(Retry::Busy)),
                9 => Ok(()),
                _ => Err(Failure::new(UNAVAILABLE, "gone").retry(Retry::Patiently)),
            }
        })
        .await;
        assert!(done.is_ok(), "{done:?} after {attempts}");
    }

    #[tokio::test]
    async fn the_last_failure_is_the_one_that_is_told() {
        let mut attempts = 0;
        let done: Result<(), _> = within(Duration::from_secs(10), BUSY_MAX, "It", async || {
            attempts += 1;
            Err(match attempts {
                1 => Failure::new(UNAVAILABLE, "away").retry(Retry::Patiently),
                _ => Failure::new(NOT_ALLOWED, "no"),
            })
        })
        .await;
        assert_eq!(done.unwrap_err().code, NOT_ALLOWED);
    }
}
