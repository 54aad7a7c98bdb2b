//! Display numbers: the lowest whose name can be held and that is not resting; before others, one that nobody has left
//! marks of.
//!
//! Hundreds of names are held from the agent's start, so that no user can take them all; the lowest are not, which X
//! servers of others take by habit. A name that a session once had stays held. What lies at the paths of a number is
//! replaced by its next session, so that no lock keeps a number from its use; only an X server that is there is passed
//! over, and of each user a few.

use std::{
    collections::{HashMap, HashSet},
    io,
    ops::RangeInclusive,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use crate::displays::{self, Mark, Name};

/// Names that are held from the start, beyond which they are taken as sessions come: more desktops than a host usually
/// has, and few enough for its descriptors.
const HELD_FROM_START: usize = 512;
/// The first number that is held so. X servers that are no sessions' begin at 0, `xvfb-run` at 99.
const HELD_FIRST: u32 = 110;
/// X servers of one user that are passed over. Nobody needs as many, and all together cannot keep others out.
const FOREIGN_PER_USER_MAX: usize = 8;

/// Numbers that this agent has given out or lets rest, and names that it holds.
#[derive(Debug, Default)]
pub(super) struct Displays {
    resting: HashMap<u32, Instant>,
    held: HashMap<u32, Name>,
}

/// The first number that is free: one without marks, else one whose marks are stale, else one whose X server is one of
/// too many of its user's. Numbers in the order of preference.
fn first(
    free: impl Iterator<Item = u32>,
    mark: impl Fn(u32) -> Mark,
    mut take: impl FnMut(u32) -> bool,
) -> Option<u32> {
    let (mut stale, mut excess) = (Vec::new(), Vec::new());
    let mut foreign: HashMap<u32, usize> = HashMap::new();
    for display in free {
        match mark(display) {
            Mark::None if take(display) => return Some(display),
            Mark::None => {}
            Mark::Stale => stale.push(display),
            // What is root's is the host's own.
            Mark::Listening(0) => {}
            Mark::Listening(uid) => {
                let count = foreign.entry(uid).or_default();
                *count += 1;
                if *count > FOREIGN_PER_USER_MAX {
                    excess.push(display);
                }
            }
        }
    }
    stale.into_iter().chain(excess).find(|display| take(*display))
}

impl Displays {
    /// Holds names of numbers in the range that are not `own`, ahead of users; how many it could not, as somebody has
    /// them.
    pub(super) fn hold(&mut self, range: RangeInclusive<u32>, own: impl Fn(u32) -> bool) -> usize {
        let (min, max) = range.into_inner();
        // Of a range that has only low numbers the upper half.
        let first = if max < HELD_FIRST { min.midpoint(max) } else { min.max(HELD_FIRST) };
        let all = (first..=max).take(HELD_FROM_START).filter(|display| !own(*display));
        all.filter(|display| !self.take(*display)).count()
    }

    /// Makes sure that the name is held.
    fn take(&mut self, display: u32) -> bool {
        if self.held.contains_key(&display) {
            return true;
        }
        let Ok(name) = Name::hold(display) else { return false };
        self.held.insert(display, name);
        true
    }

    /// The lowest number in the range that is neither in `used`, nor resting, nor another X server's.
    pub(super) fn pick(
        &mut self,
        range: RangeInclusive<u32>,
        used: impl Fn(u32) -> bool,
        now: Instant,
    ) -> Option<u32> {
        self.resting.retain(|_, until| *until > now);
        let resting: HashSet<u32> = self.resting.keys().copied().collect();
        let free = range.filter(|display| !used(*display) && !resting.contains(display));
        // Looked up once, and only where there is a socket.
        let listening = std::cell::OnceCell::new();
        let listens =
            |display| listening.get_or_init(displays::listening).binary_search(&display).is_ok();
        first(free, |display| displays::mark(display, || listens(display)), |n| self.take(n))
    }

    /// The hold on a number that was picked, to be handed to its session.
    pub(super) fn name(&self, display: u32) -> io::Result<OwnedFd> {
        let taken = || io::Error::other(format!("the name of display :{display} is not held"));
        self.held.get(&display).ok_or_else(taken)?.again()
    }

    /// Lets a number rest: programs of the session that ended may still look for it.
    pub(super) fn rest(&mut self, display: u32, time: Duration, now: Instant) {
        // That of a session which began under another agent was held by its monitor alone.
        self.take(display);
        if !time.is_zero() {
            self.resting.insert(display, now + time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_marks_comes_first_and_no_user_can_take_them_all() {
        let pick = |mark: fn(u32) -> Mark| first(10..=30, mark, |n| n != 11);
        let plain = |n| if n == 10 { Mark::Stale } else { Mark::None };
        assert_eq!(pick(plain), Some(12), "11 cannot be held");
        assert_eq!(pick(|_| Mark::Stale), Some(10), "stale locks of all numbers");
        let mixed = |n| if n == 20 { Mark::Stale } else { Mark::Listening(1002) };
        assert_eq!(pick(mixed), Some(20));
        assert_eq!(pick(|_| Mark::Listening(1002)), Some(18), "he has eight, not all");
        assert_eq!(pick(|_| Mark::Listening(0)), None);
    }
}
