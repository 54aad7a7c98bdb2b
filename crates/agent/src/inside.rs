//! What programs in a session ask of its `vsm-session`: `vsm-disconnect`, `vsm-env`, `vsm-while-x11`.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use vsm_core::SessionId;

use crate::{
    control::{self, Event, Request},
    lines::{self, Lines},
    process::SESSION_VARIABLE,
};

/// How long a `vsm-session` may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

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
#[must_use]
pub fn newest() -> Option<SessionId> {
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
