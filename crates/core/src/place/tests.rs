//! The rules of placement, one by one.

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{Proposal, table::testing};

pub(super) const RULE: Rule =
    Rule { strategy: Strategy::Users, now: testing::NOW, penalty_ms: testing::PENALTY_MS, tie: 0 };
pub(super) const BY_LOAD: Rule =
    Rule { strategy: Strategy::Load(Need { memory_mib: 500, cpu_milli: 100 }), ..RULE };

pub(super) fn eligible(agents: &[(&str, u32, u32)]) -> Arc<[Eligible]> {
    agents
        .iter()
        .map(|(agent, weight, max_users)| Eligible {
            agent: agent.parse().unwrap(),
            weight: *weight,
            max_users: *max_users,
            measured: None,
        })
        .collect()
}

/// Reserves one session for each of `users` new users; how many each agent got.
fn spread(table: &mut Table, agents: &Arc<[Eligible]>, users: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for n in 0..users {
        let session = testing::reserve(table, &format!("u{n}"), agents).unwrap();
        *counts.entry(session.agent.to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn a_storm_spreads_evenly_counting_starts_under_way() {
    let agents = eligible(&[("a", 100, 0), ("b", 100, 0)]);
    let counts = spread(&mut Table::default(), &agents, 50);
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 25), ("b".to_owned(), 25)]));
}

#[test]
fn weights_split_280_users_160_80_40() {
    let agents = eligible(&[("a", 200, 0), ("b", 100, 0), ("c", 50, 0)]);
    let counts = spread(&mut Table::default(), &agents, 280);
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [160, 80, 40]);
}

#[test]
fn caps_stop_new_users_only() {
    let agents = eligible(&[("a", 100, 1)]);
    let mut table = Table::default();
    testing::reserve(&mut table, "ann", &agents).unwrap();
    assert!(testing::reserve(&mut table, "bob", &agents).is_err());
    assert!(testing::reserve(&mut table, "ann", &agents).is_ok());
}

#[test]
fn a_user_stays_on_one_agent_unless_it_is_not_eligible() {
    let both = eligible(&[("a", 100, 0), ("b", 100, 0)]);
    let mut table = Table::default();
    let first = testing::reserve(&mut table, "ann", &both).unwrap();
    for _ in 0..5 {
        assert_eq!(testing::reserve(&mut table, "ann", &both).unwrap().agent, first.agent);
    }
    let other: Arc<[_]> = both.iter().filter(|e| e.agent != first.agent).cloned().collect();
    assert_ne!(testing::reserve(&mut table, "ann", &other).unwrap().agent, first.agent);
}

#[test]
fn a_failed_start_puts_an_agent_last_for_a_while_but_not_out() {
    let both = eligible(&[("a", 100, 0), ("b", 100, 0)]);
    let mut table = Table::default();
    testing::commit(
        &mut table,
        Proposal::AgentFailed { agent: "a".parse().unwrap(), at: testing::NOW },
    )
    .unwrap();
    assert_eq!(spread(&mut table, &both, 10), BTreeMap::from([("b".to_owned(), 10)]));
    let only = eligible(&[("a", 100, 0)]);
    assert_eq!(testing::reserve(&mut table, "zoe", &only).unwrap().agent.as_str(), "a");
    let rule = Rule { now: UnixMillis(testing::NOW.0 + testing::PENALTY_MS), ..RULE };
    let want = Placement { user: &"yan".parse().unwrap(), rule };
    assert_eq!(
        place(&table, &both, want).unwrap().as_str(),
        "a",
        "the mark has run out, and a has fewer users"
    );
}

#[test]
fn a_drained_agent_gets_nobody_until_its_time_is_over() {
    let both = eligible(&[("a", 100, 0), ("b", 100, 0)]);
    let mut table = Table::default();
    let until = UnixMillis(testing::NOW.0 + 1_000);
    let (by, why) = ("root".to_owned(), "new kernel".to_owned());
    let mark = Arc::new(Drain { by, why, since: testing::NOW, until: Some(until) });
    let agent: AgentName = "a".parse().unwrap();
    let drain = Proposal::Drain { agent, mark: Some(Arc::clone(&mark)) };
    let mine = testing::reserve(&mut table, "ann", &eligible(&[("a", 100, 0)])).unwrap();
    testing::commit(&mut table, drain).unwrap();
    assert_eq!(spread(&mut table, &both, 10), BTreeMap::from([("b".to_owned(), 10)]));
    let user = &mine.user;
    let found: Vec<_> = consider(&table, &both, Placement { user, rule: RULE }).collect();
    assert_eq!(found[0], Err(Out::Drained(mark)), "not even one who is there already");
    let later = Placement { user, rule: Rule { now: until, ..RULE } };
    assert_eq!(place(&table, &both, later).unwrap().as_str(), "a");
}

fn measured(memory_available_mib: u32, cpu_busy_milli: u32) -> Measured {
    Measured {
        memory_total_mib: 10_000,
        memory_available_mib,
        cpus: 4,
        cpu_busy_milli,
        run_queue_milli: 0,
        stall_milli: 0,
        sessions: 0,
    }
}

fn with_load(agents: &[(&str, Option<Measured>)]) -> Vec<Eligible> {
    let one = |(agent, measured): &(&str, Option<Measured>)| Eligible {
        agent: agent.parse().unwrap(),
        weight: 100,
        max_users: 0,
        measured: *measured,
    };
    agents.iter().map(one).collect()
}

fn by_load<'a>(table: &Table, agents: &'a [Eligible], user: &str) -> &'a str {
    let user = &user.parse().unwrap();
    place(table, agents, Placement { user, rule: BY_LOAD }).unwrap().as_str()
}

#[test]
fn by_load_the_least_busy_goes_first_and_one_without_figures_last() {
    let table = Table::default();
    let (idle, busy, full) = (measured(9_000, 0), measured(9_000, 900), measured(200, 0));
    let agents = with_load(&[("a", Some(busy)), ("b", Some(full)), ("c", Some(idle))]);
    assert_eq!(by_load(&table, &agents, "ann"), "c");
    let agents = with_load(&[("a", None), ("b", Some(full))]);
    assert_eq!(by_load(&table, &agents, "ann"), "b");
    assert_eq!(by_load(&table, &with_load(&[("a", None)]), "ann"), "a", "last, but not out");
}

#[test]
fn by_load_starts_under_way_count_and_equals_get_equally_many() {
    let mut table = Table::default();
    // b is a little less busy, by less than a step, and has room for fewer than a.
    let agents = with_load(&[("a", Some(measured(9_400, 0))), ("b", Some(measured(9_450, 0)))]);
    let mut counts = BTreeMap::<_, u32>::new();
    for n in 0..10 {
        let agent = by_load(&table, &agents, &format!("u{n}")).to_owned();
        let only: Arc<[_]> = eligible(&[(agent.as_str(), 100, 0)]);
        testing::reserve(&mut table, &format!("u{n}"), &only).unwrap();
        *counts.entry(agent).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 5)]));
}

#[test]
fn by_load_stickiness_failure_and_caps_are_as_ever() {
    let mut table = Table::default();
    let busy = Some(measured(500, 1000));
    let agents = with_load(&[("a", busy), ("b", Some(measured(9_000, 0)))]);
    testing::reserve(&mut table, "ann", &eligible(&[("a", 100, 0)])).unwrap();
    assert_eq!(by_load(&table, &agents, "ann"), "a");
    let failed = Proposal::AgentFailed { agent: "b".parse().unwrap(), at: testing::NOW };
    testing::commit(&mut table, failed).unwrap();
    assert_eq!(by_load(&table, &agents, "bob"), "a");
    let capped: Vec<_> =
        agents.iter().map(|agent| Eligible { max_users: 1, ..agent.clone() }).collect();
    assert_eq!(by_load(&table, &capped, "bob"), "b");
}
