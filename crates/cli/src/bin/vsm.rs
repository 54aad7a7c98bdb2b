//! The user's program.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use vsm_cli::{
    broker::{self, Route},
    connect::{self, ConnectArgs},
    exit::{self, Failure, SOFTWARE},
    forward::{self, ForwardArgs},
    output::Format,
    retry::RetryOptions,
    ssh::{Destination, SshOptions},
};

/// Your desktop on the site's session hosts: get it, leave it, come back to it.
///
/// Everything goes through ssh: what works with `ssh HOST` works here.
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Get your desktop: the one you have, or a new one
    #[command(
        after_help = "Examples:\n  vsm connect alice@desktops.example.org\n  vsm connect --screenshot now.png desktops\n  vncviewer \"$(vsm connect --no-viewer desktops)\""
    )]
    Connect(Box<ConnectArgs>),
    /// List your desktops
    List(ListArgs),
    /// Disconnect the viewer from your desktop, which lives on
    Disconnect(OneArgs),
    /// End your desktop and all that runs in it; what is not saved is lost
    End(OneArgs),
    #[command(hide = true)]
    Forward(Box<ForwardArgs>),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Broker
    #[arg(value_name = "[USER@]HOST")]
    to: Destination,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    ssh: SshOptions,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// Broker
    #[arg(value_name = "[USER@]HOST")]
    to: Destination,
    /// Which, where you have several
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    ssh: SshOptions,
}

fn main() -> ExitCode {
    exit::main("vsm", |arguments: Arguments| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        let done = runtime.block_on(run(arguments.command));
        // What waits for ssh or a viewer ends with the process.
        runtime.shutdown_background();
        done
    })
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Connect(arguments) => connect::run(*arguments).await,
        Command::List(ListArgs { to, output, ssh, retry }) => {
            broker::list(&Route { to, ssh, retry }, output).await
        }
        Command::Disconnect(OneArgs { to, session, ssh, retry }) => {
            broker::disconnect(&Route { to, ssh, retry }, session).await
        }
        Command::End(OneArgs { to, session, ssh, retry }) => {
            broker::end(&Route { to, ssh, retry }, session).await
        }
        Command::Forward(arguments) => forward::run(*arguments).await,
    }
}
