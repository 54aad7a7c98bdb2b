//! `vsm-authorized-keys`: tells sshd that a key which was announced is good for one login, or that it is a web key. Run
//! by sshd, as AuthorizedKeysCommand, at each login with a key: it must neither hang nor fail where agent or broker do.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use vsm_cli::{
    args::vsm_authorized_keys::Arguments,
    exit::{self, Failure},
};
use vsm_daemon::one_time::{AGENT_SOCKET, Answer, Ask, BROKER_SOCKET, ask, authorized_line};

/// The program that is named cannot be run, as shells number it.
const CANNOT_RUN: u8 = 127;

fn main() -> ExitCode {
    exit::main("vsm-authorized-keys", run)
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { user, kind, blob, next, login, run_dir } = arguments;
    let offered = Ask::Offered { user, kind: kind.clone(), blob: blob.clone() };
    // A host may be both. Without an answer the user logs in by other means.
    for socket in [AGENT_SOCKET, BROKER_SOCKET] {
        let answer = ask(&run_dir.join(socket), &offered).ok();
        if let Some(grant) = answer.as_ref().and_then(Answer::grant) {
            let line = authorized_line(&login, grant, &kind, &blob);
            // sshd that does not read any more has made up its mind.
            let _ = io::stdout().lock().write_all(line.as_bytes());
        }
    }
    let Some((program, arguments)) = next.split_first() else { return Ok(()) };
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::new(CANNOT_RUN, format!("{}: {error}", program.display())))
}
