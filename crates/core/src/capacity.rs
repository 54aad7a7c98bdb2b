//! How many more users fit, by memory and by caps, and when an administrator is to hear of it.

use crate::{Measured, Need};

/// How many more users an agent, or several together, can take; none = nothing bounds it that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// By memory.
    pub by_memory: Option<u32>,
    /// By the cap on users.
    pub by_cap: Option<u32>,
}

/// What bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Memory.
    Memory,
    /// The cap on users.
    Cap,
}

impl Room {
    /// Of one agent, with so many users and sessions there now; `max_users` 0 = no cap.
    #[must_use]
    pub fn of(
        measured: Option<&Measured>,
        need: Need,
        sessions: u32,
        users: u32,
        max_users: u32,
    ) -> Self {
        let by_memory = measured.map(|measured| {
            let promised = measured.since(sessions).saturating_mul(need.memory_mib);
            measured.memory_available_mib.saturating_sub(promised) / need.memory_mib.max(1)
        });
        let by_cap = (max_users != 0).then(|| max_users.saturating_sub(users));
        Self { by_memory, by_cap }
    }

    /// How many: the lower of both; none = no bound is known.
    #[must_use]
    pub fn users(self) -> Option<u32> {
        match (self.by_memory, self.by_cap) {
            (Some(memory), Some(cap)) => Some(memory.min(cap)),
            (one, other) => one.or(other),
        }
    }

    /// Which of them is the lower one.
    #[must_use]
    pub fn bound(self) -> Option<Bound> {
        match (self.by_memory, self.by_cap) {
            (Some(memory), Some(cap)) if memory < cap => Some(Bound::Memory),
            (_, Some(_)) => Some(Bound::Cap),
            (Some(_), None) => Some(Bound::Memory),
            (None, None) => None,
        }
    }
}

/// How near a subcluster is to having no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// There is room.
    #[default]
    Ok,
    /// There is little.
    Low,
    /// There is none.
    Full,
}

impl Level {
    /// The word for people and for JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Full => "full",
        }
    }

    /// The level now: low below `percent` of what the subcluster can hold in all, full without room. It gets better
    /// only at one and a half times what made it low, and at half of that for full, so that one user who comes and goes
    /// makes no stream of events. `room` none = no bound is known. `percent` 0 = low is not watched for; at most 50.
    #[must_use]
    pub fn next(self, room: Option<u32>, users: u32, percent: u32) -> Self {
        let Some(room) = room else { return Self::Ok };
        if room == 0 {
            return Self::Full;
        }
        // In halves of a percent, so that half a limit is a whole number.
        let free = u64::from(room) * 200 / (u64::from(room) + u64::from(users));
        let percent = u64::from(percent.min(50));
        let (low, full_over, low_over) = (percent * 2, percent, percent * 3);
        match self {
            Self::Full if free < full_over => Self::Full,
            Self::Full | Self::Low if free < low_over => Self::Low,
            Self::Full | Self::Low => Self::Ok,
            Self::Ok if free < low => Self::Low,
            Self::Ok => Self::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need { memory_mib: 500, cpu_milli: 100 };

    fn measured(available: u32, sessions: u32) -> Measured {
        Measured {
            memory_total_mib: 10_000,
            memory_available_mib: available,
            cpus: 4,
            cpu_busy_milli: 0,
            run_queue_milli: 0,
            stall_milli: 0,
            sessions,
        }
    }

    #[test]
    fn the_lower_of_memory_and_cap_binds() {
        let room = |available, sessions, users, max| {
            Room::of(Some(&measured(available, 2)), NEED, sessions, users, max)
        };
        assert_eq!(
            (room(2_600, 2, 2, 0).users(), room(2_600, 2, 2, 0).bound()),
            (Some(5), Some(Bound::Memory))
        );
        assert_eq!(
            (room(2_600, 2, 2, 4).users(), room(2_600, 2, 2, 4).bound()),
            (Some(2), Some(Bound::Cap))
        );
        assert_eq!(room(2_600, 4, 2, 0).users(), Some(3), "two have started since");
        assert_eq!(room(100, 2, 9, 4), Room { by_memory: Some(0), by_cap: Some(0) });
        assert_eq!(Room::of(None, NEED, 2, 2, 0).users(), None);
        assert_eq!(Room::of(None, NEED, 2, 2, 5).users(), Some(3));
    }

    #[test]
    fn levels_have_hysteresis() {
        let next = |before: Level, room, users| before.next(Some(room), users, 10);
        assert_eq!(next(Level::Ok, 10, 90), Level::Ok);
        assert_eq!(next(Level::Ok, 9, 91), Level::Low);
        assert_eq!(next(Level::Low, 10, 90), Level::Low, "not better at once");
        assert_eq!(next(Level::Low, 15, 85), Level::Ok);
        assert_eq!(next(Level::Low, 0, 100), Level::Full);
        assert_eq!(next(Level::Full, 4, 96), Level::Full);
        assert_eq!(next(Level::Full, 5, 95), Level::Low);
        assert_eq!(next(Level::Full, 50, 50), Level::Ok);
        assert_eq!(next(Level::Ok, 0, 0), Level::Full);
        assert_eq!(Level::Low.next(None, 5, 10), Level::Ok);
        assert_eq!(Level::Ok.next(Some(1), 1_000_000, 0), Level::Ok, "not watched for");
        assert_eq!(Level::Full.next(Some(1), 1_000_000, 0), Level::Ok);
    }
}
