//! Reigns and positions: who may write, and where in the log a change stands.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LineageId, NodeName};

/// One reign of one broker, totally ordered: by counter, then by node name, then by its nonce. Durable before it is
/// used.
///
/// A node that lost its disk may count to the same number again. The nonce tells the two reigns apart wherever logs and
/// promises are compared, so that no argument about epochs rests on a disk that may be gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Counts up by at least one whenever a broker becomes active.
    pub counter: u64,
    /// The broker.
    pub node: NodeName,
    /// Drawn at random for each claim; 0 in epochs of versions that had none.
    pub nonce: u32,
}

impl Epoch {
    /// Below every epoch of a node.
    #[must_use]
    pub fn zero() -> Self {
        Self { counter: 0, node: NodeName::nobody(), nonce: 0 }
    }

    /// The next epoch of `node` above this one, with a nonce that was drawn for it.
    #[must_use]
    pub fn next(&self, node: NodeName, nonce: u32) -> Self {
        Self { counter: self.counter.saturating_add(1), node, nonce }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.counter, self.node)
    }
}

/// Random number of one process' life: tells a broker from itself before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// By what right a broker asks an agent for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// The broker's epoch; an agent refuses one below its promise.
    pub epoch: Epoch,
    /// The broker's process.
    pub incarnation: Incarnation,
    /// The table that the broker writes.
    pub lineage: LineageId,
}

/// Position of a change: the epoch in which it was committed, and its number in the whole log (from 1, no gaps).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lsn {
    /// Epoch.
    pub epoch: Epoch,
    /// Number.
    pub seq: u64,
}

impl Lsn {
    /// Before everything.
    #[must_use]
    pub fn zero() -> Self {
        Self { epoch: Epoch::zero(), seq: 0 }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_totally_ordered() {
        let a: NodeName = "a".parse().unwrap();
        let b: NodeName = "b".parse().unwrap();
        let first = Epoch { counter: 1, node: b.clone(), nonce: 7 };
        assert!(first.next(a.clone(), 1) > first);
        assert!(Epoch { counter: 1, node: a, nonce: 9 } < first);
        assert_ne!(Epoch { counter: 1, node: b.clone(), nonce: 8 }, first, "another life's reign");
        assert_eq!(first.next(b, 1).to_string(), "2@b");
    }
}
