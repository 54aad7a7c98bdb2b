//! How the processes of a session are ended: all that it started, asked first, then killed.
//!
//! Programs are asked before the X server is, so that they can still save; the X server goes when they are gone or
//! their time is over; then whatever is left is killed until nothing is. Bounded in time: a process that even a kill
//! does not end (it waits for a dead disk) is noted and left to the kernel.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::children;
use crate::{
    cgroup::Cgroup,
    process::{self, Process},
};

/// How long programs may take to end when they are asked.
const ASKED_MAX: Duration = Duration::from_secs(2);
/// How long the X server may take when it is asked; it takes milliseconds.
const X_SERVER_MAX: Duration = Duration::from_secs(1);
/// How long killing goes on.
const KILL_MAX: Duration = Duration::from_secs(10);
/// How often the rest is counted meanwhile.
pub(super) const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    XServerAsked,
    Killing,
}

/// The end of a session's processes, under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    stage: Stage,
    since: Instant,
    /// Processes that were asked: each is asked once, also those that are born or found late.
    asked: Vec<i32>,
}

fn left(cgroup: Option<&Cgroup>) -> Vec<i32> {
    match cgroup.map(Cgroup::pids) {
        Some(pids) if !pids.is_empty() => pids,
        // Without a cgroup, or for one that root moved out of it.
        Some(_) | None => process::descendants(Process::own().pid),
    }
}

impl Shutdown {
    /// Asks all but the X server to end.
    pub(super) fn begin(cgroup: Option<&Cgroup>, x_server: i32, now: Instant) -> Self {
        let mut shutdown = Self { stage: Stage::Asked, since: now, asked: Vec::new() };
        shutdown.ask(&left(cgroup), x_server);
        shutdown
    }

    fn ask(&mut self, left: &[i32], x_server: i32) {
        let new: Vec<i32> = left
            .iter()
            .copied()
            .filter(|pid| *pid != x_server && !self.asked.contains(pid))
            .collect();
        process::signal_all(&new, Signal::TERM);
        // A stopped process hears nothing.
        process::signal_all(&new, Signal::CONT);
        self.asked.extend(new);
    }

    /// Does the next step; true = nothing is left, or nothing more can be done.
    pub(super) fn advance(&mut self, cgroup: Option<&Cgroup>, x_server: i32, now: Instant) -> bool {
        let left = left(cgroup);
        if self.stage != Stage::Killing {
            self.ask(&left, x_server);
        }
        let others = left.iter().any(|pid| *pid != x_server);
        let spent = now.saturating_duration_since(self.since);
        match self.stage {
            Stage::Asked if !others || spent >= ASKED_MAX => {
                if left.contains(&x_server) {
                    process::signal_all(&[x_server], Signal::TERM);
                }
                self.go(Stage::XServerAsked, now);
            }
            Stage::XServerAsked if left.is_empty() || spent >= X_SERVER_MAX => {
                self.go(Stage::Killing, now);
            }
            Stage::Asked | Stage::XServerAsked => {}
            Stage::Killing => {
                if left.is_empty() && !children::any() {
                    return true;
                }
                if let Some(cgroup) = cgroup {
                    cgroup.kill();
                }
                process::signal_all(&left, Signal::KILL);
                return spent >= KILL_MAX;
            }
        }
        false
    }

    const fn go(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }
}
