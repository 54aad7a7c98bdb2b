//! `vsm-extend`: puts off what a limit of the administrator's would do to the desktop that it is run in.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use vsm_agent::{
    args::ExtendArguments,
    control::{Event, Request},
    inside::{self, Failure, NO_SESSION},
};
use vsm_core::{Limit, Words};

/// It may not be put off, or there is nothing to put off.
const NOT_EXTENDED: u8 = 1;

fn main() -> ExitCode {
    inside::main("vsm-extend", run)
}

fn run(ExtendArguments { session }: ExtendArguments) -> Result<ExitCode, Failure> {
    let id = inside::meant(session.id)?;
    match inside::ask(&session.run_dir, id, &Request::Extend) {
        Ok(Event::Extended { limit, left_ms, more }) => {
            let ends = Limit::of_key(&limit).is_none_or(Limit::ends);
            let what = if ends { "until this desktop ends" } else { "until you are disconnected" };
            let more = match more {
                0 => "It cannot be extended again.".to_owned(),
                more => format!("It can be extended {more} more time(s)."),
            };
            // Where standard output is gone nobody reads it.
            let _ = writeln!(io::stdout(), "There are {} now {what}. {more}", Words(left_ms));
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Err((NO_SESSION, format!("session {id} is ending"))),
        // What the session itself says.
        Err(error) if error.kind() == io::ErrorKind::Other => {
            Err((NOT_EXTENDED, error.to_string()))
        }
        Err(error) => Err((NO_SESSION, format!("session {id}: {error}"))),
    }
}
