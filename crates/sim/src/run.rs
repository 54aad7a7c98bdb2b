//! One seed from beginning to end, and many of them.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use vsm_core::replica::{
    Replica,
    mutant::{self, Mutant},
};

use crate::{
    checks::p6_converged::End,
    world::{Fencing, World},
};

/// Each so many seeds are played again with the names swapped.
const SWAP_EACH: u64 = 8;

/// How it is told that nothing goes on.
const STALLED: &str = "no progress";

/// What came of one seed, or of many.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Events.
    pub steps: u64,
    /// Seeds in which nothing went on any more, with everything whole.
    pub stalled: u64,
    /// What broke; empty is good.
    pub violations: Vec<String>,
    /// The first seed in which something broke.
    pub first: Option<u64>,
}

/// Runs one seed. A broken assertion in the replica is a violation too.
#[must_use]
pub fn run(seed: u64, trace: bool) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = play(seed, trace, false);
        if world.checks.violations.is_empty() && seed.is_multiple_of(SWAP_EACH) && !trace {
            world.checks.violations.extend(differs_swapped(seed, &world));
        }
        (world.steps, world.checks.violations)
    }));
    let (steps, violations) = result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (0, vec![format!("an assertion failed: {}", text.unwrap_or_default())])
    });
    let first = (!violations.is_empty()).then_some(seed);
    let stalled = u64::from(violations.iter().any(|what| what.starts_with(STALLED)));
    Outcome { steps, stalled, violations, first }
}

fn play(seed: u64, trace: bool, swapped: bool) -> World {
    let mut world = World::new(seed, trace, swapped);
    world.begin();
    scenario(&mut world);
    world
}

/// Plays a seed again with the brokers' names swapped.
fn differs_swapped(seed: u64, world: &World) -> Option<String> {
    let end = end_of(world)?;
    let swapped = play(seed, false, true);
    if let Some(found) = swapped.checks.violations.first() {
        return Some(format!("with the names swapped: {found}"));
    }
    let other = end_of(&swapped)?;
    (end != other).then(|| format!("P6: with the names swapped {other:?} is not {end:?}"))
}

fn end_of(world: &World) -> Option<End> {
    End::of(&world.checks.claims, &world.brokers, world.active(), world.steps)
}

fn scenario(world: &mut World) {
    let until = world.rng.range(6_000, 16_000);
    world.run_until(until, |_| false);
    if !world.checks.violations.is_empty() {
        return;
    }
    world.heal();
    world.note(|| "healed".to_owned());
    if !demand(world, "after the faults", 20_000, World::could_lose_one) {
        return;
    }
    // Either one alone must do: the first, as it has everything; then the other, from what the witnesses kept.
    let first = world.rng.index(2);
    if world.rng.percent(60) {
        for alone in [first, 1 - first] {
            if world.fencing == Fencing::Alone {
                // Without witnesses only one that was there to the last can go on, and knows that it may.
                (0..2).for_each(|broker| world.start_broker(broker));
                if !demand(world, "before one is alone", 20_000, World::could_lose_one) {
                    return;
                }
            }
            world.crash_broker(1 - alone);
            world.start_broker(alone);
            if world.fencing != Fencing::None {
                world.tell_off(alone, 50);
            }
            world.set_address([alone == 0, alone == 1]);
            world.note(|| format!("broker{alone} alone"));
            // Without witnesses it is to know that the other one is off before it restarts itself.
            let serves = |world: &World| {
                let replica = world.brokers[alone].replica.as_ref();
                world.active() == Some(alone)
                    && (world.fencing != Fencing::Alone
                        || replica.is_some_and(Replica::counts_peer_off)
                        // Shot before everything was made whole, it may come up of itself.
                        || world.brokers[1 - alone].is_up())
            };
            if !demand(world, "alone", 10_000, serves) {
                return;
            }
            // What it decided alone it must still know to be its own after a restart.
            if world.rng.percent(50) {
                world.crash_broker(alone);
                world.start_broker(alone);
                if !demand(world, "alone, restarted", 10_000, serves) {
                    return;
                }
            }
        }
    }
    (0..2).for_each(|broker| world.start_broker(broker));
    world.quiet = true;
    // What it told before was still on its way to a broker that was paused.
    world.believe_again();
    let at_rest = |world: &World| world.is_in_sync() && world.is_quiet();
    // Twice: what was on its way at the first time has arrived at the second.
    for _ in 0..2 {
        if !demand(world, "at the end", 20_000, at_rest) {
            return;
        }
        let at = world.now;
        world.run_until(at + 1500, |_| false);
    }
    world.checks.at_rest(world.active(), &world.brokers, &world.agents, world.now);
}

/// Progress within a bound: the state, and a login.
fn demand(world: &mut World, when: &str, bound_ms: u64, good: impl Fn(&World) -> bool) -> bool {
    let until = world.now + bound_ms;
    let served = world.served();
    let quiet = world.quiet;
    let done = world.run_until(until, |w| good(w) && (quiet || w.served() > served));
    if !done && world.checks.violations.is_empty() {
        let states: Vec<String> =
            world.brokers.iter().map(|broker| format!("{:?}", broker.replica)).collect();
        world.checks.violations.push(format!("{STALLED} {when}: {}", states.join("; ")));
    }
    done
}

/// Runs seeds on both cores; stops at the first that breaks something.
#[must_use]
pub fn run_many(from: u64, seeds: u64, progress: impl Fn(u64) + Sync) -> Outcome {
    let next = AtomicU64::new(from);
    let all = Mutex::new(Outcome::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let failed = all.lock().map_or(true, |all| all.first.is_some());
            if seed >= from + seeds || failed {
                return;
            }
            let one = run(seed, false);
            progress(seed);
            if let Ok(mut all) = all.lock() {
                all.steps += one.steps;
                all.stalled += one.stalled;
                all.violations.extend(one.violations);
                all.first = all.first.into_iter().chain(one.first).min();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    all.into_inner().unwrap_or_default()
}

/// Looks for deliberate bugs, on both cores; `told` hears of each as it is found, or is not.
///
/// # Errors
/// If this was built without the feature `mutants`.
pub fn find_mutants(
    bugs: &[Mutant],
    from: u64,
    seeds: u64,
    told: impl Fn(Mutant, Option<&(u64, String)>) + Sync,
) -> Result<BTreeMap<&'static str, u64>, &'static str> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Ok(BTreeMap::new()));
    let work = || {
        while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = mutant_seed(*bug, from, seeds);
            let Ok(mut all) = all.lock() else { return };
            match found {
                Err(error) => *all = Err(error),
                Ok(found) => {
                    told(*bug, found.as_ref());
                    if let (Ok(all), Some((seed, _))) = (all.as_mut(), found) {
                        all.insert(bug.name(), seed);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    all.into_inner().map_err(|_| "a thread of the search died")?
}

/// The first of so many seeds that finds a deliberate bug; `None` if none does.
///
/// # Errors
/// If this was built without the feature `mutants`.
pub fn mutant_seed(
    bug: Mutant,
    from: u64,
    seeds: u64,
) -> Result<Option<(u64, String)>, &'static str> {
    if !mutant::set(Some(bug)) {
        return Err("this vsm-sim was built without the feature `mutants`");
    }
    let found = (from..from + seeds).find_map(|seed| {
        let what = run(seed, false).violations.into_iter().next()?;
        // What breaks without the bug too does not show it.
        let _ = mutant::set(None);
        let is_new = run(seed, false).violations.is_empty();
        let _ = mutant::set(Some(bug));
        is_new.then_some((seed, what))
    });
    // None can always be put.
    let _ = mutant::set(None);
    Ok(found)
}
