//! P2: in one epoch only one process of one node is active.

use std::collections::BTreeMap;

use vsm_core::{
    Epoch,
    replica::{Replica, Standing},
};

use crate::state::broker::Broker;

/// Which process was active in an epoch.
#[derive(Debug, Default)]
pub(super) struct Writers(BTreeMap<Epoch, (usize, u64)>);

impl Writers {
    pub(super) fn check(&mut self, id: usize, brokers: &[Broker; 2]) -> Option<String> {
        let standing = brokers[id].replica.as_ref().map(Replica::standing)?;
        let Standing::Active { epoch, .. } = standing else { return None };
        let process = (id, brokers[id].life);
        let known = *self.0.entry(epoch.clone()).or_insert(process);
        (known != process).then(|| format!("P2: {epoch} is used by {known:?} and {process:?}"))
    }
}
