//! What holds for all agents, users and figures.

use proptest::{
    collection::vec,
    prelude::{any, prop, prop_assert, prop_assert_eq, proptest},
    strategy::Strategy as Gen,
};

use super::{
    tests::{BY_LOAD, RULE, eligible},
    *,
};
use crate::table::testing;

fn any_measured() -> impl Gen<Value = Option<Measured>> {
    let figures = (1..100_000u32, 0..100_000u32, 1..64u32, 0..=1000u32, 0..200_000u32);
    let more = (0..=1000u32, 0..10u32);
    proptest::option::weighted(0.9, (figures, more)).prop_map(|figures| {
        let ((total, free, cpus, busy, queue), (stall, sessions)) = figures?;
        Some(Measured {
            memory_total_mib: total,
            memory_available_mib: free.min(total),
            cpus,
            cpu_busy_milli: busy,
            run_queue_milli: queue,
            stall_milli: stall,
            sessions,
        })
    })
}

fn agents() -> impl Gen<Value = Vec<Eligible>> {
    let one = (1..300u32, 0..6u32, any_measured());
    vec(one, 1..12).prop_map(|agents| {
        let named = |(n, (weight, max_users, measured))| Eligible {
            agent: format!("a{n}").parse().unwrap(),
            weight,
            max_users,
            measured,
        };
        agents.into_iter().enumerate().map(named).collect()
    })
}

/// A table in which users have sessions on some of these agents.
fn table(sessions: &[(u8, usize)]) -> Table {
    let mut table = Table::default();
    for (user, agent) in sessions {
        let only = eligible(&[(format!("a{agent}").as_str(), 100, 0)]);
        testing::reserve(&mut table, &format!("u{user}"), &only).unwrap();
    }
    table
}

fn rules() -> impl Gen<Value = Rule> {
    (any::<bool>(), any::<u64>())
        .prop_map(|(load, tie)| Rule { tie, ..if load { BY_LOAD } else { RULE } })
}

/// Each figure of an agent made worse, or not.
fn worse(agent: &Eligible, by: [u32; 5]) -> Eligible {
    let measured = agent.measured.map(|m| Measured {
        memory_available_mib: m.memory_available_mib.saturating_sub(by[0]),
        cpu_busy_milli: (m.cpu_busy_milli + by[1]).min(1000),
        run_queue_milli: m.run_queue_milli + by[2],
        stall_milli: (m.stall_milli + by[3]).min(1000),
        ..m
    });
    let weight = agent.weight.saturating_sub(by[4]).max(1);
    Eligible { measured, weight, ..agent.clone() }
}

proptest! {
    /// What makes an agent busier never makes it chosen.
    #[test]
    fn a_busier_agent_is_never_more_attractive(
        agents in agents(),
        sessions in vec((0..20u8, 0..12usize), 0..40),
        rule in rules(),
        which in any::<prop::sample::Index>(),
        by in prop::array::uniform5(0..500u32),
    ) {
        let table = table(&sessions);
        let user = &"u1".parse().unwrap();
        let want = Placement { user, rule };
        let before = place(&table, &agents, want).cloned();
        let mut after = agents.clone();
        let index = which.index(after.len());
        after[index] = worse(&after[index], by);
        let name = after[index].agent.clone();
        if before.as_ref() != Some(&name) {
            prop_assert_eq!(place(&table, &after, want).cloned(), before);
        }
    }

    /// Whoever is chosen is not out, and nobody who is not out ranks before them.
    #[test]
    fn the_chosen_one_is_the_first_of_those_considered(
        agents in agents(),
        sessions in vec((0..20u8, 0..12usize), 0..40),
        rule in rules(),
    ) {
        let table = table(&sessions);
        let want = Placement { user: &"u1".parse().unwrap(), rule };
        let ranks: Vec<_> = consider(&table, &agents, want).flatten().collect();
        match place(&table, &agents, want) {
            None => prop_assert!(ranks.is_empty()),
            Some(chosen) => {
                let best = ranks.iter().find(|rank| rank.candidate.agent == *chosen);
                let best = best.expect("it is not out");
                prop_assert!(ranks.iter().all(|rank| best.order(rank).is_le()));
            }
        }
    }

    /// What the table keeps of a list is always what it would say if it were asked for each agent, whatever has come
    /// and gone since: sessions, failed starts, drains.
    #[test]
    fn what_is_kept_of_a_list_is_what_the_table_says(
        agents in agents(),
        sessions in vec((0..20u8, 0..12usize), 0..20),
        then in vec((0..7u8, 0..20u8, 0..14usize), 0..40),
        rule in rules(),
    ) {
        let mut table = table(&sessions);
        let mut agents: Arc<[Eligible]> = agents.into();
        for (what, user, agent) in then {
            if what == 3 {
                let by = [u32::from(user) * 40; 5];
                agents = agents.iter().map(|one| worse(one, by)).collect();
            }
            let name = format!("a{agent}");
            let change = match what {
                0 => {
                    let gone = table.sessions().nth(agent).map(|session| session.id);
                    gone.map(|id| crate::Change::Gone { id })
                }
                1 => Some(crate::Change::AgentFailed {
                    agent: name.parse().unwrap(),
                    at: UnixMillis(testing::NOW.0 - u64::from(user) * 30_000),
                }),
                2 => {
                    let (by, why) = ("root".to_owned(), String::new());
                    let until = Some(UnixMillis(testing::NOW.0 + u64::from(user % 2)));
                    let mark = Arc::new(Drain { by, why, since: testing::NOW, until });
                    let mark = Some(mark).filter(|_| user < 10);
                    Some(crate::Change::Drained { agent: name.parse().unwrap(), mark })
                }
                _ => {
                    let only = eligible(&[(&name, 100, 0)]);
                    let proposal = testing::propose(testing::draft(&table, &format!("u{user}")), 0, &only);
                    table.check(proposal).ok()
                }
            };
            change.iter().for_each(|change| table.apply(change));
            let want = Placement { user: &format!("u{user}").parse().unwrap(), rule };
            prop_assert_eq!(table.place(&agents, want), place(&table, &agents, want));
        }
    }
}
