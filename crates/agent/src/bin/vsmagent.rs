//! The agent's daemon.

use std::process::ExitCode;

use clap::Parser;
use vsm_agent::args::Arguments;
use vsm_config::Config;
use vsm_daemon::{
    log::{self, LogSettings},
    stop::Stop,
    tls::Tls,
};

/// Bad configuration, as sysexits.h numbers it.
const EXIT_CONFIG: u8 = 78;
/// Bad usage, likewise.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let options = match Arguments::try_parse() {
        Ok(options) => options,
        Err(message) => {
            // Help and version are asked for; all else is wrong usage. If it cannot be printed nobody reads it.
            let _ = message.print();
            return if message.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIG, &error.to_string()),
    };
    if options.check {
        // Whoever asks wants to know whether brokers will be served: vsm-agent-net, which does, would fail by it.
        return match Tls::load(&config) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(EXIT_CONFIG, &error.to_string()),
        };
    }
    vsm_daemon::process::prepare();
    // Desktops have the limit that the agent was started with.
    vsm_daemon::process::guard_memory();
    log::init(&LogSettings::vsmagent(&config, vsm_agent::LOG_PARTS));
    log::unread(&config);
    match serve(&options, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("{error:#}")),
    }
}

fn serve(options: &Arguments, config: &Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::on_signals()?;
        vsm_agent::agent::run(&options.config, config, stop).await
    })
}

#[expect(clippy::print_stderr, reason = "errors of a start go to standard error")]
fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("vsmagent: {message}");
    ExitCode::from(code)
}
