//! What a person sees while something takes time: one line on stderr per step, with the time.

use std::io::IsTerminal;
use std::time::Instant;

use crate::clock;

/// A running account of steps since its creation.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    start: Instant,
    shown: bool,
    colour: bool,
}

impl Progress {
    /// Starts the account; `shown` says whether it prints at all.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::io::stderr().is_terminal();
        Self { start: clock::now(), shown, colour }
    }

    /// Prints one step with the seconds since the start.
    pub fn step(&self, text: impl AsRef<str>) {
        if !self.shown {
            return;
        }
        let seconds = (clock::now() - self.start).as_secs_f64();
        let text = text.as_ref();
        if self.colour {
            eprintln!("\x1b[2m{seconds:7.2} s\x1b[0m  {text}");
        } else {
            eprintln!("{seconds:7.2} s  {text}");
        }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn elapsed_ms(&self) -> u128 {
        (clock::now() - self.start).as_millis()
    }
}
