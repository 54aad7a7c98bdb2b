//! The local syslog: a datagram for each line on its unix socket, as RFC 3164 and syslog(3) have it.

use std::{
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Facilities by their number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "security", "console", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
/// Longest line: what every syslog takes.
const LINE_MAX: usize = 8192;

/// Facility of what is about security and for few eyes.
const AUDIT: &str = "authpriv";

/// Where lines go and as what.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) program: &'static str,
    pub(super) facility: String,
    pub(super) socket: PathBuf,
}

/// The connection; it is made when there is something to say, and made again when the syslog was restarted.
#[derive(Debug, Clone)]
pub struct Syslog {
    target: Target,
    facility: usize,
    /// How long a line may wait for the syslog to read those before; none = not at all.
    patience: Option<Duration>,
    socket: Arc<Mutex<Option<UnixDatagram>>>,
}

impl Syslog {
    pub(super) fn new(target: Target) -> Self {
        let facility = FACILITIES.iter().position(|name| *name == target.facility).unwrap_or(3);
        Self { target, facility, patience: None, socket: Arc::default() }
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        match self.patience {
            None => socket.set_nonblocking(true)?,
            patience => socket.set_write_timeout(patience)?,
        }
        socket.connect(&self.target.socket)?;
        Ok(socket)
    }

    /// One for what is audited (facility `authpriv`), under this name, by the socket of the local syslog. A line waits
    /// a second for a syslog that is slow.
    #[must_use]
    pub fn audit(program: &'static str, socket: PathBuf) -> Self {
        let target = Target { program, facility: AUDIT.to_owned(), socket };
        Self { patience: Some(Duration::from_secs(1)), ..Self::new(target) }
    }

    /// A line of the log. One that cannot be delivered at once is dropped: it is on standard error too, and no daemon
    /// waits for its log.
    fn send(&self, severity: usize, text: &str) {
        let _ = self.write(severity, text);
    }

    /// Gives the syslog a line; `severity` is its number in RFC 3164, 0 to 7.
    ///
    /// # Errors
    /// If the syslog is not there, or cannot take it now.
    pub fn write(&self, severity: usize, text: &str) -> io::Result<()> {
        let priority = self.facility * 8 + severity;
        let (program, pid) = (self.target.program, std::process::id());
        let text = &text[..text.floor_char_boundary(LINE_MAX)];
        let line = format!("<{priority}>{program}[{pid}]: {text}");
        let mut socket = self.socket.lock();
        if let Some(open) = socket.as_ref() {
            match open.send(line.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // A new one after a restart of the syslog.
                Err(_) => *socket = None,
            }
        }
        let new = self.connect()?;
        new.send(line.as_bytes())?;
        *socket = Some(new);
        Ok(())
    }
}

/// A line that is being put together.
#[derive(Debug)]
pub(super) struct Line {
    syslog: Syslog,
    severity: usize,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.syslog.send(self.severity, String::from_utf8_lossy(&self.text).trim_end());
    }
}

/// The syslog as a place for the lines of the log.
#[derive(Debug, Clone)]
pub(super) struct Lines(pub(super) Syslog);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { syslog: self.0.clone(), severity: 6, text: Vec::new() }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let severity = match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        Line { syslog: self.0.clone(), severity, text: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_a_syslog_that_was_restarted() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        let target =
            Target { program: "vsmserver", facility: "local0".into(), socket: socket.clone() };
        let syslog = Syslog::new(target);
        syslog.send(6, "nobody listens");
        for text in ["one", "two"] {
            let listener = UnixDatagram::bind(&socket).unwrap();
            syslog.send(3, text);
            let mut buffer = [0; 100];
            let count = listener.recv(&mut buffer).unwrap();
            let wanted = format!("<131>vsmserver[{}]: {text}", std::process::id());
            assert_eq!(String::from_utf8_lossy(&buffer[..count]), wanted);
            std::fs::remove_file(&socket).unwrap();
        }
    }
}
