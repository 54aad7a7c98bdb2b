//! The agent's daemon.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use vsm_agent::args::Arguments;
use vsm_config::Config;
use vsm_daemon::{
    log::{self, LogSettings},
    process,
    stop::Stop,
    tls::Tls,
};

/// Bad configuration, as sysexits.h numbers it.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    process::main("vsmagent", run)
}

fn run(options: &Arguments) -> Result<(), (u8, String)> {
    let bad = |error: &dyn std::fmt::Display| (EXIT_CONFIG, error.to_string());
    let config = Config::load(&options.config).map_err(|error| bad(&error))?;
    if options.check {
        // Whoever asks wants to know whether brokers will be served: vsm-agent-net, which does, would fail by it.
        Tls::load(&config).map_err(|error| bad(&error))?;
        return check_net(&options.config);
    }
    process::prepare();
    // Desktops have the limit that the agent was started with.
    process::guard_memory();
    log::init(&LogSettings::vsmagent(&config, vsm_agent::LOG_PARTS));
    log::unread(&config);
    serve(options, &config).map_err(|error| (1, format!("{error:#}")))
}

/// Whether vsm-agent-net, which is not root, can read it all too; it says why not.
fn check_net(dir: &Path) -> Result<(), (u8, String)> {
    let failed = |error: &dyn std::fmt::Display| (1, format!("cannot run vsm-agent-net: {error}"));
    let own = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut net = Command::new(own.with_file_name("vsm-agent-net"));
    let done = net.arg("--check").arg("--config").arg(dir).output();
    let done = done.map_err(|error| failed(&error))?;
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if done.status.success() { Ok(()) } else { Err((EXIT_CONFIG, said)) }
}

fn serve(options: &Arguments, config: &Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::on_signals()?;
        vsm_agent::agent::run(&options.config, config, stop).await
    })
}
