//! How much at once, and how much is kept. Nothing depends on these numbers but speed: the simulation draws small ones,
//! so that what happens at a limit happens often.

/// The numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one message, at least 1; the rest follows the acknowledgement.
    pub append_max: usize,
    /// A peer that lacks no more entries than this is near enough to do without the witnesses.
    pub near: u64,
    /// While the pair is in sync the base of a window to come is moved on after so many changed keys.
    pub keys_max: usize,
    /// Entries that are kept for a peer that comes back, once there are a quarter more; further back it gets a
    /// snapshot.
    pub log_keep: usize,
}

impl Limits {
    /// What is used.
    pub const DEFAULT: Self =
        Self { append_max: 1024, near: 256, keys_max: 1024, log_keep: 16_384 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
