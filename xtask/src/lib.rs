//! The project's own automation: everything that is done to the workspace is a `cargo xtask`
//! command, and the miniature clusters are a library that tests use too.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks on its terminal: data on stdout, all else on stderr"
)]

mod advisories;
mod attack;
mod bench;
pub mod browser;
mod ci;
pub mod cli;
pub mod clock;
pub mod cluster;
mod command;
mod compile;
mod demo;
mod dist;
pub mod docs;
mod drill;
mod fuzz;
mod host;
pub mod interrupt;
pub mod npm;
pub mod pair;
pub mod progress;
mod sbom;
pub mod setup;
mod shipped;
mod test;
pub mod tidy;
