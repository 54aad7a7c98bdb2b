//! The X cookie in the user's home, where the administrator wants it there (`/vsmagent/xauthority_location`).
//!
//! `vsm-session add-cookie FROM TO PROGRAM`, as the user: puts the session's entry into the user's own Xauthority
//! file, in place of older entries for the same display, and turns into the program. It runs with the user's rights,
//! so that whatever stands at TO is the user's own business. If it fails the session keeps its own file.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

use super::launch::EXIT_PROGRAM;

/// The word that selects this stage.
pub const STAGE: &str = "add-cookie";
/// This program, by a name that needs no search.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";
/// Largest Xauthority file that is taken over; they have a few hundred bytes.
const FILE_MAX: u64 = 1 << 20;

/// Adds the cookie and becomes the program; returns only if that fails.
#[must_use]
#[expect(clippy::print_stderr, reason = "standard error is the session's log here")]
pub fn run(arguments: &[OsString]) -> ExitCode {
    let [from, to, program] = arguments else { return ExitCode::from(64) };
    let mut command = Command::new(program);
    match merge(Path::new(from), Path::new(to)) {
        Ok(()) => drop(command.env("XAUTHORITY", to)),
        Err(error) => {
            eprintln!("vsm-session: the X cookie cannot be added to {}: {error}", to.display());
        }
    }
    let error = command.exec();
    eprintln!("vsm-session: cannot run {}: {error}", program.display());
    ExitCode::from(EXIT_PROGRAM)
}

/// The length of the first entry, and of its part that says for which display it is; none = damaged.
fn lengths(entries: &[u8]) -> Option<(usize, usize)> {
    let mut at = 2;
    let mut key = 0;
    for field in 0..4 {
        let length = entries.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_be_bytes(length.try_into().ok()?));
        if field == 1 {
            key = at;
        }
    }
    (at <= entries.len()).then_some((at, key))
}

/// The entries of `old` that are for other displays, and `new`, which is one entry. What is damaged is left out.
fn merged(mut old: &[u8], new: &[u8]) -> Vec<u8> {
    let key = lengths(new).map_or(0, |(_, key)| key);
    // First: programs take the first entry that fits.
    let mut all = new.to_vec();
    while let Some((length, old_key)) = lengths(old) {
        let (entry, rest) = old.split_at(length);
        if entry.get(..old_key) != new.get(..key) {
            all.extend(entry);
        }
        old = rest;
    }
    all
}

fn merge(from: &Path, to: &Path) -> io::Result<()> {
    let new = fs::read(from)?;
    let old = match fs::metadata(to) {
        Ok(found) if found.len() <= FILE_MAX => fs::read(to)?,
        Ok(_) => return Err(io::ErrorKind::FileTooLarge.into()),
        Err(_) => Vec::new(),
    };
    let temporary = to.with_extension(format!("vsm-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(&merged(&old, &new)).and_then(|()| fs::rename(&temporary, to));
    written.inspect_err(|_| {
        // It is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::xserver;

    #[test]
    fn an_older_entry_for_the_display_goes_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("session"), dir.path().join(".Xauthority"));
        let other = xserver::write_cookie(&dir.path().join("other"), 11).unwrap();
        let old = xserver::write_cookie(&dir.path().join("old"), 10).unwrap();
        fs::write(&to, [old, other.clone(), b"rubbish".to_vec()].concat()).unwrap();
        let new = xserver::write_cookie(&from, 10).unwrap();
        merge(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), [new, other].concat());
    }
}
