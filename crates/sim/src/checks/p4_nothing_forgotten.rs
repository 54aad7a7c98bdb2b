//! P4: after everything is whole again, each session that runs is in the active broker's table, and none does whose end
//! was recorded.

use vsm_core::Table;

use super::truth::Truth;
use crate::state::agent::Agent;

pub(super) fn check(truth: &Truth, table: &Table, agents: &[Agent]) -> Option<String> {
    agents.iter().flat_map(|agent| agent.sessions.keys()).find_map(|id| {
        if table.session(*id).is_none() {
            return Some(format!("P4: session {id} runs and is in no table"));
        }
        let promised = truth.lives.get(id).is_some_and(|life| life.promised);
        promised.then(|| format!("P4: the end of session {id} was recorded, and it runs"))
    })
}
