//! The broker daemon.

use std::{io::Write, process::ExitCode, time::Duration};

use tikv_jemallocator::Jemalloc;
use vsm_broker::args::Arguments;
use vsm_config::Config;
use vsm_daemon::{
    account::{self, Account},
    log::{self, LogSettings},
    process,
    stop::Stop,
    tls::Tls,
};
use vsm_root::prepare;

/// How long threads that write may take once everything else has ended.
const THREADS_TIMEOUT: Duration = Duration::from_secs(5);

/// When a thousand agents come at once, what they tell is in memory for a moment beside what stays of it. glibc keeps
/// the room between; this one gives it back, a second later (`.cargo/config.toml`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    process::main("vsmserver", run)
}

fn run(arguments: &Arguments) -> Result<(), (u8, String)> {
    process::no_cores();
    without_root(arguments)?;
    let config = Config::load(&arguments.config).map_err(|error| (78, error.to_string()))?;
    if arguments.check {
        config.check().map_err(|error| (78, error.to_string()))?;
        Tls::load(&config).map_err(|error| (78, error.to_string()))?;
        return Ok(());
    }
    if arguments.leave_pair {
        let done = vsm_broker::pair::leave(&config)
            .map_err(|error| (error.exit_code(), error.to_string()))?;
        // Where nobody can read it, it was done all the same.
        let _ = writeln!(std::io::stdout(), "{done}");
        return Ok(());
    }
    process::prepare();
    log::init(&LogSettings::vsmserver(&config, vsm_broker::LOG_PARTS));
    log::unread(&config);
    // One may wait for the disk (vsm_sync's owner) while another serves.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| (1, error.to_string()))?;
    let done = runtime.block_on(async {
        let stop = Stop::on_signals().map_err(|error| (1, error.to_string()))?;
        vsm_broker::server::serve(config, arguments.config.clone(), stop)
            .await
            .map_err(|error| (error.exit_code(), error.to_string()))
    });
    // A thread that hangs in the name service would never end.
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    done
}

/// Becomes the broker's own account where root starts it: no broker is root. What the account needs it is given before,
/// as the unit does.
fn without_root(arguments: &Arguments) -> Result<(), (u8, String)> {
    // What a check by root finds unreadable for the account, a start makes readable.
    if arguments.check || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let account = Account::find(account::BROKER).map_err(|error| (78, error.to_string()))?;
    let config = Config::load(&arguments.config).map_err(|error| (78, error.to_string()))?;
    prepare::all(&config, account).map_err(|error| (1, error.to_string()))?;
    let become_it = account.become_it();
    become_it.map_err(|error| (1, format!("cannot become the user {}: {error}", account.name)))?;
    // By the change of user the kernel has set it anew.
    process::guard_memory();
    Ok(())
}
