//! What of the agent speaks with brokers.

use std::{path::Path, process::ExitCode};

use vsm_agent::{args::NetArguments, net};
use vsm_config::{Config, keys};
use vsm_daemon::{
    account::{self, Account},
    grant, grpc,
    log::{self, LogSettings},
    process,
    stop::Stop,
    tls::{Tls, TlsError},
};

/// Bad configuration, as sysexits.h numbers it.
const EXIT_CONFIG: u8 = 78;
/// There is no vsmagent, and with it this is started again.
const EXIT_ALONE: u8 = 75;

fn main() -> ExitCode {
    process::main("vsm-agent-net", run)
}

fn run(NetArguments { config: dir, check }: &NetArguments) -> Result<(), (u8, String)> {
    if *check {
        return readable(dir).map_err(|why| (EXIT_CONFIG, why));
    }
    process::no_cores();
    process::prepare();
    let bad = |error: &dyn std::fmt::Display| (EXIT_CONFIG, error.to_string());
    let failed = |error: &dyn std::fmt::Display| (1, error.to_string());
    let config = Config::load(dir).map_err(|error| bad(&error))?;
    let number = config.get(&keys::vsmagent::LISTEN_PORT);
    // Before anything is read that comes from outside: one below 1024 takes a power that it has no other use for.
    let port = grpc::take_port(number).map_err(|error| {
        (1, format!("cannot listen on port {number} (/vsmagent/listen_port): {error}"))
    })?;
    without_root(&config)?;
    let tls = Tls::load(&config)
        .map_err(|error| if error.may_pass() { failed(&error) } else { bad(&error) })?;
    log::init(&LogSettings::vsmagent(&config, vsm_agent::LOG_PARTS).of_net());
    let start = net::Start { dir: dir.clone(), config, tls, port };
    // Its threads begin without what was given up.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| failed(&error))?.block_on(async {
        let stop = Stop::on_signals().map_err(|error| failed(&error))?;
        net::run(start, stop).await.map_err(|error| {
            let code = if error.is::<net::Alone>() { EXIT_ALONE } else { 1 };
            (code, format!("{error:#}"))
        })
    })
}

/// Whether the account can read what it needs, but for the key: vsmagent lets it read that.
fn readable(dir: &Path) -> Result<(), String> {
    let account = Account::find(account::AGENT).map_err(|error| error.to_string())?;
    if nix::unistd::geteuid().is_root() {
        account.become_it().map_err(|error| format!("cannot be without root's powers: {error}"))?;
    }
    let config = Config::load(dir).map_err(|error| error.to_string())?;
    for parameter in [&keys::tls::CERT_FILE, &keys::tls::CA_FILE] {
        let path = config.get(parameter);
        if let Err(source) = std::fs::File::open(&path) {
            let error = TlsError::Read { path, parameter: parameter.path(), source };
            return Err(format!("the user {} {error}", account.name));
        }
    }
    Ok(())
}

/// Becomes the account of its own where root starts it, and gives up what the unit has given it to take the port with.
fn without_root(config: &Config) -> Result<(), (u8, String)> {
    let given_up = if nix::unistd::geteuid().is_root() {
        let account = Account::find(account::AGENT).map_err(|error| (78, error.to_string()))?;
        // vsmagent does it as well, at the same time perhaps.
        let key = config.get(&keys::tls::KEY_FILE);
        grant::readable(&key, account.key_group())
            .map_err(|error| (1, format!("{}: {error}", key.display())))?;
        account.become_it()
    } else {
        account::give_up()
    };
    given_up.map_err(|error| (1, format!("cannot be without root's powers: {error}")))?;
    // By the change of user the kernel has set it anew.
    process::guard_memory();
    Ok(())
}
