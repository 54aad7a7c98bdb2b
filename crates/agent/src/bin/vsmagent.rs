//! The agent's daemon.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use vsm_agent::args::Arguments;
use vsm_config::{Config, keys};
use vsm_daemon::{
    account::{self, Account},
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
        return readable_for_net(&config).map_err(|why| (EXIT_CONFIG, why));
    }
    process::prepare();
    // Desktops have the limit that the agent was started with.
    process::guard_memory();
    log::init(&LogSettings::vsmagent(&config, vsm_agent::LOG_PARTS));
    log::unread(&config);
    serve(options, &config).map_err(|error| (1, format!("{error:#}")))
}

/// Whether vsm-agent-net, which is not root, can read what is no secret; this process makes the key readable for it.
fn readable_for_net(config: &Config) -> Result<(), String> {
    let account = Account::find(account::AGENT).map_err(|error| error.to_string())?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    for parameter in [&keys::tls::CERT_FILE, &keys::tls::CA_FILE] {
        let path = config.get(parameter);
        let read =
            Command::new("test").arg("-r").arg(&path).uid(account.uid).gid(account.gid).status();
        if !read.map_err(|error| format!("cannot run test: {error}"))?.success() {
            return Err(format!(
                "the user {}, which vsm-agent-net runs as, cannot read {} ({}): chmod 644, and its folders 755",
                account.name,
                path.display(),
                parameter.path()
            ));
        }
    }
    Ok(())
}

fn serve(options: &Arguments, config: &Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::on_signals()?;
        vsm_agent::agent::run(&options.config, config, stop).await
    })
}
