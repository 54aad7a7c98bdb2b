//! The broker: who gets which session where.
//!
//! Its files lie in rooms. A room uses those below it in this table and none above it.
//!
//! | room | owns |
//! | --- | --- |
//! | [`server`], [`rooms`] | sockets, start and stop; all rooms put together |
//! | [`api`] | the edge: the gRPC services, and forwarding to the active node |
//! | [`reload`] | taking a new configuration |
//! | `upkeep` | what a node looks after by itself, asked by nobody |
//! | [`sessions`] | logins, starts, ends, and what agents report of sessions |
//! | [`pair`] | this node and the other one: roles, health, the witnesses |
//! | [`openid`] | tokens of the OpenID provider: whether one is good, and whom it means |
//! | [`identities`] | certificates of hosts: invitations, signing, and what is revoked |
//! | [`hosts`] | links to agents, calls to them, what is known of them |
//! | [`journal`] | what is remembered and who is told |
//! | [`authority`] | the table, and whether this node may act with it |
//! | [`site`] | what the configuration means, and who the users are |
//! | `helper` | whether the root helper is there, which runs hooks and mails |
//! | [`process`], [`error`], [`users`], `locks` | the process, every refusal, who a uid is, locks within the process |
//! | [`args`] | the command line |

pub mod api;
pub mod args;
pub mod authority;
pub mod error;
mod helper;
pub mod hosts;
pub mod identities;
pub mod journal;
mod locks;
mod log_parts;
pub mod openid;
pub mod pair;
pub mod process;
pub mod reload;
pub mod rooms;
pub mod server;
pub mod sessions;
pub mod site;
mod upkeep;
pub mod users;
pub mod web_keys;

pub use log_parts::PARTS as LOG_PARTS;
