//! Who the witnesses are: a small fixed set of agents, none of them on a broker's machine.

use std::{sync::Arc, time::Duration};

use vsm_core::{AgentName, Proposal, replica::Standing};

use super::Pair;
use crate::{hosts::fleet::Member, pair::Side, site::settings::Settings};

/// So many where there are enough agents; else one.
const MANY: usize = 3;
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The witnesses for these settings, by name, so that both nodes choose the same before either knows a host.
pub(crate) fn choose(settings: &Settings, nodes: [&str; 2]) -> Vec<AgentName> {
    let mut agents: Vec<AgentName> =
        settings.agents().keys().filter(|agent| may_be(agent, nodes)).cloned().collect();
    agents.truncate(count_of(agents.len()));
    agents
}

/// A broker's own machine is down when the broker is.
fn may_be(agent: &AgentName, nodes: [&str; 2]) -> bool {
    !nodes.iter().any(|node| node.eq_ignore_ascii_case(agent.as_str()))
}

/// Of two one would be a majority of neither: two votes would be needed, and either loss would count.
fn count_of(agents: usize) -> usize {
    if agents >= MANY { MANY } else { agents.min(1) }
}

/// Whom to have instead of these witnesses; none = they stay. They do while each is an agent of the configuration and a
/// host of its own, and there are as many as there can be. Who votes now goes on if it can, then those that are up: a
/// witness that has never been reached is none yet.
fn replacement(now: &[AgentName], members: &[Member], nodes: [&str; 2]) -> Option<Vec<AgentName>> {
    // By two names one host would vote twice.
    let mut hosts: Vec<&Member> = members
        .iter()
        .filter(|member| may_be(&member.agent, nodes) && member.second_of.is_none())
        .collect();
    let count = count_of(hosts.len());
    if now.len() >= count && now.iter().all(|agent| hosts.iter().any(|host| host.agent == *agent)) {
        return None;
    }
    // A stable sort of what is sorted by name.
    hosts.sort_by_key(|host| (!now.contains(&host.agent), !host.is_up()));
    let mut agents: Vec<_> = hosts.iter().take(count).map(|host| host.agent.clone()).collect();
    agents.sort();
    (*agents != *now).then_some(agents)
}

/// Replaces witnesses that can be none any more, while both brokers are there to do so.
pub(crate) async fn follow(side: Arc<Side>, pair: Arc<Pair>) {
    while !side.process.stop.is_cancelled() {
        tokio::select! {
            biased;
            () = side.process.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let state = side.authority.table.state();
        let synced =
            matches!(state.replica.standing, Standing::Active { ready: true, synced: true, .. });
        let Some(now) = state.replica.roster.clone().filter(|_| synced) else { continue };
        let nodes = [pair.own.as_str(), pair.peer.as_str()];
        if let Some(wanted) = replacement(&now, &side.agents.fleet.members(), nodes) {
            match side.authority.table.propose(Proposal::SetRoster(wanted.clone().into())).await {
                Ok(_) => tracing::info!(from = ?now, to = ?wanted, "other witnesses"),
                Err(error) => tracing::warn!(%error, "cannot change the witnesses now"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::fleet::{Fleet, Host, Openness};

    /// Members of this configuration, of which these are up, each on the host of that journal.
    fn members(agents: &str, up: &[(&str, u64)]) -> Vec<Member> {
        let fleet = Fleet::default();
        fleet.configure(&crate::hosts::fleet::tests::settings(&format!(
            "subclusters: {{x: {{agents: [{agents}]}}}}\n"
        )));
        for (agent, journal) in up {
            let agent = agent.parse().unwrap();
            fleet.set(&agent, Openness::All, None);
            let host = Host { journal: *journal, public_name: agent.as_str().into() };
            fleet.set_host(&agent, Some(&host));
        }
        fleet.members()
    }

    fn next(now: &str, agents: &str, up: &[(&str, u64)]) -> Option<String> {
        let now: Vec<AgentName> =
            now.split_whitespace().map(|agent| agent.parse().unwrap()).collect();
        let wanted = replacement(&now, &members(agents, up), ["p", "s"])?;
        Some(wanted.iter().map(AgentName::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn witnesses_stay_while_they_can_vote() {
        let up = [("b", 2), ("c", 3), ("d", 4)];
        // New names before them, one that is down, a broker's own machine: nothing of that matters.
        assert_eq!(next("b c d", "a, b, c, d", &up), None);
        assert_eq!(next("b c d", "b, c, d, p, S", &up[..1]), None);
        assert_eq!(next("", "p, S", &[]), None);
    }

    #[test]
    fn one_that_cannot_is_replaced_by_one_that_is_up() {
        // It has left; of those that come in its place the first by name was never reached.
        let up = [("c", 3), ("d", 4), ("e", 5)];
        assert_eq!(next("b c d", "a, c, d, e", &up).as_deref(), Some("c d e"));
        // Who votes now goes before who is up, as it may be down for a moment.
        assert_eq!(next("b c d", "a, c, d, e", &up[1..]).as_deref(), Some("c d e"));
        // None is up: better one that may come than a majority of two.
        assert_eq!(next("b c d", "a, c, d", &up[..2]).as_deref(), Some("a c d"));
        // Fewer than three: one, which votes now.
        assert_eq!(next("b c d", "a, d", &up).as_deref(), Some("d"));
        // There are enough now.
        assert_eq!(next("d", "c, d, e", &up).as_deref(), Some("c d e"));
    }

    #[test]
    fn a_host_votes_once_whatever_it_is_called() {
        let up = [("a", 1), ("b", 1), ("c", 3), ("d", 4)];
        assert_eq!(next("a b c", "a, b, c, d", &up).as_deref(), Some("a c d"));
        // There is no other: one vote, not two of one host.
        assert_eq!(next("a b c", "a, b, c", &up[..3]).as_deref(), Some("a"));
    }
}
