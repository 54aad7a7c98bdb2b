//! The command lines of `vsmagent` and of `vsm-session-param`.

use std::path::PathBuf;

use clap::Parser;
use vsm_core::SessionId;

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

const PARAM_EXAMPLES: &str = "\
Examples:
  vsm-session-param /client/name
  vsm-session-param -a /client
  eval \"$(vsm-session-param -e LANGUAGE=/client/language)\"

Parameters: /session/id, user, agent, display, start_command, created; /client/name, language, address, \
hardware_address, screen; and /client/params/KEY for each that was given with `vsm connect --param KEY=VALUE`. \
What is under /client is what the client said of itself, and is not proven.

Exit codes: 0 done; 1 no such parameter or folder; 64 bad usage; 66 no such session, or not yours.";

/// What is known of this desktop and of the client that asked for it last; for programs in it.
#[derive(Debug, Parser)]
#[command(name = "vsm-session-param", version = vsm_daemon::VERSION, after_help = PARAM_EXAMPLES)]
pub struct ParamArguments {
    /// List the parameters and folders in FOLDER
    #[arg(short, long, value_name = "FOLDER", conflicts_with_all = ["eval", "paths"])]
    pub all_entries: Option<String>,
    /// Print a value as a shell assignment to VAR; may be repeated
    #[arg(short, long, value_name = "VAR=PATH", conflicts_with = "paths")]
    pub eval: Vec<String>,
    /// Of this session, instead of the one that it is run in
    #[arg(long, value_name = "ID", env = "VSM_SESSION_ID", hide_env_values = true)]
    pub session: Option<SessionId>,
    /// The agent's run directory
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/vsm",
        env = "VSM_RUN_DIR",
        hide_env_values = true
    )]
    pub run_dir: PathBuf,
    /// Parameters to print, one line each
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
}
