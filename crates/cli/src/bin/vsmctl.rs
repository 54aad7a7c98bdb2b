//! The administrator's program.

use std::process::ExitCode;

use vsm_cli::{
    admin,
    args::vsmctl::{
        AgentCommand, Arguments, Command, ConfigCommand, LoadCommand, PkiCommand, SessionCommand,
    },
    exit::{self, Failure, SOFTWARE},
    ha, pki,
};

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
        Command::Session(SessionCommand::Watch { selector, retry }) => {
            admin::session_watch(&options, &selector, &retry).await
        }
        Command::Session(SessionCommand::Terminate(arguments)) => {
            admin::session_terminate(&options, &arguments).await
        }
        Command::Load(LoadCommand::List) => admin::load_list(&options).await,
        Command::Agent(AgentCommand::List) => admin::agent_list(&options).await,
        Command::Notify(arguments) => admin::notify(&options, &arguments).await,
        Command::Events(arguments) => admin::events(&options, &arguments).await,
        Command::Reload => admin::reload(&options).await,
        Command::Config(ConfigCommand::Diff) => admin::config_diff(&options).await,
        Command::Config(ConfigCommand::Push(arguments)) => {
            admin::config_push(&options, &arguments).await
        }
        Command::Ha(command) => ha::run(&options, &command).await,
        Command::Status => admin::status(&options).await,
        Command::Pki(PkiCommand::Init(arguments)) => pki::init(&arguments),
        Command::Pki(PkiCommand::Issue(arguments)) => pki::issue(&arguments),
    }
}
