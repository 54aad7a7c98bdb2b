//! The broker: who gets which session where.
//!
//! | module | owns |
//! | --- | --- |
//! | [`args`] | the command line |
//! | [`settings`] | what the configuration means, replaced as a whole on reload |
//! | [`users`] | who a uid is and in which groups, asked of NSS off the async threads |
//! | [`agents`] | a link to each agent: its report, its state, calls to it |
//! | [`reconcile`] | comparing the table with what an agent says is running |
//! | [`login`] | the login flow |
//! | `start` | having an agent start a session |
//! | `unvoted` | desktops made without votes, where the administrator allows that |
//! | [`ending`] | ending sessions |
//! | [`ha`] | the pair: roles, health, forwarding, the witnesses |
//! | [`user_api`], [`admin_api`], [`registry`] | the three gRPC services |
//! | [`server`] | sockets, start and stop |

pub mod admin_api;
pub mod agents;
mod alarm;
pub mod args;
pub mod broker;
pub mod config_api;
pub mod ending;
pub mod error;
pub mod ha;
pub mod login;
mod mail;
pub mod reconcile;
pub mod registry;
pub mod reload;
pub mod server;
pub mod settings;
mod start;
mod trail;
mod unvoted;
pub mod user_api;
pub mod users;
mod view;
mod watch_files;
