//! The user's program.

use std::process::ExitCode;

use vsm_cli::{
    args::vsm::{Arguments, Command, ListArgs, OneArgs},
    broker::Route,
    connect, desktops, door,
    exit::{self, Failure, SOFTWARE},
    forward, life, shadow, web,
};

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
        Command::List(ListArgs { to, ended, output, ssh, retry }) => {
            desktops::list(&Route { to, ssh, retry }, ended, output).await
        }
        Command::Disconnect(OneArgs { to, session, ssh, retry }) => {
            desktops::disconnect(&Route { to, ssh, retry }, session).await
        }
        Command::Extend(OneArgs { to, session, ssh, retry }) => {
            life::extend(&Route { to, ssh, retry }, session).await
        }
        Command::End(OneArgs { to, session, ssh, retry }) => {
            desktops::end(&Route { to, ssh, retry }, session).await
        }
        Command::Abandon(OneArgs { to, session, ssh, retry }) => {
            desktops::abandon(&Route { to, ssh, retry }, session).await
        }
        Command::Shadow(arguments) => shadow::run(*arguments).await,
        Command::Web(command) => web::run(command).await,
        Command::Forward(arguments) => forward::run(*arguments).await,
        Command::Relay(arguments) => door::relay(*arguments).await,
    }
}
