//! What the monitor knows that the limits of its session depend on, and what it is to do: without input or output, so
//! that weeks can be run through it in a moment.
//!
//! The clock is the monotonic one, from the start of the session: this process lives as long as the session does, and
//! neither a restart of vsmagent nor a jump of the wall clock moves it.

use vsm_core::{
    CannotExtend, Ends, Extension, Facts, Input, Life, Limit, Limits, Standing, Step, Tick,
    UnixMillis, Viewed, Words,
};

/// After the X server did not answer it is not asked again for so long.
const DEAF_MS: u64 = 60_000;
/// An input that is newer than the last one by less is the same one, measured again.
const SAME_INPUT_MS: u64 = 200;
/// Warnings in one turn: each limit has two.
const STEPS_MAX: usize = 2 * Limit::ALL.len() + 2;

/// What the monitor is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Show this text on the desktop.
    Warn(String),
    /// Drop the viewers, with these words.
    Drop(String),
    /// End the session, with these words.
    End(String),
    /// Ask the X server for the last input, and say what came of it.
    Measure,
}

/// Keeps a session's time.
#[derive(Debug)]
pub(super) struct Keeper {
    life: Life,
    viewed: Viewed,
    input: Option<Input>,
    measuring: bool,
    measure_from: Tick,
}

impl Keeper {
    /// For a session that starts now, which is moment 0.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            life: Life::new(limits),
            viewed: Viewed::NotSince(Tick(0)),
            input: None,
            measuring: false,
            measure_from: Tick(0),
        }
    }

    fn facts(&self, now: Tick) -> Facts {
        Facts { now, started: Tick(0), viewed: self.viewed, input: self.input }
    }

    pub(super) const fn limits(&self) -> &Limits {
        self.life.limits()
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.life.set_limits(limits);
    }

    /// Since when the oldest viewer that is there has been there; none = nobody views it.
    pub(super) fn set_viewed(&mut self, since: Option<Tick>, now: Tick) {
        self.viewed = match (since, self.viewed) {
            (Some(since), _) => Viewed::Since(since),
            (None, Viewed::NotSince(since)) => Viewed::NotSince(since),
            (None, Viewed::Since(_)) => Viewed::NotSince(now),
        };
    }

    /// What the X server said: how long ago the last input was; none = it does not say.
    pub(super) fn measured(&mut self, idle_ms: Option<u64>, now: Tick) {
        self.measuring = false;
        self.input = idle_ms.map(|idle_ms| {
            let at = now.before(idle_ms);
            let known = self.input.map(|input| input.at);
            let at = known.filter(|known| at <= known.after(SAME_INPUT_MS)).unwrap_or(at);
            Input { at, as_of: now }
        });
        if idle_ms.is_none() {
            self.measure_from = now.after(DEAF_MS);
        }
    }

    /// What to do now, and when to look again; none = when something has happened.
    pub(super) fn turn(&mut self, now: Tick) -> (Vec<Deed>, Option<Tick>) {
        let mut deeds = Vec::new();
        for _ in 0..STEPS_MAX {
            let facts = self.facts(now);
            match self.life.step(&facts) {
                Step::Warn { limit, left_ms } => {
                    deeds.push(Deed::Warn(self.warning(limit, left_ms, &facts)));
                }
                Step::Act(limit) => {
                    let limits = self.life.limits();
                    let why =
                        format!("{} ({})", reached(limit, limits.of(limit)), limits.named(limit));
                    deeds.push(if limit.ends() { Deed::End(why) } else { Deed::Drop(why) });
                    return (deeds, Some(now));
                }
                Step::Rest { mut until, measure } => {
                    if measure && !self.measuring {
                        if now >= self.measure_from {
                            self.measuring = true;
                            deeds.push(Deed::Measure);
                        } else {
                            let from = self.measure_from;
                            until = Some(until.map_or(from, |until| until.min(from)));
                        }
                    }
                    return (deeds, until);
                }
            }
        }
        (deeds, Some(now))
    }

    /// Puts off what comes next.
    pub(super) fn extend(&mut self, now: Tick) -> Result<Extension, CannotExtend> {
        self.life.extend(&self.facts(now))
    }

    /// How the session stands; `wall` is the same moment by the wall clock.
    pub(super) fn standing(&self, now: Tick, wall: UnixMillis) -> Standing {
        let facts = self.facts(now);
        let deadline = self.life.deadline(&facts);
        Standing {
            limits: self.life.limits().clone(),
            disconnected_since: match self.viewed {
                Viewed::Since(_) => None,
                Viewed::NotSince(since) => {
                    Some(UnixMillis(wall.0.saturating_sub(now.since(since))))
                }
            },
            idle_ms: self.input.map(|input| now.since(input.at)),
            ends: deadline.map(|deadline| Ends {
                limit: deadline.limit,
                at: UnixMillis(wall.0.saturating_add(deadline.at.since(now))),
                warned: deadline.warned,
            }),
            extensions_used: deadline
                .map_or(0, |deadline| self.life.extensions_used(deadline.limit, &facts)),
        }
    }

    /// What changes of the standing are worth telling: not that time goes by.
    pub(super) fn gist(&self, now: Tick) -> Gist {
        let ends = self.life.deadline(&self.facts(now));
        let ends = ends.map(|ends| (ends.limit, ends.at, ends.warned));
        Gist { limits: self.life.limits().clone(), viewed: self.viewed, ends }
    }

    /// The text that the desktop is warned with.
    fn warning(&self, limit: Limit, left_ms: u64, facts: &Facts) -> String {
        let limits = self.life.limits();
        let (left, time) = (Words(left_ms), Words(limits.of(limit)));
        let what = match limit {
            Limit::IdleDisconnect => format!(
                "You will be disconnected from this desktop in {left}, as it was not used (limit: {time}). Press a key or move the pointer to stay. What runs goes on."
            ),
            Limit::Idle => format!(
                "This desktop will be ended in {left}, as it was not used (limit: {time}). Press a key or move the pointer to keep it."
            ),
            Limit::Disconnected => format!(
                "This desktop will be ended in {left}, as nobody is connected to it (limit: {time}). Connecting to it keeps it."
            ),
            Limit::Connected => format!(
                "This desktop will be ended in {left}: you have been connected to it for as long as is allowed ({time}). Save your work."
            ),
            Limit::Lifetime => format!(
                "This desktop will be ended in {left}: it has run for as long as is allowed ({time}). Save your work."
            ),
        };
        let used = self.life.extensions_used(limit, facts);
        match limits.extensions.saturating_sub(used) {
            more if more > 0 && limits.extension_ms > 0 => {
                format!("{what}\nTo put it off by {}: vsm-extend", Words(limits.extension_ms))
            }
            _ => what,
        }
    }
}

/// See [`Keeper::gist`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gist {
    limits: Limits,
    viewed: Viewed,
    ends: Option<(Limit, Tick, bool)>,
}

/// The limit that was reached, in words.
fn reached(limit: Limit, time: u64) -> String {
    let time = Words(time);
    match limit {
        Limit::Lifetime => format!("it ran for {time}"),
        Limit::Connected => format!("it was viewed for {time} without a break"),
        Limit::Disconnected => format!("nobody was connected for {time}"),
        Limit::Idle | Limit::IdleDisconnect => {
            format!("there was no key and no move of the pointer for {time}")
        }
    }
}

#[cfg(test)]
mod tests;
