//! The command lines of `vsmagent` and of the programs that are for use in a session.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser};
use vsm_core::SessionId;

/// The VSM agent: runs on each session host, starts desktops for the broker and looks after them.
///
/// Brokers control it by way of vsm-agent-net, which runs beside it. Stopping or restarting it leaves all desktops
/// running, and stops or restarts vsm-agent-net as well. SIGHUP has both reload the configuration; SIGTERM stops it
/// once the calls in progress are done.
#[derive(Debug, Parser)]
#[command(name = "vsmagent", version = vsm_daemon::VERSION)]
pub struct Arguments {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Check the configuration and this host's certificate and exit: with 0 if they are good, 78 if not
    #[arg(long)]
    pub check: bool,
}

/// What of the VSM agent speaks with brokers: over mutual TLS on /vsmagent/listen_port.
///
/// Runs beside vsmagent, which is root and does what brokers ask for; this is a user of its own with none of root's
/// powers. It is started, stopped and reloaded with vsmagent. Started by root, it becomes that user by itself.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-agent-net",
    version = vsm_daemon::VERSION,
    after_help = "Exit codes: 0 stopped, 1 cannot run, 64 bad usage, 75 there is no vsmagent to ask, 78 bad configuration"
)]
pub struct NetArguments {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
    /// Check that its user can read the configuration and the certificates and exit: with 0 if so, 78 if not. vsmagent
    /// --check includes this
    #[arg(long)]
    pub check: bool,
}

const PARAM_EXAMPLES: &str = "\
Examples:
  vsm-session-param /client/name
  vsm-session-param -a /client
  eval \"$(vsm-session-param -e LANGUAGE=/client/language)\"

Parameters: /session/id, user, agent, display, start_command, profile, created; /client/name, language, address, \
hardware_address, screen; and /client/params/KEY for each parameter given with `vsm connect --param KEY=VALUE`. \
Values under /client are what the client says about itself; nobody has verified them.

Exit codes: 0 done; 1 no such parameter or folder; 64 bad usage; 66 no such session, or not yours.";

/// Prints what is known about this desktop and the client that last requested it; for programs in the desktop.
#[derive(Debug, Parser)]
#[command(name = "vsm-session-param", version = vsm_daemon::VERSION, after_help = PARAM_EXAMPLES)]
pub struct ParamArguments {
    /// List the parameters and folders in FOLDER
    #[arg(short, long, value_name = "FOLDER", conflicts_with_all = ["eval", "paths"])]
    pub all_entries: Option<String>,
    /// Print a value as a shell assignment to VAR; may be repeated
    #[arg(short, long, value_name = "VAR=PATH", conflicts_with = "paths")]
    pub eval: Vec<String>,
    /// Which session.
    #[command(flatten)]
    pub session: InsideOptions,
    /// Parameters to print, one line each
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
}

/// Which session a program in it means.
#[derive(Debug, Args)]
pub struct InsideOptions {
    /// Session to use, instead of the one that this is run in; outside of a session, your newest one on this host
    #[arg(long = "session", value_name = "ID", env = "VSM_SESSION_ID", hide_env_values = true)]
    pub id: Option<SessionId>,
    /// The agent's run directory
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/vsm",
        env = "VSM_RUN_DIR",
        hide_env_values = true
    )]
    pub run_dir: PathBuf,
}

/// Disconnect the viewer from the desktop that this is run in; the desktop keeps running.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-disconnect",
    version = vsm_daemon::VERSION,
    after_help = "Exit codes: 0 done; 64 bad usage; 66 nobody views it, or no such session of yours."
)]
pub struct DisconnectArguments {
    /// Disconnect those who shadow the desktop, instead of your own viewer
    #[arg(long)]
    pub shadowers: bool,
    /// Which session.
    #[command(flatten)]
    pub session: InsideOptions,
}

/// Extend the time limit of the desktop that this is run in.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-extend",
    version = vsm_daemon::VERSION,
    after_help = "A desktop shows how much time is left before it is ended or its viewer is disconnected.\n\nExit codes: 0 done; 1 there is no limit to extend, or no further extension is allowed; 64 bad usage; 66 no such session of yours."
)]
pub struct ExtendArguments {
    /// Which session.
    #[command(flatten)]
    pub session: InsideOptions,
}

/// Run a command as if it had been started in a desktop: with its display, X authority and other variables.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-env",
    version = vsm_daemon::VERSION,
    after_help = "Example, from an ssh login on the session host:\n  vsm-env xterm\n\nExit codes: the command's; 64 bad usage; 66 no such session of yours; 127 the command cannot be run."
)]
pub struct EnvArguments {
    /// Which session.
    #[command(flatten)]
    pub session: InsideOptions,
    /// Set DISPLAY and XAUTHORITY only
    #[arg(short, long)]
    pub display_only: bool,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// Run a command, and end it when the X server ends.
#[derive(Debug, Parser)]
#[command(
    name = "vsm-while-x11",
    version = vsm_daemon::VERSION,
    after_help = "Exit codes: the command's, or 128 and the signal that ended it; 64 bad usage; 66 no such display; 127 the command cannot be run."
)]
pub struct WhileArguments {
    /// Display on this host
    #[arg(long, value_name = "DISPLAY", env = "DISPLAY")]
    pub display: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
