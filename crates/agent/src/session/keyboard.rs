//! The keyboard map of a desktop. Xvnc gives each character outside the map a key of its own, and has some twenty that
//! are free. When they are used up it takes no new characters for the rest of the session (TigerVNC issue 93): from a
//! phone, or by pasting, that is a minute's work.
//!
//! So when it says that it has none left, the map is loaded anew as the desktop's layout says, which frees those keys.
//! Only then, as what a user has changed by xmodmap goes with them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

/// What Xvnc says then; the key follows.
const USED_UP: &str = "Failure adding new keysym";
/// Loads the map of the present layout; without an argument it changes nothing else.
const PROGRAM: &str = "/usr/bin/setxkbmap";
/// Not more often: a program that presses thousands of keys must not have one started for each.
const NOT_WITHIN: Duration = Duration::from_secs(5);

/// When the map was last loaded.
#[derive(Debug)]
pub(super) struct Keyboard {
    loaded: Option<Instant>,
}

impl Keyboard {
    /// One that was never loaded.
    pub(super) const fn new() -> Self {
        Self { loaded: None }
    }

    /// The program to run in the desktop, if the X server has just said that it has given all keys away.
    pub(super) fn heard(&mut self, said: &str, now: Instant) -> Option<&'static Path> {
        self.is_used_up(said, now).then_some(Path::new(PROGRAM))
    }

    /// Whether the map is to be loaded, as the X server has said this; asked once.
    fn is_used_up(&mut self, said: &str, now: Instant) -> bool {
        let lately = self.loaded.is_some_and(|at| now.saturating_duration_since(at) < NOT_WITHIN);
        let used_up = said.contains(USED_UP) && !lately;
        if used_up {
            self.loaded = Some(now);
        }
        used_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_loaded_when_keys_are_used_up_and_not_at_each_key() {
        let (mut keyboard, start) = (Keyboard::new(), vsm_daemon::clock::now());
        let full = " VNCSConnST: Failure adding new keysym 0x10003b1\n";
        assert!(!keyboard.is_used_up("Added unknown keysym 0x10003b1 to keycode 100", start));
        assert!(keyboard.is_used_up(full, start));
        assert!(!keyboard.is_used_up(full, start + NOT_WITHIN / 2));
        assert!(keyboard.is_used_up(full, start + NOT_WITHIN));
    }
}
