//! A user who logs in every second, by the real client, all the time; some go on to their desktop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::cluster::Cluster;
use crate::interrupt;

/// People who take turns.
pub(super) const USERS: u16 = 6;
/// One logs in this often.
const EVERY: Duration = Duration::from_secs(1);
/// How long a login may try, in seconds, as by itself the client tries longer.
const PATIENCE_S: u32 = 30;
/// One that takes longer has failed, whatever comes of it, in milliseconds.
const TOO_LONG_MS: u64 = 35_000;
/// Then it is stopped, so that it can say before what it waits for, in seconds.
const STOPPED_S: u32 = 90;
/// So many at a time at most: where each takes longer than that, the machine is what is measured.
const TOGETHER_MAX: usize = 6;
/// Every so many logins go on to the desktop, by way of its session host.
const LOOKS_EVERY: u64 = 5;

/// A viewer that waits until the desktop's X server says what it speaks, and ends.
const GLANCE: &str = "/usr/local/bin/glance";
const VIEWER: &str = "#!/usr/bin/perl\nuse Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; \
    connect($s, sockaddr_un($ARGV[-1])) or die; sysread($s, my $hello, 12) == 12 or die \"no desktop\\n\";\n";

/// Puts the viewer where people sit.
pub(super) fn prepare(cluster: &Cluster) -> Result<()> {
    let line = format!("cat > {GLANCE} <<'END'\n{VIEWER}END\nchmod 755 {GLANCE}");
    cluster.output("client", "root", &["sh", "-c", &line]).map(drop)
}

/// How the logins went.
#[derive(Debug, Default)]
pub(super) struct Logins {
    stop: AtomicBool,
    under_way: AtomicUsize,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    took_ms: Vec<u64>,
    failed: Vec<String>,
}

/// How far they had come at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    made: usize,
    failed: usize,
}

impl Logins {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs in until [`Logins::stop`].
    pub(super) fn run<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        cluster: &'scope Cluster,
    ) {
        scope.spawn(move || {
            let (mut number, mut count) = (0, 0_u64);
            let mut next = clock::now();
            while !self.stop.load(Ordering::SeqCst) && !interrupt::stopping() {
                if clock::now() < next || self.under_way.load(Ordering::SeqCst) >= TOGETHER_MAX {
                    clock::pause(Duration::from_millis(5));
                    continue;
                }
                next = clock::now() + EVERY;
                number = number % USERS + 1;
                self.under_way.fetch_add(1, Ordering::SeqCst);
                let user = format!("user{number:03}");
                count += 1;
                let looks = count % LOOKS_EVERY == 0;
                scope.spawn(move || {
                    self.log_in(cluster, &user, looks);
                    self.under_way.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn log_in(&self, cluster: &Cluster, user: &str, looks: bool) {
        let began = clock::now();
        let (to, limit) = (format!("{user}@tlha"), STOPPED_S.to_string());
        let retry = format!("--retry-for={PATIENCE_S}");
        let words = ["timeout", "-k1", &limit, "vsm", "connect", &retry, "--no-viewer", &to];
        let picture = ["--viewer", GLANCE];
        let more: &[&str] = if looks { &picture } else { &[] };
        let words: Vec<_> = words
            .iter()
            .filter(|word| !looks || **word != "--no-viewer")
            .chain(more)
            .copied()
            .collect();
        let failed = match cluster.exec("client", user, &words) {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!(
                "{user}{}: {}: {}",
                if looks { ", up to the desktop" } else { "" },
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => Some(format!("{user}: {error:#}")),
        };
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let failed =
            failed.or_else(|| (took > TOO_LONG_MS).then(|| format!("{user}: it took {took} ms")));
        if self.stop.load(Ordering::SeqCst) && interrupt::stopping() {
            return;
        }
        let mut log = self.log();
        log.took_ms.push(took);
        log.failed.extend(failed);
    }

    /// This moment.
    pub(super) fn mark(&self) -> Mark {
        let log = self.log();
        Mark { made: log.took_ms.len(), failed: log.failed.len() }
    }

    /// Those that failed since then.
    pub(super) fn failed_since(&self, mark: Mark) -> Vec<String> {
        self.log().failed.iter().skip(mark.failed).cloned().collect()
    }

    /// How many there were since then.
    pub(super) fn made_since(&self, mark: Mark) -> usize {
        self.log().took_ms.len().saturating_sub(mark.made)
    }

    /// How long 99 of 100 took at most between two moments, in milliseconds.
    pub(super) fn p99_between(&self, from: Mark, to: Mark) -> u64 {
        let log = self.log();
        p99(log.took_ms.iter().take(to.made).skip(from.made).copied().collect())
    }

    /// The same since then.
    pub(super) fn p99_since(&self, mark: Mark) -> u64 {
        p99(self.log().took_ms.iter().skip(mark.made).copied().collect())
    }
}

fn p99(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    let at = (all.len() * 99).div_ceil(100).saturating_sub(1);
    all.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_nine_of_a_hundred() {
        assert_eq!(p99((1..=100).collect()), 99);
        assert_eq!(p99(vec![5]), 5);
        assert_eq!(p99(vec![3, 1, 2]), 3);
        assert_eq!(p99(Vec::new()), 0);
    }
}
