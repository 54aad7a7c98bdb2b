//! `vsm-disconnect`: leaves the desktop that it is run in; the desktop goes on.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use vsm_agent::{
    args::DisconnectArguments,
    control::{Event, Request},
    inside,
};

fn main() -> ExitCode {
    let arguments = match DisconnectArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where standard output is gone there is nobody to tell.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let Some(id) = arguments.session.id.or_else(inside::newest) else {
        return fail("you have no desktop on this host");
    };
    let request = Request::Disconnect { reason: "you disconnected it from within".to_owned() };
    match inside::ask(&arguments.session.run_dir, id, &request) {
        Ok(Event::Disconnected { was_connected: true }) => ExitCode::SUCCESS,
        Ok(_) => fail("nobody views this desktop"),
        Err(error) => fail(&format!("session {id}: {error}")),
    }
}

fn fail(why: &str) -> ExitCode {
    // Where standard error is gone too, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "vsm-disconnect: {why}");
    ExitCode::from(66)
}
