//! Desktops in a browser.

use std::process::ExitCode;

use vsm_config::Config;
use vsm_daemon::{
    account, grpc,
    log::{self, LogSettings},
    process,
    stop::Stop,
};
use vsm_web::{Settings, args::Arguments, server};

/// Bad configuration, as sysexits.h numbers it.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    process::main("vsm-web", run)
}

fn run(Arguments { config: dir, assets, check }: &Arguments) -> Result<(), (u8, String)> {
    let bad = |error: &dyn std::fmt::Display| (EXIT_CONFIG, error.to_string());
    let failed = |error: &dyn std::fmt::Display| (1, error.to_string());
    process::no_cores();
    process::prepare();
    let config = Config::load(dir).map_err(|error| bad(&error))?;
    let settings = Settings::load(&config, assets).map_err(|error| bad(&error))?;
    if *check {
        return Ok(());
    }
    let port = grpc::take_port(settings.port).map_err(|error| {
        let port = settings.port;
        (1, format!("cannot listen on port {port} (/vsmweb/listen_port): {error}"))
    })?;
    // The port was all that a power is needed for.
    account::give_up().map_err(|error| failed(&error))?;
    process::guard_memory();
    log::init(&LogSettings::plain());
    log::unread(&config);
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let stop = Stop::on_signals().map_err(|error| failed(&error))?;
        let start = server::Start { dir: dir.clone(), assets: assets.clone(), settings, port };
        server::serve(start, stop).await.map_err(|error| failed(&error))
    })
}
