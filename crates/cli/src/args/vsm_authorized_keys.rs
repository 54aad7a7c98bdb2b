//! The command line of `vsm-authorized-keys`.

use std::{ffi::OsString, path::PathBuf};

use clap::Parser;

/// Tell sshd whether a key is a one-time key from the broker, or of a login by browser; for AuthorizedKeysCommand.
///
/// Prints one line for sshd, or nothing. If the site has its own command for this, give it after the key: it is run
/// next, in place of this program.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-authorized-keys",
    version = vsm_daemon::VERSION,
    after_help = "In sshd_config:\n  AuthorizedKeysCommand /usr/bin/vsm-authorized-keys %u %t %k\n  AuthorizedKeysCommandUser vsm-keys\n\nWith the site's own command:\n  AuthorizedKeysCommand /usr/bin/vsm-authorized-keys %u %t %k /usr/bin/sss_ssh_authorizedkeys %u\n\nExit codes: 0 done, even if the agent is not running; those of COMMAND; 64 bad usage; 127 COMMAND cannot be run."
)]
pub struct Arguments {
    /// Who logs in (%u)
    pub user: String,
    /// Kind of the key (%t)
    pub kind: String,
    /// The key in base64 (%k)
    pub blob: String,
    /// Program to run next, and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub next: Vec<OsString>,
    /// Program that sshd runs for the user
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/vsm-login")]
    pub login: String,
    /// Directory of the sockets of agent and broker
    #[arg(long, value_name = "DIR", default_value = "/run/vsm")]
    pub run_dir: PathBuf,
}
