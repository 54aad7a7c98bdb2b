//! A hundred seeds, and each deliberate bug with a seed that finds it.

use vsm_core::replica::mutant::Mutant;

include!("known.in");

#[test]
fn a_hundred_seeds_break_nothing() {
    let outcome = vsm_sim::run_many(0, 100, |_| {});
    assert!(outcome.violations.is_empty(), "seed {:?}: {:?}", outcome.first, outcome.violations);
}

#[test]
fn every_known_bug_is_found() {
    for (name, seed) in KNOWN {
        let bug = Mutant::ALL.iter().find(|bug| bug.name() == *name).expect("a known bug");
        let found = vsm_sim::mutant_seed(*bug, *seed, 1).expect("built with mutants");
        assert!(found.is_some(), "{name} is no longer found by seed {seed}; look with --mutants");
    }
    assert!(KNOWN.len() >= 20, "at least twenty bugs are found");
}
