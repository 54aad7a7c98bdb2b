//! The broker as one of a pair, through its sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod forward;
mod lab;
