//! Moments, told apart from how long something takes.

use std::ops::Add;

/// A moment: milliseconds of the shell's clock, which only goes forward. How long something takes is a plain number of
/// milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u64);

impl Tick {
    /// Milliseconds since `earlier`; 0 = that is yet to come.
    pub(super) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Tick {
    type Output = Self;

    fn add(self, ms: u64) -> Self {
        Self(self.0 + ms)
    }
}
