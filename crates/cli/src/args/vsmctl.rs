//! The command line of `vsmctl`.

use clap::{Parser, Subcommand};
use vsm_daemon::VERSION;

use crate::{
    admin::{
        AdminOptions, DrainArgs, EnrolArgs, EventsArgs, ExportArgs, ForgetArgs, LogArgs,
        NotifyArgs, PushArgs, RenewArgs, RevokeArgs, RotateFinishArgs, RotateStatusArgs, RsyncArgs,
        Selector, Sort, SshArgs, TerminateArgs, WebListArgs, WebRevokeArgs,
    },
    ha::HaCommand,
    pki::{BeginArgs, InitArgs, IssueArgs, IssuerArgs},
    retry::RetryOptions,
};

/// Monitors and controls the broker on this host.
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
    /// List, watch and end the sessions of all users
    #[command(subcommand)]
    Session(SessionCommand),
    /// Show how busy the agents are
    #[command(subcommand)]
    Load(LoadCommand),
    /// List, drain and manage the agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// List the browsers that users are logged in with, and log them out
    #[command(subcommand)]
    Web(WebCommand),
    /// Show a message on desktops
    Notify(NotifyArgs),
    /// Show who did what when: the last events, or new ones as they happen
    Events(EventsArgs),
    /// Reload the configuration of this node, as a whole or not at all
    Reload,
    /// Compare the configuration of both nodes of a pair, or copy it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Explain which agent a user would get, rule by rule; changes nothing
    Explain {
        /// Login name
        user: String,
    },
    /// Show this broker's role, epoch and table
    Status,
    /// Show and control the pair: both nodes, their votes, take-overs
    #[command(subcommand)]
    Ha(HaCommand),
    /// Create the certificates of the cluster, list, renew and revoke them
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
    /// Print the end of a session's log, also after the session has ended
    Log(LogArgs),
    /// End sessions and everything that runs in them; unsaved work is lost
    Terminate(TerminateArgs),
}

/// `vsmctl config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show where this node and the other one differ; exits with 1 if they do
    Diff,
    /// Copy this node's configuration to the other one, after showing what would change
    Push(PushArgs),
}

/// `vsmctl load`.
#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// List all agents with their load, and how many more users fit
    List {
        /// Column to sort by
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
    /// List all agents, and below them what needs to be done
    List {
        /// Exit with 1 if something needs to be done
        #[arg(long)]
        exit_code: bool,
    },
    /// Show one agent
    Show {
        /// Agent
        name: String,
    },
    /// Let a host have its first certificate: prints the command to run there
    Enrol(EnrolArgs),
    /// Place no new sessions on an agent; its running sessions go on and can be reconnected
    Drain(DrainArgs),
    /// Place new sessions on an agent again
    Undrain {
        /// Agent
        name: String,
    },
    /// Forget everything about an agent that is gone; if it returns, its sessions are adopted again
    Forget(ForgetArgs),
    /// Run a command on agents by ssh; each line of output begins with the agent's name
    Ssh(SshArgs),
    /// Copy files to or from agents by rsync
    Rsync(RsyncArgs),
}

/// `vsmctl web`.
#[derive(Debug, Subcommand)]
pub enum WebCommand {
    /// List the browsers that users are logged in with
    List(WebListArgs),
    /// Log a browser out, or all of a user; desktops go on
    Revoke(WebRevokeArgs),
}

/// `vsmctl pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Create the cluster's certificate authority
    Init(InitArgs),
    /// Issue a certificate to a host
    Issue(IssueArgs),
    /// Make an issuer for a broker, with which that signs certificates for agents
    Issuer(IssuerArgs),
    /// Replace the authority by a new one without a break: begin, status, finish
    #[command(subcommand)]
    Rotate(RotateCommand),
    /// List the identities of hosts: invited, valid until when, revoked
    List,
    /// Print the certificates of the cluster's authorities, by which others trust its hosts; nothing of it is secret
    Export(ExportArgs),
    /// Have agents renew their certificates now; exits with 1 if one did not
    Renew(RenewArgs),
    /// Have the certificates of a host count no more, from now on
    Revoke(RevokeArgs),
}

/// `vsmctl pki rotate`, on the authority's host.
#[derive(Debug, Subcommand)]
pub enum RotateCommand {
    /// Make a new authority, for which the old one vouches; issue and issuer sign with it from then on
    Begin(BeginArgs),
    /// Show which hosts know the new authority and have certificates of it
    Status(RotateStatusArgs),
    /// Move the old authority aside; refused while a host is not there yet
    Finish(RotateFinishArgs),
}
