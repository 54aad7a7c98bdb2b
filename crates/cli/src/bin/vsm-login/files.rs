//! The files of a session's owner, as SFTP: OpenSSH's own server for them runs here as that user. The session says in
//! which directions they may go.

use std::{
    env,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    attach,
    preface::{Code, Failure},
};

/// Where distributions have it: Debian and its kin, Fedora's, SUSE's, Arch's.
const SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
];
/// How long the session may take to answer; it takes less than a millisecond.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest answer.
const LINE_MAX: u64 = 4096;
/// What a server is not asked that may give nothing away: contents, and copies of them in place.
const READS: &str = "read,readlink,copy-data";

/// What a session allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Rules {
    to_client: bool,
    from_client: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Answer {
    Files(Rules),
    #[serde(other)]
    Other,
}

/// Starts the server; a connection to it.
pub(crate) fn serve(run_dir: &Path, id: &Uuid) -> Result<UnixStream, Failure> {
    let mut control = attach::control(run_dir, id)?;
    let rules = ask(&mut control).map_err(|error| {
        Failure::new(Code::Internal, format!("session {id} does not answer: {error}"))
    })?;
    let arguments = arguments(rules)?;
    let program = SERVERS.iter().map(Path::new).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(Code::Internal, "this host has no sftp-server (package openssh-sftp-server)")
    })?;
    let failed = |error: io::Error| {
        Failure::new(Code::Internal, format!("cannot run {}: {error}", program.display()))
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = OwnedFd::from(theirs);
    let input = theirs.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::from(input)).stdout(Stdio::from(theirs));
    if let Some(home) = env::var_os("HOME") {
        command.current_dir(home);
    }
    // It ends with its connection; what it ends with is of no interest.
    command.stderr(Stdio::null()).spawn().map_err(failed)?;
    Ok(ours)
}

fn ask(control: &mut UnixStream) -> io::Result<Rules> {
    control.set_read_timeout(Some(ANSWER_MAX))?;
    control.write_all(b"{\"op\":\"files\"}\n")?;
    let mut line = Vec::new();
    io::BufRead::read_until(
        &mut io::BufReader::new(Read::take(&mut *control, LINE_MAX)),
        b'\n',
        &mut line,
    )?;
    match serde_json::from_slice(&line) {
        Ok(Answer::Files(rules)) => Ok(rules),
        // One that was started by an older agent knows no files, and its site has allowed none.
        Ok(Answer::Other) => Ok(Rules { to_client: false, from_client: false }),
        Err(error) => Err(error.into()),
    }
}

/// How the server is run.
fn arguments(rules: Rules) -> Result<&'static [&'static str], Failure> {
    match (rules.to_client, rules.from_client) {
        (true, true) => Ok(&[]),
        (true, false) => Ok(&["-R"]),
        (false, true) => Ok(&["-P", READS]),
        (false, false) => {
            let why = "files do not go to or from this host by browser (/vsmagent/files_to_client, files_from_client)";
            Err(Failure::new(Code::Refused, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        thread,
    };

    use super::*;

    fn told(answer: &'static str) -> io::Result<Rules> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let session = thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(&theirs).read_line(&mut line).unwrap();
            (&theirs).write_all(answer.as_bytes()).unwrap();
            line
        });
        let rules = ask(&mut ours);
        assert_eq!(session.join().unwrap(), "{\"op\":\"files\"}\n");
        rules
    }

    #[test]
    fn a_session_says_what_may_go_where() {
        let rules = told("{\"event\":\"files\",\"to_client\":true,\"from_client\":false}\n");
        let rules = rules.unwrap();
        assert_eq!(rules, Rules { to_client: true, from_client: false });
        assert_eq!(arguments(rules).unwrap(), ["-R"]);
        let only_in = Rules { to_client: false, from_client: true };
        assert_eq!(arguments(only_in).unwrap(), ["-P", READS]);
        let older = told("{\"event\":\"refused\",\"why\":\"it is not known\"}\n").unwrap();
        assert_eq!(arguments(older).unwrap_err().code, Code::Refused);
        assert!(told("").is_err());
    }
}
