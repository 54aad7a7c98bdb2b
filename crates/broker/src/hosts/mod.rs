//! The session hosts: a link to each agent, its state and calls to it, and what placement knows of all. It knows
//! nothing of logins, of users or of the API.
//!
//! | module | owns |
//! | --- | --- |
//! | [`agents`] | a link to each agent: its report, its state, calls to it |
//! | [`fleet`] | what placement knows of every agent |
//! | `capacity` | the room that there is |
//! | `clocks` | clocks of other hosts that differ |
//! | `conduct` | what is believed of what a host says; hosts that misbehave are put aside |
//! | `behaviour` | how a host has behaved |
//! | `told` | what an agent tells, bounded and printable |

pub mod agents;
pub mod behaviour;
pub(crate) mod capacity;
pub(crate) mod clocks;
pub(crate) mod conduct;
pub mod fleet;
pub(crate) mod told;
