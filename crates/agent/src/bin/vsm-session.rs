//! One desktop's process; started by `vsmagent`, not by hand.

use std::{ffi::OsString, process::ExitCode};

use vsm_agent::session;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((stage, [_])) if stage == session::launch::STAGE => session::launch::run(),
        Some((stage, rest)) if stage == session::cookie::STAGE => session::cookie::run(rest),
        Some((stage, rest)) if stage == session::cookie::END_STAGE => session::cookie::end(rest),
        Some((option, _)) if option == "--version" => {
            say(&format!("vsm-session {}", vsm_daemon::VERSION))
        }
        Some(_) => {
            say("vsm-session is started by vsmagent, one for each desktop, and not by hand.")
        }
        None => session::run(),
    }
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}
