//! `vsm-env`: runs a command as if it had been started in a desktop, such as one from an ssh login on its host.

use std::{
    io::Write as _,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use clap::Parser;
use vsm_agent::{
    args::EnvArguments,
    control::{Event, Request},
    inside,
};

fn main() -> ExitCode {
    let arguments = match EnvArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where standard output is gone there is nobody to tell.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let Some(id) = arguments.session.id.or_else(inside::newest) else {
        return fail(66, "you have no desktop on this host");
    };
    let variables = match inside::ask(&arguments.session.run_dir, id, &Request::Environment) {
        Ok(Event::Environment { variables }) => variables,
        Ok(_) => return fail(66, &format!("session {id} is ending")),
        Err(error) => return fail(66, &format!("session {id}: {error}")),
    };
    let wanted = |name: &str| !arguments.display_only || matches!(name, "DISPLAY" | "XAUTHORITY");
    let variables = variables.into_iter().filter(|(name, _)| wanted(name));
    let Some((program, words)) = arguments.command.split_first() else {
        return fail(64, "name a command");
    };
    let error = Command::new(program).args(words).envs(variables).exec();
    fail(127, &format!("{}: {error}", program.display()))
}

fn fail(code: u8, why: &str) -> ExitCode {
    // Where standard error is gone too, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "vsm-env: {why}");
    ExitCode::from(code)
}
