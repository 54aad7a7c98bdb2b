//! Ways into private readers for `vsm-fuzz`: each takes bytes as they come, and tells what was made of them.

use std::path::{Path, PathBuf};

use prost::Message;

use crate::{
    agent::fence::journal,
    cgroup, folders,
    net::words,
    session::{cookie, shadow::filter::Filter},
};

/// The words of a viewer that may only look.
#[derive(Debug)]
pub struct LookOnly(Filter);

impl LookOnly {
    /// Before its first word.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "as the filter itself")]
    pub const fn new() -> Self {
        Self(Filter::new())
    }

    /// Adds to `out` what may pass of `said`; false = the viewer is cut off.
    pub fn pass(&mut self, said: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.pass(said, out).is_ok()
    }
}

/// The entries of an Xauthority file with this one put in.
#[must_use]
pub fn merged_cookies(old: &[u8], new: &[u8]) -> Vec<u8> {
    cookie::merged(old, new)
}

/// Length of the first entry of an Xauthority file, and of its part that names the display; none = damaged.
#[must_use]
pub fn cookie_lengths(entries: &[u8]) -> Option<(usize, usize)> {
    cookie::lengths(entries)
}

/// Where cgroup v2 is mounted.
#[must_use]
pub fn cgroup_mount(mountinfo: &str) -> Option<PathBuf> {
    cgroup::mount_point(mountinfo)
}

/// What is mounted below a folder.
#[must_use]
pub fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    folders::mounts_below(mountinfo, dir)
}

/// A record of the promise's journal as it is on disk.
#[must_use]
pub fn journal_record(payload: &[u8]) -> Vec<u8> {
    journal::framed(payload)
}

/// What the journal of a promise comes to: its state as a record of its own, and how many records there ever were.
/// None = it is damaged.
#[must_use]
pub fn journal_replayed(data: &[u8]) -> Option<(Vec<u8>, u64)> {
    let kept = journal::replay(data, "agent1").ok()?;
    Some((journal::state(&kept), kept.position))
}

/// What brokers ask of an agent, as far as it is looked at before anything is done: whether it is taken.
#[must_use]
pub fn asked_of_agent(kind: u8, bytes: &[u8]) -> bool {
    fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
        M::decode(bytes).ok()
    }
    match kind % 3 {
        0 => read(bytes).is_some_and(|request| words::key(&request).is_ok()),
        1 => read(bytes).is_some_and(|request| words::shadow(&request).is_ok()),
        _ => read(bytes).is_some_and(|request| words::notice(request).is_ok()),
    }
}
