//! The first line of the client: where it wants to go. What follows it belongs to the pipe and is not touched.

use std::{fmt, os::fd::BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uuid::Uuid;

/// Longest line, its end included.
const LINE_MAX: usize = 256;
/// How long the line may take; the time starts anew with each byte, of which there are few.
const WAIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Where to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The broker on this host.
    Broker,
    /// The broker on this host, as an administrator.
    Admin,
    /// A session on this host.
    Session(Uuid),
    /// The files of the owner of a session on this host.
    Files(Uuid),
    /// The sshd of the host of a session.
    Relay(Uuid),
    /// Somebody else's session on this host, by this right.
    Shadow(Uuid, Uuid),
}

/// The words that clients look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    NoBroker,
    NoSession,
    /// The session's host does not answer.
    NoHost,
    Refused,
    /// The one-time login was used already, or came too late.
    Spent,
    BadRequest,
    Internal,
}

/// Why there is no pipe: a code for the client, a line for the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self {
            code,
            text: text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            Code::NoBroker => "no-broker",
            Code::NoSession => "no-session",
            Code::NoHost => "no-host",
            Code::Refused => "refused",
            Code::Spent => "spent",
            Code::BadRequest => "bad-request",
            Code::Internal => "internal",
        };
        write!(f, "{code} {}", self.text)
    }
}

fn bad(text: &str) -> Failure {
    Failure::new(Code::BadRequest, text)
}

/// Reads the line, byte by byte: the next one may already be the pipe's.
pub(crate) fn read(input: BorrowedFd<'_>) -> Result<Target, Failure> {
    let mut line = Vec::with_capacity(LINE_MAX);
    loop {
        let ready = poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&WAIT));
        if ready.is_ok_and(|count| count == 0) {
            return Err(bad("no request came within 10 s"));
        }
        let mut byte = [0];
        match rustix::io::read(input, &mut byte) {
            Ok(0) => return Err(bad("the request was cut off")),
            Ok(_) if byte == *b"\n" => return parse(&line),
            Ok(_) => line.extend(byte),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => {
                return Err(Failure::new(
                    Code::Internal,
                    format!("cannot read the request: {error}"),
                ));
            }
        }
        if line.len() >= LINE_MAX {
            return Err(bad("the request is longer than 256 bytes"));
        }
    }
}

fn parse(line: &[u8]) -> Result<Target, Failure> {
    let text = std::str::from_utf8(line).map_err(|_| bad("the request is not text"))?;
    let mut words = text.trim_end_matches('\r').split(' ');
    let words = [(); 5].map(|()| words.next());
    let uuid = |id| Uuid::try_parse(id).map_err(|_| bad("an id in the request is no UUID"));
    match (words[0], words[1], words[2], words[3].or(words[4])) {
        (Some("vsm/1"), Some("shadow"), Some(id), Some(right)) if words[4].is_none() => {
            Ok(Target::Shadow(uuid(id)?, uuid(right)?))
        }
        (Some("vsm/1"), Some("broker"), None, None) => Ok(Target::Broker),
        (Some("vsm/1"), Some("admin"), None, None) => Ok(Target::Admin),
        (Some("vsm/1"), Some("session"), Some(id), None) => uuid(id).map(Target::Session),
        (Some("vsm/1"), Some("files"), Some(id), None) => uuid(id).map(Target::Files),
        (Some("vsm/1"), Some("relay"), Some(id), None) => uuid(id).map(Target::Relay),
        (Some("vsm/1"), ..) => Err(bad(
            "the request is none of `vsm/1 broker`, `vsm/1 admin`, `vsm/1 session UUID`, `vsm/1 files UUID`, `vsm/1 relay UUID` and `vsm/1 shadow UUID UUID`",
        )),
        _ => Err(bad(
            "the client speaks no version of the protocol that this host knows; it knows vsm/1",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd};

    use super::*;

    #[test]
    fn requests_are_understood_or_refused() {
        assert_eq!(parse(b"vsm/1 broker").unwrap(), Target::Broker);
        assert_eq!(parse(b"vsm/1 admin").unwrap(), Target::Admin);
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(
            parse(format!("vsm/1 session {id}").as_bytes()).unwrap(),
            Target::Session(id.parse().unwrap())
        );
        let files = parse(format!("vsm/1 files {id}").as_bytes()).unwrap();
        assert_eq!(files, Target::Files(id.parse().unwrap()));
        let relay = parse(format!("vsm/1 relay {id}").as_bytes()).unwrap();
        assert_eq!(relay, Target::Relay(id.parse().unwrap()));
        let shadow = parse(format!("vsm/1 shadow {id} {id}").as_bytes()).unwrap();
        assert_eq!(shadow, Target::Shadow(id.parse().unwrap(), id.parse().unwrap()));
        let longer = parse(format!("vsm/1 shadow {id} {id} x").as_bytes());
        assert_eq!(longer.unwrap_err().code, Code::BadRequest);
        for line in [
            "",
            "vsm/2 broker",
            "vsm/1",
            "vsm/1 broker x",
            "vsm/1 admin x",
            "vsm/1 session ../x",
            "vsm/1 session",
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().code, Code::BadRequest, "{line}");
        }
    }

    #[test]
    fn nothing_after_the_line_is_taken() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"vsm/1 broker\nPRI * HTTP/2.0").unwrap();
        assert_eq!(read(reader.as_fd()).unwrap(), Target::Broker);
        let mut rest = [0; 3];
        rustix::io::read(&reader, &mut rest).unwrap();
        assert_eq!(&rest, b"PRI");
        writer.write_all(&[b'x'; LINE_MAX + 20]).unwrap();
        assert_eq!(read(reader.as_fd()).unwrap_err().code, Code::BadRequest);
        drop(writer);
    }
}
