//! The rule by example, and against random lives.

use proptest::prelude::*;

use super::*;

const MIN: u64 = 60_000;
const HOUR: u64 = 60 * MIN;

fn limits() -> Limits {
    Limits {
        origin: "staff".to_owned(),
        warn_ms: 5 * MIN,
        warn_again_ms: MIN,
        extension_ms: 30 * MIN,
        extensions: 2,
        ..Limits::default()
    }
}

fn facts(now: u64, viewed: Viewed, input: u64) -> Facts {
    let now = Tick(now);
    Facts { now, started: Tick(0), viewed, input: Some(Input { at: Tick(input), as_of: now }) }
}

fn away(now: u64) -> Facts {
    facts(now, Viewed::NotSince(Tick(0)), 0)
}

fn here(now: u64) -> Facts {
    facts(now, Viewed::Since(Tick(0)), now)
}

fn rest(until: u64) -> Step {
    Step::Rest { until: Some(Tick(until)), measure: false }
}

#[test]
fn nothing_is_limited_unless_the_administrator_says_so() {
    let mut life = Life::default();
    let forever = Step::Rest { until: None, measure: false };
    for now in [0, HOUR, 1_000 * HOUR, u64::MAX] {
        assert_eq!(life.step(&away(now)), forever);
    }
    assert_eq!(life.extend(&away(7)), Err(CannotExtend::NoDeadline));
    assert!(life.limits().is_none() && !life.limits().needs_input());
}

#[test]
fn a_limit_warns_twice_and_then_acts() {
    let mut life = Life::new(Limits { disconnected_ms: HOUR, ..limits() });
    assert_eq!(life.step(&away(0)), rest(55 * MIN));
    let warn = |left_ms| Step::Warn { limit: Limit::Disconnected, left_ms };
    assert_eq!(life.step(&away(55 * MIN)), warn(5 * MIN));
    assert_eq!(life.step(&away(55 * MIN)), rest(59 * MIN));
    assert_eq!(life.step(&away(59 * MIN)), warn(MIN));
    assert_eq!(life.step(&away(59 * MIN)), rest(60 * MIN));
    assert_eq!(life.step(&away(60 * MIN - 1)), rest(60 * MIN));
    assert_eq!(life.step(&away(60 * MIN)), Step::Act(Limit::Disconnected));
}

#[test]
fn who_comes_back_calls_it_off_and_the_time_begins_anew() {
    let mut life = Life::new(Limits { disconnected_ms: HOUR, ..limits() });
    assert!(matches!(life.step(&away(56 * MIN)), Step::Warn { .. }));
    assert!(life.is_warned());
    let back = facts(57 * MIN, Viewed::Since(Tick(57 * MIN)), 0);
    assert_eq!(life.step(&back), Step::Rest { until: None, measure: false });
    assert!(!life.is_warned());
    let gone = facts(58 * MIN, Viewed::NotSince(Tick(58 * MIN)), 0);
    assert_eq!(life.step(&gone), rest(58 * MIN + 55 * MIN));
}

#[test]
fn a_limit_that_is_made_shorter_gives_the_warning_its_whole_time() {
    let mut life = Life::new(Limits { lifetime_ms: 100 * HOUR, ..limits() });
    assert_eq!(life.step(&here(50 * HOUR)), rest(100 * HOUR - 5 * MIN));
    life.set_limits(Limits { lifetime_ms: HOUR, ..limits() });
    let warned = Step::Warn { limit: Limit::Lifetime, left_ms: 5 * MIN };
    assert_eq!(life.step(&here(50 * HOUR)), warned);
    // Shorter still, and with a shorter warning: what was said holds.
    life.set_limits(Limits { lifetime_ms: 1, warn_ms: 1, warn_again_ms: 0, ..limits() });
    assert_eq!(life.step(&here(50 * HOUR + 2)), rest(50 * HOUR + 5 * MIN));
    assert_eq!(life.step(&here(50 * HOUR + 5 * MIN)), Step::Act(Limit::Lifetime));
    // Longer again, or none: it is called off.
    life.set_limits(Limits { lifetime_ms: 100 * HOUR, ..limits() });
    assert_eq!(life.step(&here(51 * HOUR)), rest(100 * HOUR - 5 * MIN));
    life.set_limits(Limits::default());
    assert_eq!(life.step(&here(101 * HOUR)), Step::Rest { until: None, measure: false });
}

#[test]
fn time_that_nobody_looked_after_ends_nothing_without_a_warning() {
    let mut life = Life::new(Limits { connected_ms: HOUR, ..limits() });
    // The monitor was stopped for a week.
    let late = here(7 * 24 * HOUR);
    assert_eq!(life.step(&late), Step::Warn { limit: Limit::Connected, left_ms: 5 * MIN });
    assert_eq!(life.step(&late), rest(7 * 24 * HOUR + 4 * MIN));
}

#[test]
fn idleness_is_looked_at_again_before_anything_is_said_or_done() {
    let mut life = Life::new(Limits { idle_ms: HOUR, idle_disconnect_ms: 30 * MIN, ..limits() });
    let viewed = Viewed::Since(Tick(0));
    let unknown = Facts { input: None, ..here(10 * HOUR) };
    assert_eq!(life.step(&unknown), Step::Rest { until: None, measure: true });
    let old = |now: u64, at: u64, as_of: u64| Facts {
        input: Some(Input { at: Tick(at), as_of: Tick(as_of) }),
        ..facts(now, viewed, 0)
    };
    assert_eq!(life.step(&old(0, 0, 0)), rest(25 * MIN));
    let stale = life.step(&old(25 * MIN, 0, 0));
    assert!(matches!(stale, Step::Rest { measure: true, .. }), "{stale:?}");
    assert_eq!(life.step(&old(25 * MIN, 20 * MIN, 25 * MIN)), rest(45 * MIN));
    let warned = life.step(&old(45 * MIN, 20 * MIN, 45 * MIN));
    assert_eq!(warned, Step::Warn { limit: Limit::IdleDisconnect, left_ms: 5 * MIN });
    // While it is out the user's return is looked for.
    assert_eq!(life.step(&old(45 * MIN, 20 * MIN, 45 * MIN)), rest(45 * MIN + LOOK_EVERY_MS));
    assert_eq!(life.step(&old(46 * MIN, 46 * MIN, 46 * MIN)), rest(46 * MIN + 25 * MIN));
    assert!(!life.is_warned());
    let mut life = Life::new(Limits { idle_disconnect_ms: 30 * MIN, ..limits() });
    assert!(matches!(life.step(&facts(25 * MIN, viewed, 0)), Step::Warn { .. }));
    assert!(matches!(life.step(&facts(29 * MIN, viewed, 0)), Step::Warn { .. }));
    assert_eq!(life.step(&facts(30 * MIN, viewed, 0)), Step::Act(Limit::IdleDisconnect));
    // Who has just come is not idle, whenever the last key was.
    let came = facts(40 * MIN, Viewed::Since(Tick(40 * MIN)), 0);
    assert_eq!(life.step(&came), rest(65 * MIN));
}

#[test]
fn an_end_is_put_off_as_often_as_is_allowed() {
    let mut life = Life::new(Limits { connected_ms: HOUR, ..limits() });
    assert!(matches!(life.step(&here(55 * MIN)), Step::Warn { .. }));
    let first = life.extend(&here(56 * MIN)).unwrap();
    assert_eq!(first, Extension { limit: Limit::Connected, left_ms: 34 * MIN, more: 1 });
    assert_eq!(life.step(&here(60 * MIN)), rest(85 * MIN));
    let second = life.extend(&here(61 * MIN)).unwrap();
    assert_eq!((second.left_ms, second.more), (59 * MIN, 0));
    assert_eq!(life.extensions_used(Limit::Connected, &here(61 * MIN)), 2);
    assert_eq!(life.extend(&here(62 * MIN)), Err(CannotExtend::Spent(2)));
    assert!(matches!(life.step(&here(115 * MIN)), Step::Warn { left_ms: 300_000, .. }));
    // The next connection has its own.
    let again = facts(3 * HOUR, Viewed::Since(Tick(2 * HOUR)), 0);
    assert_eq!(life.extend(&again).unwrap().more, 1);
    life.set_limits(Limits { connected_ms: HOUR, extensions: 0, ..limits() });
    assert_eq!(life.extend(&again), Err(CannotExtend::NotAllowed));
    // Any key does it for idleness, until there is a warning that somebody far away has heard of.
    let mut life = Life::new(Limits { idle_ms: HOUR, ..limits() });
    assert_eq!(life.extend(&away(30 * MIN)), Err(CannotExtend::NoDeadline));
    assert!(matches!(life.step(&away(55 * MIN)), Step::Warn { .. }));
    assert_eq!(life.extend(&away(56 * MIN)).unwrap().left_ms, 34 * MIN);
}

#[test]
fn the_next_end_is_told() {
    let both = Limits { lifetime_ms: 3 * HOUR, connected_ms: 2 * HOUR, ..limits() };
    let mut life = Life::new(both);
    let next = Deadline { limit: Limit::Connected, at: Tick(2 * HOUR), warned: false };
    assert_eq!(life.deadline(&here(0)), Some(next));
    assert!(matches!(life.step(&here(115 * MIN)), Step::Warn { .. }));
    assert_eq!(life.deadline(&here(116 * MIN)), Some(Deadline { warned: true, ..next }));
    let words = life.limits().named(Limit::Connected);
    assert_eq!(words, "/vsmserver/limits/staff/connected_max = 2 h");
    for (ms, words) in [(0, "0 s"), (90_000, "1 min 30 s"), (1, "1 s"), (25 * HOUR, "25 h")] {
        assert_eq!(Words(ms).to_string(), words);
    }
}

/// What can happen to a session.
#[derive(Debug, Clone)]
enum Happening {
    Time(u64),
    Come,
    Go,
    Key,
    Set(Limits),
    Extend,
    /// Nobody can say when the last key was.
    Deaf(bool),
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let time = || prop_oneof![2 => Just(0), 3 => 1..2_000_000u64];
    let times = (time(), time(), time(), time(), time());
    (times, time(), time(), time(), 0..4u32).prop_map(
        |(times, warn_ms, again, extension_ms, extensions)| {
            let (disconnected_ms, connected_ms, idle_ms, idle_disconnect_ms, lifetime_ms) = times;
            Limits {
                origin: "any".to_owned(),
                disconnected_ms,
                connected_ms,
                idle_ms,
                idle_disconnect_ms,
                lifetime_ms,
                warn_ms,
                warn_again_ms: again,
                extension_ms,
                extensions,
            }
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..3_000_000u64).prop_map(Happening::Time),
        2 => Just(Happening::Come),
        2 => Just(Happening::Go),
        4 => Just(Happening::Key),
        1 => any_limits().prop_map(Happening::Set),
        2 => Just(Happening::Extend),
        1 => any::<bool>().prop_map(Happening::Deaf),
    ]
}

/// A session that obeys the rule, with a strict observer.
struct World {
    life: Life,
    now: Tick,
    viewed: Viewed,
    key: Tick,
    deaf: bool,
    /// By limit: when its warning went out, what the time counted from, and the moment that it named.
    told: [Option<(Tick, Option<Tick>, Tick)>; Limit::ALL.len()],
    given: [u32; Limit::ALL.len()],
    acted: u32,
}

impl World {
    fn facts(&self) -> Facts {
        // The X server is asked whenever it is wanted; so what is known is always of now, unless it does not answer.
        let input = Input { at: self.key, as_of: self.now };
        let input = Some(input).filter(|_| !self.deaf);
        Facts { now: self.now, started: Tick(0), viewed: self.viewed, input }
    }

    /// Obeys until the rule says to wait; the moment until when.
    fn settle(&mut self) -> Option<Tick> {
        for _ in 0..32 {
            let facts = self.facts();
            // What does not count now, or is due later than was said, is called off and may be said again.
            for limit in Limit::ALL {
                let due = self.life.due(limit, &facts);
                self.told[limit as usize]
                    .take_if(|(_, _, end)| due.is_none_or(|(_, at)| at > *end));
            }
            match self.life.step(&facts) {
                Step::Rest { until, measure } => {
                    assert!(until.is_none_or(|until| until > self.now), "it would spin");
                    assert_eq!(measure, self.deaf && self.life.limits().needs_input());
                    return until;
                }
                Step::Warn { limit, left_ms } => {
                    let warn_ms = self.life.limits().warn_ms;
                    assert!(warn_ms > 0 && self.life.limits().of(limit) > 0);
                    let again = self.life.limits().warn_again_ms;
                    let told = &mut self.told[limit as usize];
                    let base = base(limit, &facts);
                    match told {
                        Some((_, since, end))
                            if *since == base && *end == self.now.after(left_ms) =>
                        {
                            assert!(left_ms <= again, "twice and too early");
                        }
                        _ => {
                            let extended = self.given[limit as usize] > 0;
                            let least = if extended {
                                warn_ms.min(self.life.limits().extension_ms)
                            } else {
                                warn_ms
                            };
                            assert!(left_ms >= least, "{left_ms} of {least}");
                            *told = Some((self.now, base, self.now.after(left_ms)));
                        }
                    }
                }
                Step::Act(limit) => self.act(limit),
            }
        }
        panic!("it never rests");
    }

    fn act(&mut self, limit: Limit) {
        let facts = self.facts();
        let time = self.life.limits().of(limit);
        let from = base(limit, &facts).expect("a limit that does not count acts");
        assert!(time > 0, "a limit that is not set acts");
        assert!(self.now >= from.after(time), "too early");
        if self.life.limits().warn_ms > 0 {
            let (_, since, end) = self.told[limit as usize].expect("never warned");
            assert_eq!(since, Some(from), "the warning was of another time");
            assert!(self.now >= end, "before the moment that was named");
        }
        self.acted += 1;
        if limit.ends() {
            // The next session.
            let limits = self.life.limits().clone();
            let (told, given) = Default::default();
            let (now, deaf, acted) = (Tick(0), self.deaf, self.acted);
            let viewed = Viewed::NotSince(now);
            *self =
                Self { life: Life::new(limits), now, viewed, key: now, deaf, told, given, acted };
        } else {
            self.viewed = Viewed::NotSince(self.now);
        }
    }

    fn happen(&mut self, happening: Happening) {
        // No two things happen in the same moment.
        self.now = self.now.after(1);
        match happening {
            Happening::Time(ms) => {
                // As a monitor that wakes in time does; one in four sleeps through.
                let to = self.now.after(ms);
                let acted = self.acted;
                while ms % 4 != 0
                    && let Some(until) = self.settle().filter(|until| *until < to)
                {
                    // The next session has a time of its own.
                    if self.acted != acted {
                        return;
                    }
                    self.now = until;
                }
                self.now = self.now.max(to);
            }
            Happening::Come => self.viewed = Viewed::Since(self.now),
            Happening::Go => self.viewed = Viewed::NotSince(self.now),
            Happening::Key => self.key = self.now,
            Happening::Set(limits) => self.life.set_limits(limits),
            Happening::Deaf(deaf) => self.deaf = deaf,
            Happening::Extend => {
                let before = self.life.deadline(&self.facts());
                if let Ok(extension) = self.life.extend(&self.facts()) {
                    let given = &mut self.given[extension.limit as usize];
                    *given += 1;
                    assert!(extension.more < self.life.limits().extensions);
                    assert!(before.is_some());
                }
            }
        }
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_life_ends_before_its_time_or_unwarned(
        limits in any_limits(),
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let now = Tick(0);
        let mut world = World {
            life: Life::new(limits),
            now,
            viewed: Viewed::NotSince(now),
            key: now,
            deaf: false,
            told: Default::default(),
            given: Default::default(),
            acted: 0,
        };
        world.settle();
        for happening in happenings {
            world.happen(happening);
        }
    }

    /// What an administrator sets does happen.
    #[test]
    fn a_life_that_is_left_alone_ends_in_time(limits in any_limits()) {
        let mut life = Life::new(limits.clone());
        let mut now = Tick(0);
        let ends = [limits.lifetime_ms, limits.disconnected_ms, limits.idle_ms];
        let first = ends.into_iter().filter(|ms| *ms > 0).min();
        let acted = loop {
            match life.step(&facts(now.0, Viewed::NotSince(Tick(0)), 0)) {
                Step::Act(limit) => break Some(limit),
                Step::Warn { .. } => {}
                Step::Rest { until: Some(until), .. } => now = until,
                Step::Rest { until: None, .. } => break None,
            }
        };
        prop_assert_eq!(acted.is_some(), first.is_some());
        if let Some(first) = first {
            prop_assert!(now.0 <= first.max(limits.warn_ms));
        }
    }
}
