//! The pair: which node this is, what makes it want to be active, and whether it may have the resource address. What
//! administrators ask about it, and forwarding to the active node, belong to the API.
//!
//! | module | owns |
//! | --- | --- |
//! | [`identity`] | which entry of `/vsmserver/HA/nodes` this host is |
//! | `role` | what tells this node that it should try to be active |
//! | [`health`] | whether the resource address may be here, told to the HA software |
//! | [`fenced`] | the word of cluster software that the other node was switched off |
//! | `witness` | carrying messages to the witnesses and their answers back |
//! | `card` | what this node tells the other of its configuration and keys |
//! | `roster` | who the witnesses are |
//! | `open` | opening the table: as one of two, alone, or apart with a pair's table |
//! | `set_aside` | tables that were set aside, told until somebody takes them away |

pub(crate) mod card;
pub mod fenced;
pub mod health;
pub mod identity;
pub(crate) mod open;
pub(crate) mod role;
pub(crate) mod roster;
pub(crate) mod set_aside;
pub(crate) mod witness;

pub use open::leave;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::RwLock;
use tokio::sync::watch;
use tonic::transport::Channel;
use vsm_config::RoleSource;
use vsm_core::NodeName;
use vsm_sync::peer::{Card, PeerStream};

use crate::{
    authority::{Authority, Standing},
    hosts::agents::Agents,
    process::Process,
};
use health::Health;

/// Whether this broker is one of a pair.
#[derive(Debug)]
pub enum Ha {
    /// It is not.
    Off {
        /// HA is configured and could not be turned on, and why: it starts alone then (docs/design-notes.md).
        unsafe_because: Option<String>,
    },
    /// Its table is a pair's, and it cannot be one of the pair: HA is switched off, or could not be turned on. It
    /// places and ends nothing, whatever it hears, as the other node may be active.
    Apart(Apart),
    /// It is.
    On(Arc<Pair>),
}

/// A node that stands apart.
#[derive(Debug)]
pub struct Apart {
    /// Why, and what helps.
    pub why: String,
    /// HA is switched off; else it could not be turned on.
    pub switched_off: bool,
    /// The one entry of `/vsmserver/HA/nodes` that is another host, if there is one: users are sent on to it.
    pub other: Option<Channel>,
}

/// The pair as this node has it.
#[derive(Debug)]
pub struct Pair {
    /// This node.
    pub own: NodeName,
    /// The other one.
    pub peer: NodeName,
    /// The stream to it.
    pub stream: Arc<PeerStream>,
    /// Both, as `/vsmserver/HA/nodes` has them.
    pub nodes: Vec<String>,
    /// `/vsmserver/state_dir`, for who is told to look there.
    pub state_dir: PathBuf,
    /// Calls to it.
    pub channel: Channel,
    /// What tells this node that it should try to be active.
    pub source: RoleSource,
    /// The resource address as configured; empty = none.
    pub resource: String,
    /// Whether the resource address is on this host.
    pub holds_address: AtomicBool,
    /// Whether the resource address may be here.
    pub health: watch::Sender<Health>,
    /// The wall clock.
    pub clock: fenced::WallClock,
}

impl Pair {
    /// What makes a certificate and its files for one of both nodes.
    #[must_use]
    pub fn issue_command(&self, node: &str) -> String {
        let address = match self.resource.as_str() {
            "" => String::new(),
            resource => format!(" --address {resource}"),
        };
        format!("vsmctl pki issue {node} --role broker{address} --out {node}")
    }
}

impl Ha {
    /// The nodes of the pair that `own` is of, or it alone.
    #[must_use]
    pub fn nodes(&self, own: &NodeName) -> Vec<String> {
        match self {
            Self::On(pair) => pair.nodes.clone(),
            Self::Off { .. } | Self::Apart(_) => vec![own.to_string()],
        }
    }

    /// Under which names this node is reached, so that its certificate is to have them; empty where it is no pair's.
    #[must_use]
    pub fn own_names(&self) -> Vec<String> {
        match self {
            Self::On(pair) => {
                let names = [pair.own.to_string(), pair.resource.clone()];
                names.into_iter().filter(|name| !name.is_empty()).collect()
            }
            Self::Off { .. } | Self::Apart(_) => Vec::new(),
        }
    }

    /// How a node stands that is so.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self {
            Self::Off { .. } => Standing::Alone,
            Self::Apart(_) => Standing::Apart,
            Self::On(_) => Standing::OfPair,
        }
    }

    /// What this node does, in a few words, for systemd and the log.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::On(_) => "serving, HA on",
            Self::Off { unsafe_because: None } => "serving, HA off",
            Self::Off { unsafe_because: Some(_) } => "serving, HA could not be turned on",
            Self::Apart(_) => "not serving: it has a pair's table and cannot be one of the pair",
        }
    }

    /// Calls to the other node, if it is one of a pair.
    #[must_use]
    pub fn other(&self) -> Option<Channel> {
        match self {
            Self::On(pair) => Some(pair.channel.clone()),
            Self::Off { .. } | Self::Apart(_) => None,
        }
    }
}

/// This node's side of the pair; with HA off there is no other one.
#[derive(Debug)]
pub struct Side {
    process: Arc<Process>,
    authority: Arc<Authority>,
    agents: Arc<Agents>,
    /// Whether this broker is one of a pair.
    pub ha: Ha,
    card: Arc<RwLock<Card>>,
}

impl Side {
    /// A side that tells the other one what `card` says.
    #[must_use]
    pub const fn new(
        process: Arc<Process>,
        authority: Arc<Authority>,
        agents: Arc<Agents>,
        ha: Ha,
        card: Arc<RwLock<Card>>,
    ) -> Self {
        Self { process, authority, agents, ha, card }
    }

    /// What this node tells the other of itself.
    #[must_use]
    pub fn card(&self) -> Card {
        self.card.read().clone()
    }

    /// Replaces what this node tells of itself; whether it is something else than before.
    pub fn set_card(&self, card: Card) -> bool {
        let mut now = self.card.write();
        let differs = *now != card;
        *now = card;
        differs
    }
}
