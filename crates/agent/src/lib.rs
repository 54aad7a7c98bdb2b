//! The agent: starts, keeps and ends desktops on one host.
//!
//! Three processes share this crate. `vsmagent` ([`agent`]) is root and keeps the desktops; it may be restarted,
//! upgraded or killed at any time. `vsm-agent-net` ([`net`]) is not root; brokers speak to it, and it asks `vsmagent`
//! on a socket ([`message`]). `vsm-session` ([`session`]) is one small process per desktop that owns its PAM session,
//! its X server and all that runs in it, and outlives `vsmagent`; those two meet in files ([`record`], [`params`]) and
//! on a socket ([`control`]).

pub mod agent;
pub mod args;
pub mod cgroup;
pub mod control;
pub mod displays;
pub mod folders;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inside;
pub mod lines;
mod log_parts;
pub mod message;
pub mod net;
pub mod params;
pub mod process;
pub mod record;
pub mod refusal;
pub mod session;
pub mod spec;
pub mod xsessions;

pub use log_parts::PARTS as LOG_PARTS;
