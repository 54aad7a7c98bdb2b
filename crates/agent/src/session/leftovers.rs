//! What a session leaves behind if nobody removes it: its folder, its cgroup, its display's names and its processes.

use std::{path::PathBuf, time::Duration};

use vsm_core::SessionId;
use vsm_daemon::clock;

use super::children;
use crate::{
    cgroup::Cgroup,
    displays, folders,
    process::{self, Process},
    record::Store,
};

/// How long a killed process can take to be gone.
const KILL_MAX: Duration = Duration::from_secs(5);

/// What has to go if the start fails, or in the end.
#[derive(Debug)]
pub(super) struct Leftovers {
    /// Limits that the host cannot hold it to, and why, a line each.
    pub(super) unlimited: Vec<String>,
    pub(super) dir: PathBuf,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) id: SessionId,
    /// Where the display's names are, and the X server's own `/tmp`.
    pub(super) names: Option<(displays::Place, displays::Stage)>,
}

impl Leftovers {
    /// Undoes a start that has failed.
    pub(super) fn undo(&self, store: &Store) {
        self.kill();
        store.remove_record(self.id);
        self.remove();
    }

    /// Removes the folder and the cgroup; whoever calls has ended the processes.
    pub(super) fn remove(&self) {
        // Programs such as gvfs mount into the session's folder.
        folders::unmount_below(&self.dir);
        // The user may fill their own folder until the last moment; a rest is removed when the agent adopts.
        let _ = folders::remove(&self.dir);
        if let Some((place, _)) = &self.names {
            place.remove_stage(self.id);
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }

    /// Kills what was started and waits until it is gone, at most as long as a killed process can take.
    pub(super) fn kill(&self) {
        if !children::any() {
            return;
        }
        let deadline = clock::now() + KILL_MAX;
        while clock::now() < deadline {
            if let Some(cgroup) = &self.cgroup {
                cgroup.kill();
            }
            process::signal_all(
                &process::descendants(Process::own().pid),
                rustix::process::Signal::KILL,
            );
            children::reap();
            if !children::any() {
                return;
            }
            children::pause(Duration::from_millis(2));
        }
    }
}
