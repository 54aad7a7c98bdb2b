//! Replication of the session table over a pair of brokers with agents as witnesses, without input or output: events
//! in, actions out. `now` and the seed are arguments.
//!
//! There are three votes: this broker's store (A), the peer's (B), and the witnesses' (W, most of a fixed small set of
//! agents). Two of three make a broker active, and two of three commit a change. Any two such pairs share a voter, so
//! a broker that becomes active learns every change that was committed before, and one that was replaced cannot
//! commit another. While both brokers are there the witnesses take no part in commits.
//!
//! The rules in short; docs/protocol.md argues why they are safe:
//! - An epoch is durable before it is used. A promise, an acknowledgement and a witness' answer are durable before
//!   they are sent.
//! - A claimant takes the log with the highest last position (epoch first, then number) among itself and the voters
//!   that promised, and commits by an entry of its own epoch ([`crate::Change::Began`]), which commits all before it.
//! - A broker without a table (a new disk) has forgotten its promises: it votes for nothing but the first pairing.
//!
//! | module | owns |
//! | --- | --- |
//! | [`log`] | entries, positions, the common point of two logs |
//! | [`message`] | what nodes say |
//! | [`disk`] | what is durable, and the writes |
//! | [`witness`] | an agent's promise and window |
//! | `event` | what it is told, wants done, and is |
//! | `node` | events in, actions out |
//! | `off` | a peer that was switched off for certain |
//! | `probe`, `claim`, `active`, `solo`, `follow` | before a claim, claiming, active, with witnesses alone, standby |
//! | `greet` | witnesses that lost what they held |
//! | `store`, `limits` | what is held, in memory and on disk; how much of it |
//! | `status` | what it tells of itself |
//! | [`mutant`] | deliberate bugs, for the tests of the tests |

mod active;
mod claim;
pub mod disk;
mod event;
mod follow;
mod greet;
mod limits;
pub mod log;
pub mod message;
pub mod mutant;
mod node;
mod off;
mod probe;
mod solo;
mod status;
mod store;
#[cfg(test)]
mod tests;
pub mod witness;

pub use disk::{Disk, Install, Mark, Write};
pub use event::{Action, Config, Event, Failure, Standing, Token};
pub use limits::Limits;
pub use log::{Entry, History, Log};
pub use message::{Hello, Holds, Image, PeerMsg, Supply, Window, WitnessMsg, WitnessReply};
pub use node::{Replica, Touched};
pub use status::{PeerStatus, Second, Status, WitnessStatus};
pub use witness::{Living, Witness};
