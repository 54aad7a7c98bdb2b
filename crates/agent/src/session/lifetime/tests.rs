//! Weeks of a session in a moment: the rule and the monitor's own keeping of time, driven by a clock that the test
//! moves. What is not in it is the effects: the socket, the X server, the program that shows a text. Those are tested
//! on hosts.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn limits() -> Limits {
    Limits {
        origin: "staff".to_owned(),
        warn_ms: 5 * MINUTE,
        warn_again_ms: MINUTE,
        extension_ms: 30 * MINUTE,
        extensions: 1,
        ..Limits::default()
    }
}

/// A desktop with its user, on a clock that the test moves.
struct Desk {
    keeper: Keeper,
    now: Tick,
    key: Tick,
    here: bool,
    deaf: bool,
    warnings: Vec<(u64, String)>,
    dropped: Vec<u64>,
    ended: Option<(u64, String)>,
    turns: u64,
    measured: u64,
}

impl Desk {
    fn new(limits: Limits) -> Self {
        let (warnings, dropped) = Default::default();
        Self {
            keeper: Keeper::new(limits),
            now: Tick(0),
            key: Tick(0),
            here: false,
            deaf: false,
            warnings,
            dropped,
            ended: None,
            turns: 0,
            measured: 0,
        }
    }

    /// As the monitor's loop does; when it would wake by itself.
    fn turn(&mut self) -> Option<Tick> {
        loop {
            self.turns += 1;
            let (deeds, until) = self.keeper.turn(self.now);
            let mut again = false;
            for deed in deeds {
                match deed {
                    Deed::Warn(text) => self.warnings.push((self.now.0, text)),
                    Deed::Drop(_) => {
                        assert!(self.here, "nobody is there to be dropped");
                        self.dropped.push(self.now.0);
                        self.leave();
                        again = true;
                    }
                    Deed::End(why) => {
                        self.ended.get_or_insert((self.now.0, why));
                        return None;
                    }
                    Deed::Measure => {
                        self.measured += 1;
                        let idle = self.now.since(self.key);
                        self.keeper.measured((!self.deaf).then_some(idle), self.now);
                        again = true;
                    }
                }
            }
            if !again {
                assert!(until.is_none_or(|until| until > self.now), "it would spin");
                return until;
            }
        }
    }

    fn come(&mut self) {
        self.here = true;
        self.keeper.set_viewed(Some(self.now), self.now);
    }

    fn leave(&mut self) {
        self.here = false;
        self.keeper.set_viewed(None, self.now);
    }

    /// Lets time go by, until the end of the session at most.
    fn pass(&mut self, ms: u64) {
        let to = self.now.after(ms);
        while self.ended.is_none() {
            match self.turn() {
                Some(until) if until < to => self.now = until,
                _ => break,
            }
        }
        if self.ended.is_none() {
            self.now = to;
        }
    }
}

/// Seven days of an office: people come at nine, type, have lunch, leave at five; nights and a week-end in between.
#[test]
fn a_week_of_office_hours_ends_nothing_and_costs_next_to_nothing() {
    let mut desk = Desk::new(Limits {
        disconnected_ms: 72 * HOUR,
        connected_ms: 12 * HOUR,
        idle_ms: 80 * HOUR,
        idle_disconnect_ms: 2 * HOUR,
        ..limits()
    });
    for day in 0..7 {
        desk.pass(9 * HOUR);
        if day % 7 < 5 {
            desk.come();
            for minute in 0..8 * 60 {
                // An hour of lunch without a key.
                if !(180..240).contains(&minute) {
                    desk.key = desk.now;
                }
                desk.pass(MINUTE);
            }
            desk.leave();
            desk.pass(7 * HOUR);
        } else {
            desk.pass(15 * HOUR);
        }
    }
    assert_eq!(desk.now, Tick(7 * DAY));
    assert_eq!((desk.ended, desk.dropped.len(), desk.warnings.len()), (None, 0, 0));
    // The X server is asked a few times in an hour of work, and the monitor wakes for little else.
    assert!(desk.measured < 7 * 24 * 4, "{}", desk.measured);
}

/// The same week where everybody forgets to leave, and then does not come back.
#[test]
fn who_stays_away_is_dropped_and_then_ended_each_after_two_warnings() {
    let mut desk =
        Desk::new(Limits { disconnected_ms: 48 * HOUR, idle_disconnect_ms: 2 * HOUR, ..limits() });
    desk.come();
    desk.pass(7 * DAY);
    assert_eq!(desk.dropped, [2 * HOUR]);
    let (ended, why) = desk.ended.unwrap();
    assert_eq!(ended, 50 * HOUR);
    assert_eq!(
        why,
        "nobody was connected for 48 h (/vsmserver/limits/staff/disconnected_max = 48 h)"
    );
    let at: Vec<u64> = desk.warnings.iter().map(|(at, _)| *at).collect();
    let before = |end: u64| [end - 5 * MINUTE, end - MINUTE];
    assert_eq!(at, [before(2 * HOUR), before(50 * HOUR)].concat());
    assert!(desk.warnings[0].1.starts_with("You will be disconnected from this desktop in 5 min"));
    assert!(
        desk.warnings[3]
            .1
            .starts_with("This desktop will be ended in 1 min, as nobody is connected")
    );
    assert!(desk.warnings[3].1.ends_with("To put it off by 30 min: vsm-extend"));
}

#[test]
fn coming_back_keeps_it_and_so_does_asking() {
    let mut desk = Desk::new(Limits { disconnected_ms: HOUR, connected_ms: 3 * HOUR, ..limits() });
    desk.pass(58 * MINUTE);
    assert_eq!(desk.warnings.len(), 1);
    desk.come();
    desk.pass(3 * HOUR - 2 * MINUTE);
    assert!(desk.keeper.standing(desk.now, UnixMillis(DAY)).ends.unwrap().warned);
    assert_eq!(desk.keeper.extend(desk.now).unwrap().left_ms, 32 * MINUTE);
    assert!(matches!(desk.keeper.extend(desk.now), Err(CannotExtend::Spent(1))));
    let standing = desk.keeper.standing(desk.now, UnixMillis(DAY));
    assert_eq!(standing.extensions_used, 1);
    let ends = standing.ends.unwrap();
    assert_eq!(
        (ends.limit, ends.at, ends.warned),
        (Limit::Connected, UnixMillis(DAY + 32 * MINUTE), false)
    );
    assert_eq!(standing.disconnected_since, None);
    desk.pass(DAY);
    assert_eq!(desk.ended.as_ref().unwrap().0, 58 * MINUTE + 3 * HOUR + 30 * MINUTE);
    assert!(!desk.warnings.last().unwrap().1.contains("vsm-extend"), "none is left");
}

#[test]
fn an_x_server_that_does_not_answer_ends_nothing_and_is_asked_rarely() {
    let mut desk = Desk::new(Limits { idle_ms: HOUR, ..limits() });
    desk.deaf = true;
    desk.pass(DAY);
    assert_eq!(desk.ended, None);
    assert!(desk.measured <= 24 * 60 + 1, "{}", desk.measured);
    assert_eq!(desk.keeper.standing(desk.now, UnixMillis(DAY)).idle_ms, None);
    desk.deaf = false;
    desk.pass(10 * MINUTE);
    // It has been idle for a day; all of the warning's time is given still.
    let (ended, _) = desk.ended.unwrap();
    assert_eq!(ended, desk.warnings[0].0 + 5 * MINUTE);
}

/// A wall clock that jumps is not looked at: it is only ever an argument of what is told to people.
#[test]
fn the_wall_clock_moves_nothing() {
    let mut desk = Desk::new(Limits { lifetime_ms: 10 * HOUR, ..limits() });
    for wall in [0, DAY, u64::MAX, 1, 365 * DAY] {
        desk.pass(HOUR);
        let ends = desk.keeper.standing(desk.now, UnixMillis(wall)).ends.unwrap();
        assert_eq!(ends.at, UnixMillis(wall.saturating_add(10 * HOUR - desk.now.0)));
    }
    assert_eq!((desk.ended, desk.warnings.len()), (None, 0));
}

/// One thing that happens in a week.
#[derive(Debug, Clone)]
enum Event {
    Come,
    Leave,
    Key,
    Extend,
    Deaf(bool),
    Limits(Limits),
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let time = || prop_oneof![Just(0), 10 * MINUTE..3 * DAY];
    (time(), time(), time(), time(), time(), 0..10 * MINUTE).prop_map(|(a, b, c, d, e, warn_ms)| {
        Limits {
            disconnected_ms: a,
            connected_ms: b,
            idle_ms: c,
            idle_disconnect_ms: d,
            lifetime_ms: e,
            warn_ms,
            ..limits()
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Come),
        3 => Just(Event::Leave),
        9 => Just(Event::Key),
        1 => Just(Event::Extend),
        1 => any::<bool>().prop_map(Event::Deaf),
        1 => any_limits().prop_map(Event::Limits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A thousand weeks with anything in them: a session that ends was warned for all of the time that was said, and
    /// one without limits never ends.
    #[test]
    fn no_week_ends_a_desktop_unwarned(
        first in any_limits(),
        events in proptest::collection::vec((0..4 * HOUR, event()), 1..120),
    ) {
        let mut least_warn = first.warn_ms;
        let mut desk = Desk::new(first);
        for (ms, event) in events {
            desk.pass(ms);
            if desk.ended.is_some() || desk.now > Tick(7 * DAY) {
                break;
            }
            desk.now = desk.now.after(1);
            match event {
                Event::Come => desk.come(),
                Event::Leave => desk.leave(),
                Event::Key => desk.key = desk.now,
                Event::Extend => drop(desk.keeper.extend(desk.now)),
                Event::Deaf(deaf) => desk.deaf = deaf,
                Event::Limits(limits) => {
                    // What was said under the limits before holds.
                    least_warn = least_warn.min(limits.warn_ms);
                    desk.keeper.set_limits(limits);
                }
            }
        }
        if let Some((at, _)) = desk.ended {
            let limits = desk.keeper.limits();
            prop_assert!(!limits.is_none());
            let warned = desk.warnings.iter().any(|(warned, _)| at - warned >= least_warn);
            prop_assert!(warned || least_warn == 0, "{:?} {at}", desk.warnings);
        }
        // Some turns for each event and each warning, and one a minute at most for what is not known.
        prop_assert!(desk.turns < 20_000, "{} turns", desk.turns);
    }
}
