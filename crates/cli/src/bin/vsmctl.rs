//! The administrator's program.

use std::process::ExitCode;

use vsm_cli::{
    admin::{self, AdminOptions},
    args::vsmctl::{
        AgentCommand, Arguments, Command, ConfigCommand, LoadCommand, PkiCommand, RotateCommand,
        SessionCommand, WebCommand,
    },
    exit::{self, Failure, SOFTWARE},
    ha, pki,
};

fn main() -> ExitCode {
    // It may hold the key of an administrator's host, or of the authority.
    vsm_daemon::process::no_cores();
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
        Command::Session(SessionCommand::Log(arguments)) => {
            admin::session_log(&options, &arguments).await
        }
        Command::Session(SessionCommand::Terminate(arguments)) => {
            admin::session_terminate(&options, &arguments).await
        }
        Command::Notify(arguments) => admin::notify(&options, &arguments).await,
        Command::Events(arguments) => admin::events(&options, &arguments).await,
        Command::Reload => admin::reload(&options).await,
        Command::Config(ConfigCommand::Diff) => admin::config_diff(&options).await,
        Command::Config(ConfigCommand::Push(arguments)) => {
            admin::config_push(&options, &arguments).await
        }
        Command::Load(LoadCommand::List { sort }) => admin::load_list(&options, sort).await,
        Command::Load(LoadCommand::Show { name }) => admin::load_show(&options, &name).await,
        Command::Load(LoadCommand::Subclusters) => admin::load_subclusters(&options).await,
        Command::Agent(command) => agent(&options, command).await,
        Command::Web(WebCommand::List(arguments)) => admin::web_list(&options, &arguments).await,
        Command::Web(WebCommand::Revoke(arguments)) => {
            admin::web_revoke(&options, &arguments).await
        }
        Command::Explain { user } => admin::explain(&options, user).await,
        Command::Ha(command) => ha::run(&options, &command).await,
        Command::Status => admin::status(&options).await,
        Command::Pki(command) => pki(&options, command).await,
    }
}

async fn agent(options: &AdminOptions, command: AgentCommand) -> Result<(), Failure> {
    match command {
        AgentCommand::List { exit_code } => admin::agent_list(options, exit_code).await,
        AgentCommand::Enrol(arguments) => admin::agent_enrol(options, &arguments).await,
        AgentCommand::Show { name } => admin::agent_show(options, &name).await,
        AgentCommand::Drain(arguments) => admin::agent_drain(options, arguments).await,
        AgentCommand::Undrain { name } => admin::agent_undrain(options, &name).await,
        AgentCommand::Forget(arguments) => admin::agent_forget(options, &arguments).await,
        AgentCommand::Ssh(arguments) => admin::agent_ssh(options, &arguments).await,
        AgentCommand::Rsync(arguments) => admin::agent_rsync(options, &arguments).await,
    }
}

async fn pki(options: &AdminOptions, command: PkiCommand) -> Result<(), Failure> {
    match command {
        PkiCommand::Init(arguments) => pki::init(&arguments),
        PkiCommand::Issue(arguments) => pki::issue(&arguments),
        PkiCommand::Issuer(arguments) => pki::issuer(&arguments),
        PkiCommand::Rotate(RotateCommand::Begin(arguments)) => pki::begin(&arguments),
        PkiCommand::Rotate(RotateCommand::Status(arguments)) => {
            admin::rotate_status(options, &arguments).await
        }
        PkiCommand::Rotate(RotateCommand::Finish(arguments)) => {
            admin::rotate_finish(options, &arguments).await
        }
        PkiCommand::List => admin::pki_list(options).await,
        PkiCommand::Export(arguments) => admin::pki_export(options, &arguments).await,
        PkiCommand::Renew(arguments) => admin::pki_renew(options, &arguments).await,
        PkiCommand::Revoke(arguments) => admin::pki_revoke(options, &arguments).await,
    }
}
