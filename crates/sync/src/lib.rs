//! Owns the durable session table: one thread checks, logs and applies every change, many callers share one disk
//! flush, and what a reader sees was durable before.
//!
//! With HA off this is the whole of it; the changelog, positions, epochs and the lineage are there already, so that a
//! second node can follow.

mod memory;
mod owner;
mod sqlite;
mod store;

pub use memory::MemoryStore;
pub use owner::{ProposeError, SessionTable, View};
pub use sqlite::{Opened, SqliteStore};
pub use store::{Entry, Loaded, Store, StoreError};
