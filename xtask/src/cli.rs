//! The commands of `cargo xtask` and their arguments.

mod fault;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::cluster::web::Factors;
use crate::cluster::{self, Cluster, ClusterSpec, HaSoftware, HostStatus, Placed, UnknownHost};
use crate::compile::{self, Profile};
use crate::{
    advisories, attack, bench, ci, demo, dist, docs, drill, fuzz, host, interrupt, sbom, setup,
    test, tidy,
};

/// Bad usage, as sysexits.h has it.
const EXIT_USAGE: u8 = 64;

/// Builds, tests, packages and demonstrates this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Install the tools that development, tests and the demo need
    Setup {
        /// Only report what is missing
        #[arg(long)]
        check: bool,
        /// Also what only some tests need
        #[arg(long, conflicts_with = "check")]
        all: bool,
        /// Not what tests with browsers need
        #[arg(long)]
        no_browser: bool,
    },
    /// Run a miniature cluster on this machine: a pair of brokers, agents and a client
    #[command(subcommand)]
    Cluster(ClusterCmd),
    /// Demonstrate the whole story: log in, work, leave, come back to the same desktop
    Demo(demo::Options),
    /// Inject faults while users log in and out, then compare what they were told with what runs
    Drill(drill::Options),
    /// Attack a miniature cluster in every known way while users log in, each with a control
    Attack(attack::Options),
    /// Measure speed and size, each compared with a peer in the same run
    Bench(bench::Options),
    /// Build the Debian packages and the tarball; with --check-reproducible, twice
    Dist(dist::Options),
    /// Write what is in the packages, crate by crate, as CycloneDX (JSON)
    ///
    /// One file for each package: its programs, the crates and C libraries that are linked into them with version,
    /// licence, checksum and who uses whom, and with the scope `excluded` what only takes part in building. `dist`
    /// writes the same beside the packages and into them.
    Sbom(sbom::Options),
    /// Check the crates that are used against a database of advisories, without a network
    Advisories(advisories::Options),
    /// Simulate the pair under faults: --seeds N, --seed S --trace, --mutants, --json
    Sim {
        /// Arguments for `vsm-sim`; see `cargo xtask sim -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Give what is read from outside to a coverage-guided fuzzer
    Fuzz(fuzz::Options),
    /// Run all tests
    Test(test::Options),
    /// Build the book and check its links; with --run, follow the guide on fresh hosts
    Docs(docs::Options),
    /// Run all checks that a change must pass
    Ci(ci::Options),
    /// Check the rules of the house: layout, imports, lengths, docs of the log
    Tidy,
    #[command(hide = true)]
    HostLaunch { cluster: String, host: String },
    #[command(hide = true)]
    HostInit { state: PathBuf, host: String },
    #[command(hide = true)]
    HostPower { cluster: String },
    #[command(hide = true)]
    HostFence,
}

#[derive(Debug, Subcommand)]
enum ClusterCmd {
    /// Bring the cluster up: start what is missing, and install newly built programs
    Up(Up),
    /// Remove the cluster without a trace
    Down(Name),
    /// Show the hosts and their daemons
    Status {
        #[command(flatten)]
        name: Name,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a host: as alice on the client, as root elsewhere
    Exec {
        #[command(flatten)]
        name: Name,
        /// Run as this user
        #[arg(long)]
        user: Option<String>,
        host: String,
        /// The command and its arguments, after --
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Restart a daemon; what it started keeps running
    Restart(Daemon),
    /// Stop a daemon
    Stop(Daemon),
    /// Start a daemon
    Start(Daemon),
    /// Cut a host's power
    PowerOff {
        #[command(flatten)]
        name: Name,
        host: String,
    },
    /// Boot a host again
    PowerOn {
        #[command(flatten)]
        name: Name,
        host: String,
    },
    /// Inject a fault, until `heal` or for a moment
    Fault(fault::Options),
    /// Undo all faults, or those of some hosts
    Heal {
        #[command(flatten)]
        name: Name,
        hosts: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Name {
    /// The cluster's name; several can run side by side
    #[arg(long, default_value = "dev", global = true)]
    name: String,
}

#[derive(Debug, Args)]
struct Daemon {
    #[command(flatten)]
    name: Name,
    host: String,
    daemon: String,
}

#[derive(Debug, Args)]
struct Up {
    #[command(flatten)]
    name: Name,
    /// One broker without HA instead of a pair
    #[arg(long)]
    single: bool,
    /// HA software that gives the resource address to one of the pair
    #[arg(long, value_enum, default_value_t, conflicts_with = "single")]
    ha: HaSoftware,
    /// Hosts with Debian's packages and systemd but without VSM, to install it by hand
    #[arg(long, conflicts_with = "single")]
    fresh: bool,
    /// With --fresh: a directory that the hosts see as /mnt, such as target/dist
    #[arg(long, value_name = "DIR", requires = "fresh")]
    medium: Option<PathBuf>,
    /// Number of agents; by default 3 with a pair, and 2 with a single broker
    #[arg(long)]
    agents: Option<u8>,
    /// Number of users user001…, in addition to alice, bob and carol
    #[arg(long, default_value_t = 0)]
    users: u16,
    /// An sshd on the brokers for people who log in with a browser, and what it asks them for
    #[arg(long, value_enum, value_name = "FACTORS", conflicts_with = "fresh")]
    web: Option<Factors>,
    /// Use optimised programs
    #[arg(long)]
    release: bool,
    /// Do not build; use the programs that are there
    #[arg(long)]
    no_build: bool,
}

/// Runs the command line and says what went wrong in one line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            while interrupt::stopping() {
                // The clean-up that the signal began ends the process.
                std::thread::park();
            }
            eprintln!("xtask: {error:#}");
            let unknown = error.downcast_ref::<UnknownHost>().is_some();
            if unknown { EXIT_USAGE.into() } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Cmd) -> Result<ExitCode> {
    match command {
        Cmd::Setup { check, all, no_browser } => {
            if all {
                setup::everything()?;
            } else {
                setup::setup(check)?;
            }
            if !no_browser {
                setup::browsers(check)?;
            }
        }
        Cmd::Cluster(command) => cluster(command)?,
        Cmd::Drill(options) => drill::drill(&options)?,
        Cmd::Demo(options) => demo::demo(&options)?,
        Cmd::Attack(options) => return attack::attack(&options),
        Cmd::Bench(options) => bench::bench(&options)?,
        Cmd::Dist(options) => dist::dist(&options)?,
        Cmd::Sbom(options) => sbom::sbom(&options)?,
        Cmd::Advisories(options) => advisories::advisories(&options)?,
        Cmd::Sim { arguments } => compile::run_optimised("vsm-sim", "mutants", &arguments)?,
        Cmd::Fuzz(options) => fuzz::fuzz(&options)?,
        Cmd::Test(options) => test::test(&options)?,
        Cmd::Docs(options) => docs::docs(&options)?,
        Cmd::Ci(options) => ci::ci(&options)?,
        Cmd::Tidy => tidy::report()?,
        Cmd::HostLaunch { cluster, host } => host::launch::launch(&cluster, &host)?,
        Cmd::HostInit { state, host } => host::init(&state, &host)?,
        Cmd::HostPower { cluster } => cluster::power_switch::serve(&cluster)?,
        Cmd::HostFence => return host::fence::fence(),
    }
    Ok(ExitCode::SUCCESS)
}

fn cluster(command: ClusterCmd) -> Result<()> {
    let attach = |name: &Name| Cluster::attach(&name.name, compile::helper()?);
    match command {
        ClusterCmd::Up(up) => cluster_up(&up),
        ClusterCmd::Down(name) => cluster::down(&name.name),
        ClusterCmd::Status { name, json } => status(&attach(&name)?, json),
        ClusterCmd::Exec { name, user, host, command } => {
            let cluster = attach(&name)?;
            let user = user.map_or_else(|| cluster.default_user(&host).map(str::to_owned), Ok)?;
            let words: Vec<_> = command.iter().map(String::as_str).collect();
            // In our place, so that terminal, signals and exit code are the program's own.
            bail!("nsenter: {}", cluster.command(&host, &user, &words)?.exec())
        }
        ClusterCmd::Restart(at) => attach(&at.name)?.restart_daemon(&at.host, &at.daemon),
        ClusterCmd::Stop(at) => attach(&at.name)?.stop_daemon(&at.host, &at.daemon),
        ClusterCmd::Start(at) => attach(&at.name)?.start_daemon(&at.host, &at.daemon),
        ClusterCmd::PowerOff { name, host } => attach(&name)?.power_off(&host),
        ClusterCmd::PowerOn { name, host } => attach(&name)?.power_on(&host),
        ClusterCmd::Fault(options) => options.run(&attach(&options.name)?),
        ClusterCmd::Heal { name, hosts } => {
            let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
            for fault in attach(&name)?.heal(&hosts)? {
                eprintln!("healed: {fault}");
            }
            Ok(())
        }
    }
}

fn cluster_up(up: &Up) -> Result<()> {
    if up.ha == HaSoftware::Pacemaker {
        setup::pacemaker()?;
    }
    let profile = if up.release { Profile::Release } else { Profile::Dev };
    if up.fresh {
        setup::fresh_hosts()?;
    } else {
        setup::setup(false)?;
    }
    if up.web.is_some() {
        setup::browsers(false)?;
    }
    if !up.fresh && !up.no_build {
        compile::build(profile)?;
    }
    let new = match (up.single, up.fresh) {
        (true, _) => ClusterSpec::new,
        (false, true) => ClusterSpec::fresh,
        (false, false) => ClusterSpec::pair,
    };
    let mut spec = new(up.name.name.clone(), compile::helper()?);
    spec.binaries = compile::binaries(profile)?;
    spec.software = up.ha;
    spec.medium = up.medium.as_deref().map(std::fs::canonicalize).transpose()?;
    spec.agents = up.agents.unwrap_or(spec.agents);
    (spec.users, spec.web, spec.progress) = (up.users, up.web, true);
    Cluster::up(&spec)?.keep();
    Ok(())
}

fn status(cluster: &Cluster, json: bool) -> Result<()> {
    let hosts = cluster.status();
    if json {
        println!("{}", serde_json::to_string_pretty(&hosts)?);
        return Ok(());
    }
    println!("{:<15} {:<20} {:>8}  DAEMONS", "HOST", "ADDRESS", "PID");
    let faults = cluster.faults();
    for HostStatus { host, addresses, pid, daemons, placed, .. } in hosts {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let pid = pid.map_or_else(|| "off".to_owned(), |pid| pid.to_string());
        let daemons: Vec<_> = daemons
            .iter()
            .map(|daemon| match (daemon.pid, daemon.uptime_s) {
                (Some(pid), Some(up)) => {
                    format!("{} {} {up:.0}s [{pid}]", daemon.name, daemon.state)
                }
                _ => format!("{} {}", daemon.name, daemon.state),
            })
            .collect();
        println!("{host:<15} {:<20} {pid:>8}  {}", addresses.join(" "), daemons.join(", "));
        if let Some(Placed { online, quorate, resources }) = placed {
            let quorum = if quorate { "quorate" } else { "no quorum" };
            let (online, resources) = (online.join(" "), resources.join(", "));
            println!("{:<15} Pacemaker: {resources}; online: {online}; {quorum}", "");
        }
    }
    for fault in faults {
        println!("in force: {fault}");
    }
    Ok(())
}
