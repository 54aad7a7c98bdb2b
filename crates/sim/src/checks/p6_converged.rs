//! P6: after everything is whole again both tables are equal, record by record, in memory and on disk, and are what
//! the committed changes make. And nothing depends on the nodes' names: with the names swapped a run ends the same,
//! unless both brokers claimed with one counter, where the names decide who comes later.

use std::collections::BTreeMap;

use vsm_core::{Epoch, Key, NodeName, Row};

use super::p1_durable::Durable;
use crate::{
    event::BrokerId,
    state::broker::{Broker, rows},
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
    pub(crate) fn of(
        claims: &Claims,
        brokers: &[Broker; 2],
        winner: Option<BrokerId>,
        steps: u64,
    ) -> Option<Self> {
        let table = |broker: &Broker| Some(rows(broker.replica.as_ref()?.table()));
        let tables = brokers.each_ref().map(table);
        (!claims.tied).then_some(Self { winner, tables, steps })
    }
}

pub(super) fn check(durable: &Durable, brokers: &[Broker; 2]) -> Option<String> {
    (0..2).find_map(|id| differs(durable, &brokers[id], id))
}

fn differs(durable: &Durable, broker: &Broker, id: usize) -> Option<String> {
    let replica = broker.replica.as_ref()?;
    let committed = rows(durable.table());
    for (what, table) in [("table", replica.table()), ("disk", &broker.disk.table)] {
        let here = rows(table);
        if here != committed {
            return Some(format!("P6: broker{id}'s {what} differs: {here:?} is not {committed:?}"));
        }
    }
    None
}
