//! The command line of `vsm-web`.

use std::path::PathBuf;

use clap::Parser;

/// Desktops in a browser: serves HTTPS, and reaches the broker by ssh as each user.
///
/// Runs on the brokers, or on gateway hosts of its own, as a user without rights. SIGHUP has it read its configuration
/// and certificate again; SIGTERM stops it, and browsers come back by themselves to whoever serves then.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-web",
    version = vsm_daemon::VERSION,
    after_help = "Exit codes: 0 stopped, 1 cannot run, 64 bad usage, 78 bad configuration"
)]
pub struct Arguments {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Directory of the viewer that browsers load: noVNC, as it was published
    #[arg(long, value_name = "DIR", default_value = "/usr/share/vsm-web")]
    pub assets: PathBuf,
    /// Check the configuration and the certificate and exit: with 0 if they are good, 78 if not
    #[arg(long)]
    pub check: bool,
}
