//! The observer's program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vsm_cli::{
    exit::{self, Failure, SOFTWARE},
    observe::{self, ObserveOptions},
};

/// Follows a broker pair read-only: its nodes, its session table, and each change as it is committed.
///
/// This host needs a certificate of the cluster with the role broker or admin, and its name in /vsmserver/HA/observers.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-sync",
    version,
    after_help = "Exit codes: 0 done, 64 bad usage, 69 no node answers, 73 standard output cannot be written, 78 bad configuration"
)]
struct Arguments {
    #[command(flatten)]
    options: ObserveOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How each node is, and how far it is behind
    Status,
    /// Print the whole table once
    Dump,
    /// Print changes as they come, until interrupted; with JSON one object on each line
    Follow,
}

fn main() -> ExitCode {
    exit::main("vsm-sync", |Arguments { options, command }: Arguments| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        runtime.block_on(async {
            match command {
                Command::Status => observe::status(&options).await,
                Command::Dump => observe::dump(&options).await,
                Command::Follow => observe::follow(&options).await,
            }
        })
    })
}
