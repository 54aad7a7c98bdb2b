//! The agent's daemon.

use std::process::ExitCode;

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
        return Tls::load(&config).map(drop).map_err(|error| bad(&error));
    }
    process::prepare();
    // Desktops have the limit that the agent was started with.
    process::guard_memory();
    log::init(&LogSettings::vsmagent(&config, vsm_agent::LOG_PARTS));
    log::unread(&config);
    serve(options, &config).map_err(|error| (1, format!("{error:#}")))
}

fn serve(options: &Arguments, config: &Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::on_signals()?;
        vsm_agent::agent::run(&options.config, config, stop).await
    })
}
