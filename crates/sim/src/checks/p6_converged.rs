//! P6: after everything is whole again both tables are equal, record by record, in memory and on disk, and are what
//! the committed changes make. And nothing depends on the nodes' names: with the names swapped a run ends the same,
//! unless both brokers claimed with one counter, where the names decide who comes later.

use std::collections::BTreeMap;

use vsm_core::{Epoch, Key, NodeName, Row};

use super::Checks;
use crate::{
    broker::{Broker, rows},
    event::BrokerId,
    world::World,
};

/// Who claimed with which counter.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    by: BTreeMap<u64, NodeName>,
    tied: bool,
}

impl Claims {
    pub(crate) fn claimed(&mut self, epoch: &Epoch) {
        let first = self.by.entry(epoch.counter).or_insert_with(|| epoch.node.clone());
        self.tied |= *first != epoch.node;
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    winner: Option<BrokerId>,
    tables: [Option<BTreeMap<Key, Row>>; 2],
    steps: u64,
}

impl End {
    /// None where the names decided something.
    pub(crate) fn of(world: &World) -> Option<Self> {
        let tables = [0, 1].map(|id| {
            let replica: Option<&vsm_core::replica::Replica> = world.brokers[id].replica.as_ref();
            replica.map(|replica| rows(replica.table()))
        });
        let end = Self { winner: world.active(), tables, steps: world.steps };
        (!world.checks.claims.tied).then_some(end)
    }
}

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
