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
//! | `node` | one broker's replica: its parts, events in, actions out |
//! | `ledger`, `outbox` | what it holds of the table; what leaves it, and when |
//! | `peer`, `candidacy` | what it knows of the other broker; its wish to be active |
//! | `role`, `reign` | what it is at the moment; what it knows while active |
//! | `probe`, `claim` | steps before a reign: whom it would disturb, asking for votes |
//! | `active`, `solo`, `greet` | steps of a reign: with the peer, with witnesses alone, witnesses that lost something |
//! | `follow`, `off` | steps of a standby; a peer that was switched off for certain |
//! | [`log`] | entries, positions, the common point of two logs |
//! | [`message`] | what nodes say |
//! | [`disk`] | what is durable, and the writes |
//! | [`witness`] | an agent's promise and window |
//! | `event`, `status` | what it is told and wants done; what it tells of itself |
//! | `limits`, `tick` | how much at once and how much is kept; moments |
//! | [`mutant`] | deliberate bugs, for the tests of the tests |

mod active;
mod candidacy;
mod claim;
pub mod disk;
mod event;
mod follow;
mod greet;
mod ledger;
mod limits;
pub mod log;
pub mod message;
pub mod mutant;
mod node;
mod off;
mod outbox;
mod peer;
mod probe;
mod reign;
mod role;
mod solo;
mod status;
#[cfg(test)]
mod tests;
mod tick;
pub mod witness;

pub use disk::{Disk, Install, Mark, Write};
pub use event::{Action, Config, Event, Failure, Standing, Token};
pub use ledger::Touched;
pub use limits::Limits;
pub use log::{Entry, History, Log};
pub use message::{Hello, Holds, Image, PeerMsg, Supply, Window, WitnessMsg, WitnessReply};
pub use node::Replica;
pub use reign::Second;
pub use status::{PeerStatus, Status, WitnessStatus};
pub use witness::{Living, Witness};
