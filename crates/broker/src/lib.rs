//! The broker: who gets which session where.
//!
//! | module | owns |
//! | --- | --- |
//! | [`args`] | the command line |
//! | [`settings`] | what the configuration means, replaced as a whole on reload |
//! | [`users`] | who a uid is and in which groups, asked of NSS off the async threads |
//! | [`subclusters`] | which subcluster a user belongs to |
//! | [`fleet`] | what placement knows of every agent |
//! | [`agents`] | a link to each agent: its report, its state, calls to it |
//! | [`reconcile`] | comparing the table with what an agent says is running |
//! | [`login`] | the login flow |
//! | `find` | what a user has: which session is meant, and whether it lives |
//! | `placing` | what a new session is proposed with |
//! | `start` | having an agent start a session |
//! | `hooks` | programs that root provides for logins |
//! | `one_login` | letting the client in at the agent without a second login |
//! | `relay` | the way to session hosts that users cannot reach by themselves |
//! | `shadow` | who may shadow other users' desktops |
//! | `unvoted` | desktops made without votes, where the administrator allows that |
//! | [`ending`] | ending sessions |
//! | [`ha`] | the pair: roles, health, forwarding, the witnesses |
//! | `locks` | locks within the process |
//! | `capacity`, `upkeep` | the room that there is, and what the active node looks after by itself |
//! | `clocks` | clocks of other hosts that differ |
//! | [`user_api`], [`admin_api`], [`agents_api`], [`registry`] | the gRPC services |
//! | [`server`] | sockets, start and stop |

pub mod admin_api;
pub mod agents;
pub mod agents_api;
mod alarm;
pub mod args;
pub mod broker;
mod capacity;
mod clocks;
mod conduct;
pub mod config_api;
pub mod ending;
pub mod error;
mod find;
pub mod fleet;
mod gone;
pub mod ha;
mod hooks;
pub mod lifetimes;
mod limiting;
mod locks;
mod log_parts;
pub mod login;
mod mail;
pub mod members;
mod one_login;
mod placing;
pub mod reconcile;
pub mod registry;
mod relay;
pub mod reload;
pub mod server;
mod set_aside;
pub mod settings;
mod shadow;
mod start;
pub mod subclusters;
mod told;
mod trail;
mod unvoted;
mod upkeep;
pub mod user_api;
pub mod users;
mod view;
mod watch_files;

pub use log_parts::PARTS as LOG_PARTS;
