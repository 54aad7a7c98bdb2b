//! The command line of `vsmserver`.

use std::path::PathBuf;

use clap::Parser;

/// Session broker for Linux remote desktops: gives each user their desktop on the best session host.
///
/// Reads its configuration from YAML files (see vsm-config), serves users on a unix socket behind sshd and talks to
/// agents over mutual TLS. SIGHUP reloads, SIGTERM drains and stops.
#[derive(Debug, Parser)]
#[command(
    name = "vsmserver",
    version = vsm_daemon::VERSION,
    after_help = "Exit codes: 0 stopped, 1 cannot run, 64 bad usage, 75 another vsmserver runs here, 78 bad configuration"
)]
pub struct Arguments {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Check the configuration and exit
    #[arg(long)]
    pub check: bool,
    /// Make this node of a former pair a single broker that keeps its table, and exit; the other node must never serve
    /// with its copy of the table again
    #[arg(long, conflicts_with = "check")]
    pub leave_pair: bool,
}
