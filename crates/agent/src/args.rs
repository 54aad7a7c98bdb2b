//! The command line of `vsmagent`.

use std::path::PathBuf;

use clap::Parser;

/// The VSM agent: runs on each session host, starts desktops for the broker and keeps them.
///
/// It is told what to do by brokers, over mutual TLS on /vsmagent/listen_port. Stopping or restarting it leaves all
/// desktops running. SIGHUP reads the configuration again; SIGTERM ends it once calls under way are done.
#[derive(Debug, Parser)]
#[command(name = "vsmagent", version = vsm_daemon::VERSION)]
pub struct Arguments {
    /// Folder of the configuration files.
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Check the configuration and exit: 0 if it is good, 78 if not.
    #[arg(long)]
    pub check: bool,
}
