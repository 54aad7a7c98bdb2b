//! The observer's program.

use std::process::ExitCode;

use vsm_cli::{
    args::vsm_sync::{Arguments, Command},
    exit::{self, Failure, SOFTWARE},
    observe,
};

fn main() -> ExitCode {
    // It may hold the key of this host.
    vsm_daemon::process::guard_memory();
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
