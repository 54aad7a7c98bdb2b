//! The command line of `vsm-root`.

use std::path::PathBuf;

use clap::Parser;

/// What the broker needs root for: runs hooks and the mail program, and takes parameters from the other node, for
/// vsmserver alone.
///
/// Runs beside vsmserver, which has none of root's powers. Which programs these are it reads itself in the
/// configuration.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-root",
    version = vsm_daemon::VERSION,
    after_help = "Exit codes: 0 stopped, 1 cannot run, 64 bad usage, 75 another vsm-root runs here, 78 bad configuration"
)]
pub struct Arguments {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Give the user vsmserver what the broker needs as its own (table, sockets' folder, the right to read its keys),
    /// and exit
    #[arg(long)]
    pub prepare: bool,
}
