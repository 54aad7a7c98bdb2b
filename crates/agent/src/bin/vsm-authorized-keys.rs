//! `vsm-authorized-keys`: tells sshd that a key which a broker has announced is good for one login. Run by sshd, as
//! AuthorizedKeysCommand, at each login with a key: it must neither hang nor fail where the agent does.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use vsm_agent::{
    args::KeysArguments,
    inside::{self, Failure},
    one_time::{self, Answer, Ask},
};

/// The program that is named cannot be run, as shells number it.
const CANNOT_RUN: u8 = 127;

fn main() -> ExitCode {
    inside::main("vsm-authorized-keys", run)
}

fn run(arguments: KeysArguments) -> Result<ExitCode, Failure> {
    let KeysArguments { user, kind, blob, next, login, run_dir } = arguments;
    let ask = Ask::Offered { user, kind: kind.clone(), blob: blob.clone() };
    // Without an answer the user logs in by other means.
    if let Ok(Answer::Good { right }) = one_time::ask(&run_dir, &ask) {
        let line = format!("restrict,command=\"{login} --one-time {right}\" {kind} {blob}\n");
        // sshd that does not read any more has made up its mind.
        let _ = io::stdout().lock().write_all(line.as_bytes());
    }
    let Some((program, arguments)) = next.split_first() else { return Ok(ExitCode::SUCCESS) };
    let error = Command::new(program).args(arguments).exec();
    Err((CANNOT_RUN, format!("{}: {error}", program.display())))
}
