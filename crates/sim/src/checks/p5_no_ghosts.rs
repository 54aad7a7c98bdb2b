//! P5: a dead session is not handed to a user: it was alive at some moment after they asked. After everything is whole
//! again the table has none.

use vsm_core::{SessionId, Table};

use super::truth::Truth;
use crate::state::agent::Agent;

pub(super) fn check(truth: &Truth, session: SessionId, since: u64) -> Option<String> {
    match truth.lives.get(&session).map(|life| life.died) {
        Some(None) => None,
        Some(Some(died)) if died >= since => None,
        Some(Some(died)) => Some(format!("P5: {session}, dead since {died} ms, is handed out")),
        None => Some(format!("P5: {session}, which never ran, is handed out")),
    }
}

pub(super) fn check_table(table: &Table, agents: &[Agent]) -> Option<String> {
    table.sessions().find_map(|session| {
        let runs = agents.iter().any(|agent| agent.sessions.contains_key(&session.id));
        (!runs).then(|| format!("P5: session {} is in the table and does not run", session.id))
    })
}
