//! The command line of `vsm-sync`.

use clap::{Parser, Subcommand};
use vsm_daemon::VERSION;

use crate::observe::ObserveOptions;

/// Follows a broker pair read-only: its nodes, its session table, and each change as it is committed.
///
/// This host needs a certificate of the cluster with the role broker or admin, and must be listed in
/// /vsmserver/HA/observers.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-sync",
    version = VERSION,
    after_help = "Exit codes: 0 done, 64 bad usage, 69 no node answers, 73 standard output cannot be written, 78 bad configuration"
)]
pub struct Arguments {
    /// For all commands.
    #[command(flatten)]
    pub options: ObserveOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the state of each node, and how far it is behind
    Status,
    /// Print the whole table once
    Dump,
    /// Print changes as they happen, until interrupted; with JSON, one object per line
    Follow,
}
