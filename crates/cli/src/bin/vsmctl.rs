//! The administrator's program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vsm_cli::{
    admin::{self, AdminOptions, Selector, TerminateArgs},
    exit::{self, Failure, SOFTWARE},
    ha::{self, HaCommand},
    pki::{self, InitArgs, IssueArgs},
};

/// Sees and changes what the broker on this host does.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 nothing done, 64 bad usage, 66 nothing matches, 69 the broker or an agent does not answer, 70 an error in the broker, 73 cannot write a file, 75 it took too long, 77 not allowed, 78 bad configuration"
)]
struct Arguments {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sessions of all users
    #[command(subcommand)]
    Session(SessionCommand),
    /// How busy the agents are
    #[command(subcommand)]
    Load(LoadCommand),
    /// The agents and whether they can be reached
    #[command(subcommand)]
    Agent(AgentCommand),
    /// What this broker is: its role, epoch and table
    Status,
    /// The pair: both nodes, their votes, taking over
    #[command(subcommand)]
    Ha(HaCommand),
    /// Certificates of the cluster
    #[command(subcommand)]
    Pki(PkiCommand),
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// List sessions, oldest first
    List(Selector),
    /// Show one session
    Show {
        /// Session id
        id: String,
    },
    /// End sessions and all that runs in them; what is not saved is lost
    Terminate(TerminateArgs),
}

#[derive(Debug, Subcommand)]
enum LoadCommand {
    /// List all agents with their load
    List,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// List all agents
    List,
}

#[derive(Debug, Subcommand)]
enum PkiCommand {
    /// Make the cluster's certificate authority
    Init(InitArgs),
    /// Issue a certificate to a host
    Issue(IssueArgs),
}

fn main() -> ExitCode {
    exit::main("vsmctl", |arguments: Arguments| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| Failure::new(SOFTWARE, error.to_string()))?.block_on(run(arguments))
    })
}

async fn run(Arguments { options, command }: Arguments) -> Result<(), Failure> {
    match command {
        Command::Session(SessionCommand::List(selector)) => {
            admin::session_list(&options, &selector).await
        }
        Command::Session(SessionCommand::Show { id }) => admin::session_show(&options, id).await,
        Command::Session(SessionCommand::Terminate(arguments)) => {
            admin::session_terminate(&options, &arguments).await
        }
        Command::Load(LoadCommand::List) => admin::load_list(&options).await,
        Command::Agent(AgentCommand::List) => admin::agent_list(&options).await,
        Command::Ha(command) => ha::run(&options, &command).await,
        Command::Status => admin::status(&options).await,
        Command::Pki(PkiCommand::Init(arguments)) => pki::init(&arguments),
        Command::Pki(PkiCommand::Issue(arguments)) => pki::issue(&arguments),
    }
}
