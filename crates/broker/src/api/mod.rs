//! The edge: what users, administrators, agents and the other node ask for, as gRPC services. A request is read and
//! allowed here, and served here or passed on to the active node; the rooms below decide. Nothing below uses this room.
//!
//! | module | owns |
//! | --- | --- |
//! | [`user`] | what users ask for |
//! | [`admin`] | what administrators ask of sessions and hosts |
//! | [`agents`] | marks of agents, and why a user gets which |
//! | [`configuration`] | the configuration in force, and taking a new one |
//! | [`pair`] | the administrator's view of the pair |
//! | [`registry`] | agents that announce themselves |
//! | `place` | where a call is to be served: here, or on the active node |
//! | `view` | a session as users and administrators see it |

pub mod admin;
pub mod agents;
pub mod configuration;
pub mod pair;
pub(crate) mod place;
pub mod registry;
pub mod user;
pub(crate) mod view;
