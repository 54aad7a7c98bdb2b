//! Who the witnesses are: a small fixed set of agents, none of them on a broker's machine.

use std::{sync::Arc, time::Duration};

use vsm_core::{AgentName, Proposal, replica::Standing};

use super::Pair;
use crate::{broker::Broker, settings::Settings};

/// So many where there are enough agents; else one.
const MANY: usize = 3;
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The witnesses for these settings, by name, so that both nodes choose the same.
pub(crate) fn choose(settings: &Settings, nodes: [&str; 2]) -> Vec<AgentName> {
    let mut agents: Vec<AgentName> = settings
        .agents()
        .keys()
        .filter(|agent| !nodes.iter().any(|node| node.eq_ignore_ascii_case(agent.as_str())))
        .cloned()
        .collect();
    // Of two one would be a majority of neither: two votes would be needed, and either loss would count.
    let count = if agents.len() >= MANY { MANY } else { agents.len().min(1) };
    agents.truncate(count);
    agents
}

/// Replaces witnesses that have left the configuration, while both brokers are there to do so.
pub(crate) async fn follow(broker: Arc<Broker>, pair: Arc<Pair>) {
    while !broker.stop.is_cancelled() {
        tokio::select! {
            biased;
            () = broker.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let state = broker.table.state();
        let synced =
            matches!(state.replica.standing, Standing::Active { ready: true, synced: true, .. });
        let Some(now) = state.replica.roster.clone().filter(|_| synced) else { continue };
        let settings = broker.settings();
        let wanted = choose(&settings, [pair.own.as_str(), pair.peer.as_str()]);
        let gone = now.iter().any(|agent| !settings.agents().contains_key(agent));
        if (gone || now.len() < wanted.len()) && *now != *wanted {
            match broker.table.propose(Proposal::SetRoster(wanted.clone().into())).await {
                Ok(_) => tracing::info!(from = ?now, to = ?wanted, "other witnesses"),
                Err(error) => tracing::warn!(%error, "cannot change the witnesses now"),
            }
        }
    }
}
