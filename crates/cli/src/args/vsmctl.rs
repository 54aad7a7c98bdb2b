//! The command line of `vsmctl`.

use clap::{Parser, Subcommand};
use vsm_daemon::VERSION;

use crate::{
    admin::{
        AdminOptions, DrainArgs, EventsArgs, ForgetArgs, LogArgs, NotifyArgs, PushArgs, RsyncArgs,
        Selector, Sort, SshArgs, TerminateArgs,
    },
    ha::HaCommand,
    pki::{InitArgs, IssueArgs},
    retry::RetryOptions,
};

/// Sees and changes what the broker on this host does.
#[derive(Debug, Parser)]
#[command(
    name = "vsmctl",
    version = VERSION,
    after_help = "Exit codes: 0 done, 1 nothing done, 64 bad usage, 66 nothing matches, 69 the broker or an agent does not answer, 70 an error in the broker, 73 cannot write a file, 75 it took too long, 77 not allowed, 78 bad configuration"
)]
pub struct Arguments {
    /// For all commands.
    #[command(flatten)]
    pub options: AdminOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sessions of all users
    #[command(subcommand)]
    Session(SessionCommand),
    /// How busy the agents are
    #[command(subcommand)]
    Load(LoadCommand),
    /// The agents and whether they can be reached
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Show a text on desktops
    Notify(NotifyArgs),
    /// Who did what when: the last events, or all as they happen
    Events(EventsArgs),
    /// Take the configuration of this node anew, whole or not at all
    Reload,
    /// The configuration of both nodes of a pair
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Why a user would get which agent, rule by rule; nothing is done
    Explain {
        /// Login name
        user: String,
    },
    /// What this broker is: its role, epoch and table
    Status,
    /// The pair: both nodes, their votes, taking over
    #[command(subcommand)]
    Ha(HaCommand),
    /// Certificates of the cluster
    #[command(subcommand)]
    Pki(PkiCommand),
}

/// `vsmctl session`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List sessions, oldest first
    List(Selector),
    /// Show one session
    Show {
        /// Session id, or the last 6 or more digits of it
        id: String,
    },
    /// Watch the list as it changes, until interrupted
    Watch {
        /// Which sessions.
        #[command(flatten)]
        selector: Selector,
        /// How long to try again.
        #[command(flatten)]
        retry: RetryOptions,
    },
    /// Print the end of a session's log, also of one that is over
    Log(LogArgs),
    /// End sessions and all that runs in them; what is not saved is lost
    Terminate(TerminateArgs),
}

/// `vsmctl config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show where this node and the other one differ; exit code 1 if they do
    Diff,
    /// Give the other node the configuration of this one, after showing what would change
    Push(PushArgs),
}

/// `vsmctl load`.
#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// List all agents with their load, and how many more users fit
    List {
        /// By which column
        #[arg(long, value_enum, value_name = "COLUMN", default_value_t)]
        sort: Sort,
    },
    /// Show the load of one agent
    Show {
        /// Agent
        name: String,
    },
    /// List the subclusters, and how many more users fit into each
    Subclusters,
}

/// `vsmctl agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List all agents, and below what is to do
    List {
        /// End with 1 if something is to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Show one agent
    Show {
        /// Agent
        name: String,
    },
    /// Have an agent take no new sessions; what runs there goes on and can be come back to
    Drain(DrainArgs),
    /// Have it take new sessions again
    Undrain {
        /// Agent
        name: String,
    },
    /// Drop all that is known of an agent that is gone; should it return, its sessions are taken in again
    Forget(ForgetArgs),
    /// Run a command on agents by ssh, each line of output with the agent's name before it
    Ssh(SshArgs),
    /// Copy files to or from agents by rsync
    Rsync(RsyncArgs),
}

/// `vsmctl pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make the cluster's certificate authority
    Init(InitArgs),
    /// Issue a certificate to a host
    Issue(IssueArgs),
}
