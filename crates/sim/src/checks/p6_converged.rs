//! P6: after everything is whole again both tables are equal, record by record, in memory and on disk, and are what
//! the committed changes make. The nodes' names are drawn with the seed, so nothing can depend on them.

use super::Checks;
use crate::{
    broker::{Broker, rows},
    world::World,
};

pub(super) fn check(world: &World) -> Option<String> {
    (0..2).find_map(|id| differs(&world.checks, &world.brokers[id], id))
}

fn differs(checks: &Checks, broker: &Broker, id: usize) -> Option<String> {
    let replica = broker.replica.as_ref()?;
    let committed = rows(checks.durable.table());
    for (what, table) in [("table", replica.table()), ("disk", &broker.disk.table)] {
        let here = rows(table);
        if here != committed {
            return Some(format!("P6: broker{id}'s {what} differs: {here:?} is not {committed:?}"));
        }
    }
    None
}
