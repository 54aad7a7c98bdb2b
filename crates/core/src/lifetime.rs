//! The limits of a session's life: when its desktop is warned, its viewer dropped, its end come.
//!
//! [`Life`] is told how things stand ([`Facts`]) and says what to do now and when to ask again. It never acts without a
//! warning that has been out for its whole time, whatever became of the limits, the clock or the caller meanwhile; it
//! never acts before the moment that a warning has named; and what it does not know, such as the user's last key, ends
//! nothing (P9).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::UnixMillis;

/// Milliseconds of a clock that only goes forward, from an origin of the caller's. The monotonic clock, not the wall
/// clock, which jumps; and not one that counts while the host is suspended: nobody could come back in that time, nor
/// see a warning.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Tick(pub u64);

impl Tick {
    /// So much later.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// So much earlier.
    #[must_use]
    pub const fn before(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from an earlier moment to this one; 0 where that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Longest name of the place where limits come from, in bytes.
pub const ORIGIN_MAX: usize = 253;
/// Longest of all times, in milliseconds: ten years.
pub const LIMIT_MAX_MS: u64 = 315_360_000_000;
/// What is known of the last key or pointer is good for this long where something is to be done because of it.
const FRESH_MS: u64 = 3_000;
/// While a warning of idleness is out the user's return is looked for this often.
const LOOK_EVERY_MS: u64 = 5_000;

/// Limits as the administrator set them. Times in milliseconds, 0 = no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Name of the folder that they come from; empty = none is set.
    pub origin: String,
    /// After so long without a viewer the session ends.
    pub disconnected_ms: u64,
    /// When one connection has lasted so long the session ends.
    pub connected_ms: u64,
    /// After so long without a key or a move of the pointer the session ends.
    pub idle_ms: u64,
    /// After so long without a key or a move of the pointer the viewer is dropped.
    pub idle_disconnect_ms: u64,
    /// So long after its start the session ends.
    pub lifetime_ms: u64,
    /// So long before, the desktop is warned; 0 = it is not.
    pub warn_ms: u64,
    /// So long before, it is warned again; 0 = it is not.
    pub warn_again_ms: u64,
    /// By so much the user can put the end off.
    pub extension_ms: u64,
    /// So often.
    pub extensions: u32,
}

/// One kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Since the start.
    Lifetime,
    /// Of one connection.
    Connected,
    /// Without a viewer.
    Disconnected,
    /// Without input; ends the session.
    Idle,
    /// Without input; drops the viewer.
    IdleDisconnect,
}

impl Limit {
    /// All of them. What ends a session comes before what only drops its viewer.
    pub const ALL: [Self; 5] =
        [Self::Lifetime, Self::Connected, Self::Disconnected, Self::Idle, Self::IdleDisconnect];

    /// The parameter that sets it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime_max",
            Self::Connected => "connected_max",
            Self::Disconnected => "disconnected_max",
            Self::Idle => "idle_max",
            Self::IdleDisconnect => "idle_disconnect",
        }
    }

    /// The limit that a parameter sets.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.key() == key)
    }

    /// Whether it ends the session, and does not only drop the viewer.
    #[must_use]
    pub const fn ends(self) -> bool {
        !matches!(self, Self::IdleDisconnect)
    }

    const fn is_of_idleness(self) -> bool {
        matches!(self, Self::Idle | Self::IdleDisconnect)
    }
}

impl Limits {
    /// The time of one kind; 0 = no limit.
    #[must_use]
    pub const fn of(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Lifetime => self.lifetime_ms,
            Limit::Connected => self.connected_ms,
            Limit::Disconnected => self.disconnected_ms,
            Limit::Idle => self.idle_ms,
            Limit::IdleDisconnect => self.idle_disconnect_ms,
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        Limit::ALL.iter().all(|limit| self.of(*limit) == 0)
    }

    /// Whether the user's input has to be watched.
    #[must_use]
    pub const fn needs_input(&self) -> bool {
        self.idle_ms > 0 || self.idle_disconnect_ms > 0
    }

    /// Where a limit is set, with its value: for people.
    #[must_use]
    pub fn named(&self, limit: Limit) -> String {
        let (key, value) = (limit.key(), Words(self.of(limit)));
        format!("/vsmserver/limits/{}/{key} = {value}", self.origin)
    }
}

/// Milliseconds as people read them: `2 h`, `1 h 30 min`, `45 s`; rounded up to seconds.
#[derive(Debug, Clone, Copy)]
pub struct Words(pub u64);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_ceil(1000);
        let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
        let mut empty = true;
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{}{number} {unit}", if empty { "" } else { " " })?;
            empty = false;
        }
        if empty { f.write_str("0 s") } else { Ok(()) }
    }
}

/// Whether somebody views the desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewed {
    /// Since then.
    Since(Tick),
    /// Nobody does, since then.
    NotSince(Tick),
}

/// What is known of the user's keys and pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// When the last one came.
    pub at: Tick,
    /// When that was learnt.
    pub as_of: Tick,
}

/// How things stand.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Now.
    pub now: Tick,
    /// When the session started.
    pub started: Tick,
    /// Viewer.
    pub viewed: Viewed,
    /// The user's last input; none = it is not known, and no limit of idleness holds.
    pub input: Option<Input>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The limit is reached: end the session, or drop its viewer.
    Act(Limit),
    /// Warn the desktop; then ask again at once.
    Warn {
        /// Of what.
        limit: Limit,
        /// How long until then.
        left_ms: u64,
    },
    /// Nothing.
    Rest {
        /// Ask again then; none = only when something has happened.
        until: Option<Tick>,
        /// Learn when the last input was, and ask again.
        measure: bool,
    },
}

/// The end that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// By which limit.
    pub limit: Limit,
    /// When.
    pub at: Tick,
    /// Whether the desktop has been warned of it.
    pub warned: bool,
}

/// How a session stands against its limits, for people: times are of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The limits that it is kept to.
    pub limits: Limits,
    /// Since when nobody views it; none = somebody does.
    pub disconnected_since: Option<UnixMillis>,
    /// How long ago the last input was; none = not known.
    pub idle_ms: Option<u64>,
    /// What comes next as things stand.
    pub ends: Option<Ends>,
    /// How often that was put off.
    pub extensions_used: u32,
}

/// The same as [`Deadline`] by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// By which limit.
    pub limit: Limit,
    /// When.
    pub at: UnixMillis,
    /// Whether the desktop has been warned of it.
    pub warned: bool,
}

/// An end that was put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// Which limit.
    pub limit: Limit,
    /// How long there is now.
    pub left_ms: u64,
    /// How often it can be put off still.
    pub more: u32,
}

/// Why an end cannot be put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotExtend {
    /// There is nothing to put off.
    #[error("no limit is about to end this desktop")]
    NoDeadline,
    /// It is not allowed.
    #[error("the administrator allows no extension")]
    NotAllowed,
    /// It was done as often as is allowed.
    #[error("it has been extended {0} time(s), which is all that the administrator allows")]
    Spent(u32),
}

/// A warning that is out.
#[derive(Debug, Clone, Copy)]
struct Warning {
    /// What its time counts from.
    base: Tick,
    /// The moment that it named.
    end: Tick,
    again: bool,
}

/// An extension, for as long as the time counts from the same moment.
#[derive(Debug, Clone, Copy)]
struct Extended {
    base: Tick,
    times: u32,
    until: Tick,
}

/// One session's limits, the warnings that are out, and the extensions given.
#[derive(Debug, Clone, Default)]
pub struct Life {
    limits: Limits,
    warnings: [Option<Warning>; Limit::ALL.len()],
    extended: [Option<Extended>; Limit::ALL.len()],
}

/// The earlier of two moments, of which either may be none.
fn earlier(one: Option<Tick>, other: Tick) -> Option<Tick> {
    Some(one.map_or(other, |one| one.min(other)))
}

/// What the time of a limit counts from; none = it does not count now.
fn base(limit: Limit, facts: &Facts) -> Option<Tick> {
    match (limit, facts.viewed) {
        (Limit::Lifetime, _) => Some(facts.started),
        (Limit::Connected, Viewed::Since(since))
        | (Limit::Disconnected, Viewed::NotSince(since)) => Some(since),
        (Limit::Connected | Limit::IdleDisconnect, Viewed::NotSince(_))
        | (Limit::Disconnected, Viewed::Since(_)) => None,
        (Limit::Idle, Viewed::NotSince(_)) => Some(facts.input?.at.max(facts.started)),
        // Who has just come is not idle.
        (Limit::Idle | Limit::IdleDisconnect, Viewed::Since(since)) => {
            Some(facts.input?.at.max(facts.started).max(since))
        }
    }
}

impl Life {
    /// A life under these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes new limits. A warning that is out holds, with the moment that it named.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The moments from which and at which a limit is due; none = never, as things stand.
    fn due(&self, limit: Limit, facts: &Facts) -> Option<(Tick, Tick)> {
        let time = self.limits.of(limit);
        if time == 0 {
            return None;
        }
        let base = base(limit, facts)?;
        let extended = self.extended[limit as usize].filter(|extended| extended.base == base);
        let due = base.after(time);
        Some((base, extended.map_or(due, |extended| due.max(extended.until))))
    }

    /// What to do now. To be asked again after every change of the facts, and when it says.
    pub fn step(&mut self, facts: &Facts) -> Step {
        let (mut until, mut measure) = (None, false);
        let unknown = facts.input.is_none() && self.limits.needs_input();
        let mut act = None;
        for limit in Limit::ALL {
            let Some((base, due)) = self.due(limit, facts) else {
                self.warnings[limit as usize] = None;
                continue;
            };
            let out = &mut self.warnings[limit as usize];
            // The user has come back, the end was put off, or the limit is a longer one now: it is called off.
            if out.is_some_and(|warning| warning.base != base || due > warning.end) {
                *out = None;
            }
            let (next, step) = self.of_one(limit, base, due, facts.now);
            let as_of = facts.input.map_or(Tick(0), |input| input.as_of);
            if limit.is_of_idleness() {
                if step.is_some() && facts.now > as_of.after(FRESH_MS) {
                    measure = true;
                    continue;
                }
                if self.warnings[limit as usize].is_some() {
                    let look = as_of.after(LOOK_EVERY_MS);
                    if facts.now >= look {
                        measure = true;
                    } else {
                        until = earlier(until, look);
                    }
                }
            }
            match step {
                None => until = earlier(until, next),
                Some(Step::Warn { left_ms, .. }) => {
                    let again = self.warnings[limit as usize].is_some();
                    let end = facts.now.after(left_ms);
                    self.warnings[limit as usize] = Some(Warning { base, end, again });
                    return Step::Warn { limit, left_ms };
                }
                Some(step) => act = act.or(Some(step)),
            }
        }
        act.unwrap_or(Step::Rest { until, measure: measure || unknown })
    }

    /// When something is next to be done because of one limit, and what it is if that is now.
    fn of_one(&self, limit: Limit, base: Tick, due: Tick, now: Tick) -> (Tick, Option<Step>) {
        let Limits { warn_ms, warn_again_ms, extension_ms, .. } = self.limits;
        let (at, step) = match self.warnings[limit as usize] {
            None if warn_ms == 0 => (due, Step::Act(limit)),
            None => {
                // Late, as the limit is a new one or nobody has asked in time: all of the warning's time is given
                // still.
                let extended = self.extended[limit as usize].filter(|e| e.base == base);
                let least = extended.map_or(warn_ms, |_| warn_ms.min(extension_ms));
                let left_ms = due.since(now).max(least);
                // One that is shorter than the warning is told of from its beginning.
                (due.before(warn_ms).max(base), Step::Warn { limit, left_ms })
            }
            Some(Warning { end, again: false, .. })
                if warn_again_ms > 0 && warn_again_ms < warn_ms && now < end =>
            {
                (end.before(warn_again_ms), Step::Warn { limit, left_ms: end.since(now) })
            }
            Some(Warning { end, .. }) => (end, Step::Act(limit)),
        };
        (at, (now >= at).then_some(step))
    }

    /// The end, or the drop of the viewer, that comes next as things stand.
    #[must_use]
    pub fn deadline(&self, facts: &Facts) -> Option<Deadline> {
        let of = |limit: Limit| {
            let (base, due) = self.due(limit, facts)?;
            let out = self.warnings[limit as usize];
            let out = out.filter(|warning| warning.base == base && due <= warning.end);
            let at = out.map_or(due, |warning| warning.end);
            Some(Deadline { limit, at, warned: out.is_some() })
        };
        Limit::ALL.into_iter().filter_map(of).min_by_key(|deadline| deadline.at)
    }

    /// How often the end by this limit was put off.
    #[must_use]
    pub fn extensions_used(&self, limit: Limit, facts: &Facts) -> u32 {
        let base = base(limit, facts);
        let extended = self.extended[limit as usize];
        extended.filter(|extended| Some(extended.base) == base).map_or(0, |extended| extended.times)
    }

    /// Puts off the end that comes next, from the moment of that. One by idleness only once it was warned of: any key
    /// does the same.
    ///
    /// # Errors
    /// If there is none, or it may not be put off, or not again.
    pub fn extend(&mut self, facts: &Facts) -> Result<Extension, CannotExtend> {
        let mut known = *facts;
        let idle_warned = [Limit::Idle, Limit::IdleDisconnect]
            .into_iter()
            .any(|limit| self.warnings[limit as usize].is_some());
        if !idle_warned {
            known.input = None;
        }
        let deadline = self.deadline(&known).ok_or(CannotExtend::NoDeadline)?;
        let Deadline { limit, at, .. } = deadline;
        let base = base(limit, facts).ok_or(CannotExtend::NoDeadline)?;
        let Limits { extension_ms, extensions, .. } = self.limits;
        if extension_ms == 0 || extensions == 0 {
            return Err(CannotExtend::NotAllowed);
        }
        let slot = &mut self.extended[limit as usize];
        let times = slot.filter(|extended| extended.base == base).map_or(0, |e| e.times);
        if times >= extensions {
            return Err(CannotExtend::Spent(times));
        }
        let until = at.max(facts.now).after(extension_ms);
        *slot = Some(Extended { base, times: times + 1, until });
        self.warnings[limit as usize] = None;
        // Another limit may come before that.
        let left_ms = self.deadline(&known).map_or(0, |next| next.at.since(facts.now));
        Ok(Extension { limit, left_ms, more: extensions - times - 1 })
    }

    /// Whether a warning is out.
    #[must_use]
    pub fn is_warned(&self) -> bool {
        self.warnings.iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests;
