//! Display numbers: the lowest that is free, not resting, and not taken by an X server of somebody else.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use crate::session::display_files;

/// Numbers that this agent has given out or lets rest.
#[derive(Debug, Default)]
pub(super) struct Displays {
    resting: HashMap<u32, Instant>,
}

/// Whether somebody has the number by the marks that every X server leaves. One of them, the lock that it begins with, nobody
/// else could take away if it was left there.
pub(super) fn is_marked(display: u32) -> bool {
    display_files(display).iter().any(|path| Path::new(path).exists())
}

impl Displays {
    /// The lowest number in the range that is neither in `used`, nor resting, nor marked by another X server.
    pub(super) fn pick(
        &mut self,
        range: std::ops::RangeInclusive<u32>,
        used: impl Fn(u32) -> bool,
        is_marked: impl Fn(u32) -> bool,
        now: Instant,
    ) -> Option<u32> {
        self.resting.retain(|_, until| *until > now);
        range.into_iter().find(|display| {
            !used(*display) && !self.resting.contains_key(display) && !is_marked(*display)
        })
    }

    /// Lets a number rest: programs of the session that ended may still look for it.
    pub(super) fn rest(&mut self, display: u32, time: Duration, now: Instant) {
        if !time.is_zero() {
            self.resting.insert(display, now + time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        let mut displays = Displays::default();
        let now = vsm_daemon::clock::now();
        let rest = Duration::from_secs(10);
        displays.rest(11, rest, now);
        let pick =
            |displays: &mut Displays, now| displays.pick(10..=13, |n| n == 10, |n| n == 12, now);
        assert_eq!(pick(&mut displays, now), Some(13));
        assert_eq!(pick(&mut displays, now + rest), Some(11));
        displays.rest(11, rest, now);
        displays.rest(13, rest, now);
        assert_eq!(pick(&mut displays, now), None);
    }
}
