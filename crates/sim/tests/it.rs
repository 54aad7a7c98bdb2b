//! Three hundred seeds, and each deliberate bug with a seed that finds it.

use vsm_core::replica::mutant::Mutant;

#[test]
fn three_hundred_seeds_break_nothing() {
    let outcome = vsm_sim::run_many(0, 300, |_| {});
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

/// Each bug with a seed that finds it, as `vsm-sim --mutants` says.
const KNOWN: &[(&str, u64)] = &[
    ("AckBeforeWrite", 0),
    ("BaseTooNew", 36),
    ("BlankVotes", 428),
    ("CancelForgotten", 3877),
    ("CapUnchecked", 1),
    ("ClearedEarly", 11),
    ("CommitWithOneVote", 0),
    ("EpochReused", 14),
    ("GapTaken", 3),
    ("HandOutEarly", 152),
    ("LongestLog", 42),
    ("MarkForgotten", 322),
    ("NextWithoutTombstone", 24),
    ("NoFence", 11),
    ("NoQuarantine", 2427),
    ("NoTieBreak", 154),
    ("NotVerified", 2),
    ("OneWitness", 1),
    ("OutOfOrder", 1),
    ("OwnVoteBeforeWrite", 1),
    ("PeerNotHeard", 3),
    ("PrevUnchecked", 111),
    ("PromoteOnAddress", 0),
    ("SilenceIsDeath", 2),
    ("StaleClear", 2268),
    ("TombstoneDropped", 61),
    ("WitnessVolatile", 126),
    ("WitnessesNotHeard", 1),
];
