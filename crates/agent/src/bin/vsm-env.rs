//! `vsm-env`: runs a command as if it had been started in a desktop, such as one from an ssh login on its host.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use vsm_agent::{
    args::EnvArguments,
    control::{Event, Request},
    inside::{self, Failure, NO_SESSION, USAGE},
};

/// As a shell says that a command cannot be run.
const NO_COMMAND: u8 = 127;

fn main() -> ExitCode {
    inside::main("vsm-env", run)
}

fn run(EnvArguments { session, display_only, command }: EnvArguments) -> Result<ExitCode, Failure> {
    let id = inside::meant(session.id)?;
    let variables = match inside::ask(&session.run_dir, id, &Request::Environment) {
        Ok(Event::Environment { variables }) => variables,
        Ok(_) => return Err((NO_SESSION, format!("session {id} is ending"))),
        Err(error) => return Err((NO_SESSION, format!("session {id}: {error}"))),
    };
    let wanted = |name: &str| !display_only || matches!(name, "DISPLAY" | "XAUTHORITY");
    let variables = variables.into_iter().filter(|(name, _)| wanted(name));
    let Some((program, words)) = command.split_first() else {
        return Err((USAGE, "name a command".to_owned()));
    };
    let error = Command::new(program).args(words).envs(variables).exec();
    Err((NO_COMMAND, format!("{}: {error}", program.display())))
}
