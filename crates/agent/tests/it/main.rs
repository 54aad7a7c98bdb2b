//! The agent on real parts: `vsmagent`, `vsm-session`, PAM, Xvnc. Each test has a host of its own in miniature.
//!
//! They need root, Xvnc and `unshare`; without root they say so and do nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests, which clippy.toml's exceptions for test functions do not reach"
)]

mod access;
mod apart;
mod bad_input;
mod calls;
mod hostile;
mod lab;
mod life;
mod restart;
mod right;
mod witness;
