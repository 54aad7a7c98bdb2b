//! What PAM has set of this process and each program of the session is to have: the mask of modes and the limits of
//! `limits.conf`.
//!
//! The monitor gives it on and keeps its own: a limit that is meant for a user's programs (memory, CPU time, files)
//! must not end what looks after them.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use vsm_daemon::process as process_settings;

/// All limits that a process has, in an order of our own.
const ALL: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// The limits of a process: soft and hard, none = no limit; in the order of [`ALL`].
type Limits = Vec<(Option<u64>, Option<u64>)>;

/// What each program of the session is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Given {
    /// The mask of modes.
    pub(super) umask: u32,
    limits: Limits,
}

/// What this process had before PAM.
#[derive(Debug)]
pub(super) struct Own(Limits);

impl Own {
    /// To be called before the PAM session is opened.
    pub(super) fn look() -> Self {
        Self(limits())
    }

    /// Takes down what PAM has set, and goes back to the own.
    pub(super) fn keep(self) -> Given {
        let given = Given { umask: process_settings::plain_modes(), limits: limits() };
        // Where it may not raise a limit again, it has less room, and nothing else.
        let _ = set(&self.0);
        given
    }
}

impl Given {
    /// Sets the limits of this process, which is root's still.
    ///
    /// # Errors
    /// If the kernel refuses one.
    pub(super) fn limit(&self) -> io::Result<()> {
        set(&self.limits)
    }
}

fn limits() -> Limits {
    let of = |resource| {
        let Rlimit { current, maximum } = getrlimit(resource);
        (current, maximum)
    };
    ALL.map(of).to_vec()
}

/// All of them, also behind one that fails.
fn set(limits: &Limits) -> io::Result<()> {
    let mut result = Ok(());
    for (resource, (current, maximum)) in ALL.into_iter().zip(limits) {
        let wanted = Rlimit { current: *current, maximum: *maximum };
        if getrlimit(resource) != wanted
            && let Err(error) = setrlimit(resource, wanted)
        {
            result = Err(error.into());
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_meanwhile_is_given_on_and_not_kept() {
        let own = Own::look();
        let before = getrlimit(Resource::Core);
        setrlimit(Resource::Core, Rlimit { current: Some(0), ..before }).unwrap();
        let given = own.keep();
        assert_eq!(getrlimit(Resource::Core), before);
        given.limit().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
