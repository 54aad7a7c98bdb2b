//! What one host says is believed within bounds, and it counts for that host alone: one that invents sessions does not
//! fill the table, and no other is put aside for it.

use vsm_core::{Change, Table};

/// Far more sessions than a host has here that invents none, and than are adopted of one before it is put aside: by
/// each of two brokers, and again by each that restarts.
const SESSIONS_MAX: usize = 120;

/// A change is committed on this table.
pub(super) fn check(table: &Table, change: &Change) -> Option<String> {
    let Change::Adopted(new) = change else { return None };
    let has = table.on_agent(&new.agent).count();
    (has >= SESSIONS_MAX).then(|| format!("{} has {has} sessions, and one is adopted", new.agent))
}

/// A host is put aside.
pub(super) fn check_aside(agent: usize, liar: Option<usize>) -> Option<String> {
    (liar != Some(agent)).then(|| format!("agent{agent} is put aside, and invented nothing"))
}
