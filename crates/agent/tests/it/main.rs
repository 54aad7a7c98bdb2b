//! The agent on real parts: `vsmagent`, `vsm-session`, PAM, Xvnc. Each test has a host of its own in miniature.
//!
//! They need root, Xvnc and `unshare`; without root they say so and do nothing else.

mod bad_input;
mod lab;
mod life;
mod restart;
