//! Placement: which agent gets a new session.
//!
//! Pure and cheap: it runs inside the table's owner, so that two logins never see the same free place.

use std::cmp::Ordering;

use crate::{AgentName, AgentUse, Table, UnixMillis, UserName};

/// An agent that may take a new session, with what the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// Agent.
    pub agent: AgentName,
    /// Share of users relative to the others, at least 1.
    pub weight: u32,
    /// Most users; at the limit it takes no *new* user. 0 = no limit.
    pub max_users: u32,
}

/// For whom and when a place is sought.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// User.
    pub user: &'a UserName,
    /// Now.
    pub now: UnixMillis,
    /// How long a failed start counts, in milliseconds.
    pub penalty_ms: u64,
    /// Random number that breaks ties.
    pub tie: u64,
}

/// The best agent: one without a recent failed start before one with; then where the user has sessions already; then
/// the fewest users per weight once the user is there, starts under way counted; then the fewest sessions; then chance.
#[must_use]
pub fn place<'a>(
    table: &Table,
    eligible: &'a [Eligible],
    want: Placement<'_>,
) -> Option<&'a AgentName> {
    let best = eligible
        .iter()
        .zip(0u64..)
        .filter_map(|(candidate, index)| rank(table, candidate, want, index))
        .min_by(Rank::order)?;
    Some(&best.candidate.agent)
}

struct Rank<'a> {
    candidate: &'a Eligible,
    failed: bool,
    stranger: bool,
    users: u64,
    sessions: u32,
    chance: u64,
}

impl Rank<'_> {
    fn order(&self, other: &Self) -> Ordering {
        let share = |a: &Self, b: &Self| a.users * u64::from(b.candidate.weight.max(1));
        self.failed
            .cmp(&other.failed)
            .then(self.stranger.cmp(&other.stranger))
            // users / weight, compared without division.
            .then(share(self, other).cmp(&share(other, self)))
            .then(self.sessions.cmp(&other.sessions))
            .then(self.chance.cmp(&other.chance))
    }
}

fn rank<'a>(
    table: &Table,
    candidate: &'a Eligible,
    want: Placement<'_>,
    index: u64,
) -> Option<Rank<'a>> {
    let use_ = table.agent_use(&candidate.agent);
    let users = use_.map_or(0, AgentUse::users);
    let stranger = !use_.is_some_and(|u| u.has_user(want.user));
    if stranger && candidate.max_users != 0 && users >= candidate.max_users {
        return None;
    }
    let failed = table
        .failed_at(&candidate.agent)
        .is_some_and(|at| want.now.0.saturating_sub(at.0) < want.penalty_ms);
    Some(Rank {
        candidate,
        failed,
        stranger,
        users: u64::from(users) + u64::from(stranger),
        sessions: use_.map_or(0, AgentUse::sessions),
        chance: mix(want.tie ^ index),
    })
}

/// The finaliser of splitmix64: spreads a counter over all bits.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{Proposal, table::testing};

    fn eligible(agents: &[(&str, u32, u32)]) -> Arc<[Eligible]> {
        agents
            .iter()
            .map(|(agent, weight, max_users)| Eligible {
                agent: agent.parse().unwrap(),
                weight: *weight,
                max_users: *max_users,
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
        let want = Placement {
            user: &"yan".parse().unwrap(),
            now: UnixMillis(testing::NOW.0 + testing::PENALTY_MS),
            penalty_ms: testing::PENALTY_MS,
            tie: 0,
        };
        assert_eq!(
            place(&table, &both, want).unwrap().as_str(),
            "a",
            "the mark has run out, and a has fewer users"
        );
    }
}
