//! The broker: who gets which session where.
//!
//! Its files lie in rooms. A room uses those below it in this table and none above it.
//!
//! | room | owns |
//! | --- | --- |
//! | [`server`] | sockets, start and stop |
//! | [`api`] | the edge: the gRPC services, and forwarding to the active node |
//! | [`reload`] | taking a new configuration |
//! | [`sessions`] | logins, starts, ends, and what agents report of sessions |
//! | [`pair`] | this node and the other one: roles, health, the witnesses |
//! | [`hosts`] | links to agents, calls to them, what is known of them |
//! | `journal` | what is remembered and who is told |
//! | [`site`] | what the configuration means |
//! | [`error`], [`users`], `locks` | every refusal, who a uid is, locks within the process |
//! | [`args`] | the command line |

pub mod api;
pub mod args;
pub mod broker;
pub mod error;
pub mod hosts;
mod journal;
mod locks;
mod log_parts;
pub mod pair;
pub mod reload;
pub mod server;
pub mod sessions;
pub mod site;
pub mod users;

pub use log_parts::PARTS as LOG_PARTS;
