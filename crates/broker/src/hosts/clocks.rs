//! Clocks of other hosts that differ from this broker's: certificates, limits of desktops and the times of events go by
//! them.

use std::time::Duration;

use vsm_daemon::trouble::{Kind, Troubles};

/// So much they may differ.
const DIFFERS_MS: i64 = 30_000;
/// A difference that changed by less is told no second time.
const DRIFT_MS: i64 = 10_000;
/// It counts for so long: agents tell their clock twice a minute.
const COUNTS_FOR: Duration = Duration::from_secs(100);

/// The clock of one host, as it was seen.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Its clock minus this one's, in milliseconds, when it was looked at last.
    seen: Option<i64>,
    /// The difference that was told last.
    told: Option<i64>,
}

impl Clock {
    /// Takes a look: the difference that is to be told, in milliseconds. What was long on its way looks late, so it is
    /// to be so twice in a row.
    fn differs(&mut self, skew_ms: i64) -> Option<i64> {
        let before = self.seen.replace(skew_ms);
        let wrong = |skew: i64| skew.saturating_abs() > DIFFERS_MS;
        let same = before.is_some_and(|before| wrong(before) && (before < 0) == (skew_ms < 0));
        self.told = match self.told {
            _ if !(wrong(skew_ms) && same) => None,
            Some(told) if told.saturating_sub(skew_ms).saturating_abs() < DRIFT_MS => Some(told),
            _ => Some(skew_ms),
        };
        self.told
    }

    /// Takes a look and tells.
    pub(crate) fn look(&mut self, troubles: &Troubles, who: &str, skew_ms: i64) {
        match self.differs(skew_ms) {
            Some(skew_ms) => {
                let by = skew_ms.unsigned_abs() / 1000;
                let side = if skew_ms < 0 { "behind" } else { "ahead of" };
                let what = format!("the clock of {who} is {by} s {side} this broker's");
                troubles.raise_for(COUNTS_FOR, Kind::Clock, who, what);
            }
            None => troubles.over(Kind::Clock, who),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_twice_in_a_row_is_told_until_it_does_not() {
        let mut clock = Clock::default();
        let seen =
            [0, 31_000, 30_000, 40_000, 41_000, 45_000, 60_000, -60_000, -61_000, 29_000, -40_000];
        let told = seen.map(|skew| clock.differs(skew));
        let (some, ahead, behind) = (Some(41_000), Some(60_000), Some(-61_000));
        assert_eq!(told, [None, None, None, None, some, some, ahead, None, behind, None, None]);
    }

    #[test]
    fn it_is_told_by_how_much_and_to_which_side() {
        let (troubles, mut clock) = (Troubles::default(), Clock::default());
        for skew in [-90_500, -90_600, -93_000] {
            clock.look(&troubles, "agent1", skew);
        }
        assert_eq!(troubles.now()[0].what, "the clock of agent1 is 90 s behind this broker's");
        clock.look(&troubles, "agent1", 3);
        assert_eq!(troubles.now(), []);
    }
}
