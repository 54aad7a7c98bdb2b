//! Owns the durable session table: one task drives a replica ([`vsm_core::replica`]) with a store, many callers share
//! one disk flush, and what a reader sees is committed.
//!
//! With HA off the replica is alone and its own vote is enough; all else is the same, so that a second node can
//! follow later.
//!
//! | module | owns |
//! | --- | --- |
//! | `table` | the handle that the broker has |
//! | `owner` | the task: events in, writes, messages and answers out |
//! | `store`, `sqlite`, `memory` | what is durable |
//! | `peer` | the stream between the two brokers |
//! | `observe` | what a read-only observer is told |

mod memory;
pub mod observe;
mod owner;
pub mod peer;
mod sqlite;
mod store;
mod table;
mod view;

pub use memory::{Failing, MemoryStore, StoreSwitch};
pub use owner::Outbox;
pub use sqlite::{Opened, SqliteStore};
pub use store::{Loaded, Store, StoreError};
pub use table::{EPOCH_JUMP_MAX, PeerLink, SessionTable};
pub use view::{ProposeError, State, View};
