//! The broker's helper, which is root.

use std::{path::Path, process::ExitCode};

use vsm_config::Config;
use vsm_daemon::{
    account::{self, Account},
    log::{self, LogSettings},
    process,
    stop::Stop,
};
use vsm_root::{args::Arguments, prepare, server};

fn main() -> ExitCode {
    process::main("vsm-root", run)
}

fn run(arguments: &Arguments) -> Result<(), (u8, String)> {
    let account = Account::find(account::BROKER).map_err(|error| (78, error.to_string()))?;
    if arguments.prepare {
        let config = Config::load(&arguments.config).map_err(|error| (78, error.to_string()))?;
        return prepare::all(&config, account).map_err(|error| (1, error.to_string()));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err((1, "it does what needs root, and is not started by root".to_owned()));
    }
    process::prepare();
    process::guard_memory();
    log::init(&LogSettings::plain());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (1, error.to_string()))?;
    runtime.block_on(async {
        let stop = Stop::on_signals().map_err(|error| (1, error.to_string()))?;
        server::serve(account, &arguments.config, Path::new(server::DIR), stop.token)
            .await
            .map_err(|error| (error.exit_code(), error.to_string()))
    })
}
