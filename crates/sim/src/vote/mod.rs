//! The vote core, small enough to look at every state that it can get into: two brokers, three witnesses that are also
//! the agents, two users, crashes, messages that come late or again, a broker that does not know that it was replaced.
//!
//! A broker's write is one step here, and so is what a voter does on a message; whoever waits for the answer may wait
//! for long. That is what the rules of `docs/protocol.md` need to be wrong about if they are wrong: who may promise
//! what, who learns what, when something is committed, who is asked to start. Epochs, witnesses and the table's rules
//! are the real ones. What the reduction leaves out, such as windows that begin late, lost disks and changes of the
//! witnesses, is for the simulation.

mod fold;
mod model;
mod pieces;
mod quick;
mod rules;
mod search;

pub use model::{Bound, Weakness};
pub use search::{Search, search};
