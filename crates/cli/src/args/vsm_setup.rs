//! The command line of `vsm-setup`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vsm_daemon::VERSION;

const AFTER: &str = "\
Each answer is a line of the form `question = answer`; # begins a comment:
  role = agent                              server, agent or both
  public_name = agent1.example.org          the name under which users reach this host
  master = tlha                             agents: the broker's name; with a pair, that of the resource address
  brokers = tlha-primary tlha-secondary     the broker, or both of a pair
  agents = agent1 agent2                    servers: the session hosts; empty keeps what is configured
  firewall = show                           leave, show the rules, or open the port here and now

Exit codes: 0 done; 64 bad usage or a bad answer; 66 the answers cannot be read; 69 something is missing or taken; \
73 cannot write; 77 not root; 78 bad configuration. Unless it is 0, nothing was changed.";

/// Sets up this host as a broker or a session host: asks a few questions, or reads a file of answers.
///
/// It first checks what the host needs, then sets up everything or nothing. Running it again is safe: with the same
/// answers it changes nothing.
#[derive(Debug, Parser)]
#[command(name = "vsm-setup", version = VERSION, after_help = AFTER, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Take the answers from FILE and ask nothing
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
    /// Write the answers to FILE, for use on the next host
    #[arg(long, value_name = "FILE")]
    pub write_answers: Option<PathBuf>,
    /// Show what would be done and what prevents it, but change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Something else than setting the host up
    #[command(subcommand)]
    pub command: Option<SetupCommand>,
}

/// What else `vsm-setup` does.
#[derive(Debug, Subcommand)]
pub enum SetupCommand {
    /// Get this host's first certificate from a broker, as vsmctl agent enrol says; reads the token from standard input
    Enrol(EnrolArgs),
}

/// What a host needs for its first certificate; the token is read from standard input.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// Name of this host as an agent
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// Broker; of a pair, the name of the resource address
    #[arg(long, value_name = "HOST")]
    pub broker: String,
    /// Port of the broker
    #[arg(long, default_value_t = 9000)]
    pub port: u16,
    /// SHA-256 of the public key of the cluster's authority: nobody else is trusted
    #[arg(long, value_name = "HASH")]
    pub authority: String,
    /// Take a certificate for another name than this host has
    #[arg(long)]
    pub other_name: bool,
    /// Replace the certificate that this host has
    #[arg(long)]
    pub replace: bool,
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
}
