//! The broker as one of a pair, through its sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod adopt;
mod agent;
mod evil;
mod forward;
mod identities;
mod lab;
mod life;
mod openid;
mod refusals;
mod web_keys;
