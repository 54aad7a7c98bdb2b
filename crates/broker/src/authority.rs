//! The authority to change anything: the table, and whether this node may act with it. The table decides; this room
//! knows no host, no other node and nobody who asks.

use vsm_core::{AgentName, Epoch};
use vsm_sync::SessionTable;

/// Whose table this node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its own: it has no other node.
    Alone,
    /// A pair's, and it cannot be one of the pair: it changes nothing, whatever it hears.
    Apart,
    /// A pair's, of which it is one.
    OfPair,
}

/// The authority of this node.
#[derive(Debug)]
pub struct Authority {
    /// The session table.
    pub table: SessionTable,
    standing: Standing,
}

impl Authority {
    /// What this table gives to a node that stands so.
    #[must_use]
    pub const fn new(table: SessionTable, standing: Standing) -> Self {
        Self { table, standing }
    }

    /// Whether this node is one of a pair.
    pub(crate) fn is_of_pair(&self) -> bool {
        self.standing == Standing::OfPair
    }

    /// Whether this node may change anything: it is the active one, or has no other. One that stands apart never does.
    #[must_use]
    pub fn acts(&self) -> bool {
        match self.standing {
            Standing::OfPair => self.table.is_serving(),
            Standing::Alone => true,
            Standing::Apart => false,
        }
    }

    /// Tells a witness that is new what it needs to know before it votes.
    pub(crate) async fn greet(&self, agent: &AgentName) {
        // An owner that has stopped needs to be told nothing.
        let _ = self.table.witness_up(agent.clone()).await;
    }

    /// Begins a reign above `promised` if the present one is not.
    pub(crate) async fn rise_above(&self, promised: Epoch) {
        let own = self.table.fence().epoch;
        if self.table.is_beyond_reason(&promised) {
            tracing::error!(%own, %promised, "an agent names an epoch beyond all reason; not following it");
            return;
        }
        if self.standing == Standing::Apart {
            // The other node of the pair may be active.
            return;
        }
        if promised > own {
            tracing::info!(%own, %promised, "an agent has promised to a higher epoch");
        }
        if let Err(error) = self.table.raise_above(promised).await {
            tracing::error!(%error, "cannot begin a higher epoch");
        }
    }
}
