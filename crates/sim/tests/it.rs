//! Three hundred seeds, each deliberate bug, and every state of the vote core within a small bound.

use vsm_core::replica::mutant::Mutant;
use vsm_sim::{Bound, Weakness};

/// Seeds for each deliberate bug. `vsm-sim --mutants` tries more.
const TRIES: u64 = 2500;
/// Seeds that found the bugs that take longest, to be tried first.
const HINTS: [(&str, u64); 17] = [
    ("FencingForgottenLate", 7444),
    ("PairForServer", 1011),
    ("GreetedByOldAck", 929),
    ("LossUnnumbered", 798),
    ("RequestForgotten", 518),
    ("ForeignLogTaken", 474),
    ("StaleClear", 365),
    ("WitnessVolatile", 323),
    ("NonceOmitted", 299),
    ("UnvotedTwice", 240),
    ("EndTakenForGranted", 163),
    ("RosterFirst", 167),
    ("RunningBuried", 154),
    ("RollbackUnseen", 139),
    ("StartingMissed", 133),
    ("FencingBesideWitnesses", 129),
    ("HandOutEarly", 105),
];
/// Far above what the searches here need.
const STATES_MAX: usize = 2_000_000;

#[test]
fn three_hundred_seeds_break_nothing() {
    let outcome = vsm_sim::run_many(0, 300, |_| {});
    assert!(outcome.violations.is_empty(), "seed {:?}: {:?}", outcome.first, outcome.violations);
}

#[test]
fn every_deliberate_bug_is_found() {
    let hinted = |bug: &Mutant| {
        let hint = HINTS.iter().find(|(name, _)| *name == bug.name());
        hint.is_some_and(|(_, seed)| matches!(vsm_sim::mutant_seed(*bug, *seed, 1), Ok(Some(_))))
    };
    let left: Vec<Mutant> = Mutant::ALL.iter().filter(|bug| !hinted(bug)).copied().collect();
    let found = vsm_sim::find_mutants(&left, 0, TRIES, |_, _| {}).expect("built with mutants");
    let names = left.iter().map(|bug| bug.name());
    let lost: Vec<_> = names.filter(|name| !found.contains_key(name)).collect();
    assert!(lost.is_empty(), "not found in {TRIES} seeds: {lost:?}");
    assert!(Mutant::ALL.len() >= 68, "at least sixty-eight bugs");
    assert!(Mutant::LIFECYCLE.len() >= 19, "nineteen of the life of a session among them");
}

#[test]
fn no_state_of_the_vote_core_has_two_desktops_of_one_user() {
    let search = vsm_sim::search(&Bound::small(), None, STATES_MAX);
    assert_eq!(search.violation, None);
    assert!(!search.cut_short, "{} states were not all", search.states);
    assert!(search.states > 50_000, "only {} states", search.states);
}

/// No witnesses, and power switches that do what they say.
#[test]
fn the_vote_of_a_broker_whose_power_was_cut_does_no_harm() {
    let search = vsm_sim::search(&Bound::fencing(), None, STATES_MAX);
    assert_eq!(search.violation, None);
    assert!(!search.cut_short, "{} states were not all", search.states);
    assert!(search.states > 10_000, "only {} states", search.states);
}

/// A witness that lost its memory gives no vote before the pair has made up for it.
#[test]
fn a_witness_that_lost_its_memory_does_no_harm() {
    let search = vsm_sim::search(&Bound::losses(), None, STATES_MAX);
    assert_eq!(search.violation, None);
    assert!(!search.cut_short, "{} states were not all", search.states);
    assert!(search.states > 50_000, "only {} states", search.states);
}

#[test]
fn without_any_one_rule_a_user_gets_two_desktops_or_a_change_is_lost() {
    for rule in Weakness::ALL {
        let search = vsm_sim::search(&rule.bound(), Some(rule), STATES_MAX);
        let path = search.violation.unwrap_or_default();
        let end = path.last().map_or("", String::as_str);
        // What a witness forgets is lost before anybody gets a second desktop by it.
        let harm = if rule.bound().losses > 0 { "committed is lost" } else { "two desktops" };
        assert!(end.ends_with(harm), "{rule:?}: {} states: {path:?}", search.states);
    }
}
