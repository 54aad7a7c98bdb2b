//! `vsm-disconnect`: leaves the desktop that it is run in; the desktop goes on.

use std::process::ExitCode;

use vsm_agent::{
    args::DisconnectArguments,
    control::{Event, Request},
    inside::{self, Failure, NO_SESSION},
};

fn main() -> ExitCode {
    inside::main("vsm-disconnect", run)
}

fn run(
    DisconnectArguments { shadowers, session }: DisconnectArguments,
) -> Result<ExitCode, Failure> {
    let id = inside::meant(session.id)?;
    let (request, nobody) = if shadowers {
        (Request::EndShadows, "nobody shadows this desktop")
    } else {
        (leave(), "nobody views this desktop")
    };
    match inside::ask(&session.run_dir, id, &request) {
        Ok(Event::Disconnected { was_connected: true }) => Ok(ExitCode::SUCCESS),
        Ok(_) => Err((NO_SESSION, nobody.to_owned())),
        Err(error) => Err((NO_SESSION, format!("session {id}: {error}"))),
    }
}

fn leave() -> Request {
    Request::Disconnect { reason: "you disconnected it from within".to_owned() }
}
