//! The first line of `vsm-login`, from anybody who can log in.

// The program's own file: it has no library, so that it stays small.
#[path = "../../../crates/cli/src/bin/vsm-login/preface.rs"]
#[expect(dead_code, reason = "it has more codes than reading a line needs")]
mod preface;

use std::{io::Write, os::fd::AsFd};

use preface::{Code, Target};

/// What a pipe takes without a reader is far more.
const LENGTH_MAX: usize = 1024;

pub(crate) fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LENGTH_MAX)];
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(bytes).expect("it fits");
    drop(writer);
    let said = preface::read(reader.as_fd());
    let mut left = vec![0; LENGTH_MAX];
    let count = rustix::io::read(&reader, &mut left).expect("what is left");
    let taken = &bytes[..bytes.len() - count];
    let line = taken.strip_suffix(b"\n");
    assert!(!line.unwrap_or(taken).contains(&b'\n'), "nothing after the line is taken");
    match said {
        Ok(target) => {
            let text = std::str::from_utf8(line.expect("a whole line")).expect("text");
            let text = text.trim_end_matches('\r').to_lowercase().replace("urn:uuid:", "");
            assert_eq!(text.replace(['{', '}', '-'], ""), shown(&target), "just what it says");
        }
        Err(failure) => {
            assert_eq!(failure.code, Code::BadRequest);
            assert!(failure.to_string().lines().count() == 1, "{failure}");
        }
    }
}

/// As a client says it, without what may stand around and in an id.
fn shown(target: &Target) -> String {
    match target {
        Target::Broker => "vsm/1 broker".to_owned(),
        Target::Admin => "vsm/1 admin".to_owned(),
        Target::Session(id) => format!("vsm/1 session {}", id.simple()),
        Target::Files(id) => format!("vsm/1 files {}", id.simple()),
        Target::Relay(id) => format!("vsm/1 relay {}", id.simple()),
        Target::Shadow(id, right) => {
            format!("vsm/1 shadow {} {}", id.simple(), right.simple())
        }
    }
}
