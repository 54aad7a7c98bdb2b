//! The command line of `vsm-config`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use vsm_daemon::VERSION;

const EXAMPLES: &str = "\
Examples:
  vsm-config /vsmagent/master_hostname             print a value
  vsm-config /vsmagent/master_hostname=tlha        set one; of several, all or none are set
  vsm-config '/vsmserver/HA/nodes=tlha-primary tlha-secondary'
  vsm-config -a /vsmserver                         list a folder; -Ra / lists everything
  eval \"$(vsm-config -x -e PORT=/vsm/vsm_server_port)\"
  vsm-config doc /vsmserver/HA                     what the parameters mean
  vsm-config check                                 check the whole configuration

A list is printed as words separated by blanks; a word that contains blanks is printed in quotes, and may \
be given so. Comments and the order of keys in the files are kept; a new key goes to the file named after its \
top folder. To apply changes, run `systemctl reload`, or `systemctl restart` where `doc` says so.

Exit codes: 0 done; 1 no such parameter; 2 bad value or usage; 3 cannot write. Unless it is 0, nothing was changed.";

/// Read and change the configuration of VSM.
#[derive(Debug, Parser)]
#[command(name = "vsm-config", version = VERSION, after_help = EXAMPLES)]
pub struct Arguments {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d", global = true)]
    pub config: PathBuf,

    /// List the parameters and folders in FOLDER
    #[arg(short, long, value_name = "FOLDER", conflicts_with_all = ["eval", "eval_all", "import", "purge", "parameters"])]
    pub all_entries: Option<String>,

    /// With -a: list everything below the folder, with full paths
    #[arg(short = 'R', long, requires = "all_entries")]
    pub recursive: bool,

    /// Print a value as a shell assignment to VAR
    #[arg(short, long, value_name = "VAR=/path", conflicts_with_all = ["import", "purge", "parameters"])]
    pub eval: Vec<String>,

    /// Print every parameter in FOLDER as a shell assignment to its own name
    #[arg(short = 'E', long, value_name = "FOLDER", conflicts_with_all = ["import", "purge", "parameters"])]
    pub eval_all: Vec<String>,

    /// With -e or -E: export the variables too
    #[arg(short = 'x', long)]
    pub export: bool,

    /// Import the parameters of a ThinLinc .hconf tree and report what became of each
    #[arg(short, long, value_name = "FILE.hconf", conflicts_with_all = ["purge", "parameters"])]
    pub import: Option<PathBuf>,

    /// Remove from FILE the parameters that other files also set
    #[arg(short, long, value_name = "FILE", conflicts_with = "parameters")]
    pub purge: Option<PathBuf>,

    /// Parameters to print or set
    #[arg(value_name = "/path[=value]")]
    pub parameters: Vec<String>,

    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of printing and setting parameters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the whole configuration and print what deserves attention
    Check,
    /// Explain parameters: meaning, type, range, default, when a change takes effect
    Doc {
        /// Parameters or folders
        #[arg(value_name = "/path", required = true)]
        paths: Vec<String>,
    },
}
