//! What programs in a session ask of its `vsm-session`: `vsm-disconnect`, `vsm-extend`, `vsm-env`, `vsm-while-x11`.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use vsm_core::SessionId;

use crate::{
    control::{self, Event, Request},
    lines::{self, Lines},
    process::SESSION_VARIABLE,
};

/// How long a `vsm-session` may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Bad usage, and no such session of the caller's, as sysexits.h numbers them.
pub const USAGE: u8 = 64;
/// No such session, or somebody else's.
pub const NO_SESSION: u8 = 66;

/// Why a program did not do what it was asked: its exit code, and one line.
pub type Failure = (u8, String);

/// Reads the command line, does the work, says what went wrong.
pub fn main<T: Parser>(
    program: &str,
    work: impl FnOnce(T) -> Result<ExitCode, Failure>,
) -> ExitCode {
    let arguments = match T::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where standard output is gone there is nobody to tell.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    work(arguments).unwrap_or_else(|(code, why)| {
        // Where standard error is gone too, the exit code still tells.
        let _ = writeln!(io::stderr(), "{program}: {why}");
        ExitCode::from(code)
    })
}

/// The session that is meant: the one named, or that the program runs in, or the caller's newest on this host.
///
/// # Errors
/// If there is none.
pub fn meant(id: Option<SessionId>) -> Result<SessionId, Failure> {
    let none = || (NO_SESSION, "you have no desktop on this host".to_owned());
    id.or_else(newest).ok_or_else(none)
}

/// Asks one thing of a session's monitor.
///
/// # Errors
/// If there is no such session, it is another user's, or it does not answer; a refusal is an error too.
pub fn ask(run_dir: &Path, id: SessionId, request: &Request) -> io::Result<Event> {
    let mut stream = UnixStream::connect(control::socket(&control::session_dir(run_dir, id)))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&lines::line(request).map_err(io::Error::other)?)?;
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    loop {
        match lines.next_message().map_err(io::Error::other)? {
            Some(Event::Refused { why }) => return Err(io::Error::other(why)),
            Some(event) => return Ok(event),
            None => {}
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            count => lines.push(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// The newest session of the caller on this host, by the processes that run in it.
fn newest() -> Option<SessionId> {
    let uid = rustix::process::getuid().as_raw();
    let wanted = format!("{SESSION_VARIABLE}=");
    let of = |entry: fs::DirEntry| {
        let path = entry.path();
        if fs::metadata(&path).ok()?.uid() != uid {
            return None;
        }
        let environ = fs::read(path.join("environ")).ok()?;
        let mut words = environ.split(|byte| *byte == 0);
        let id = words.find_map(|word| word.strip_prefix(wanted.as_bytes()))?;
        String::from_utf8_lossy(id).parse().ok()
    };
    // Ids are ordered by time.
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).filter_map(of).max()
}
