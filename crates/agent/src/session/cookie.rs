//! The X cookie in the user's home, where the administrator wants it there (`/vsmagent/xauthority_location`).
//!
//! `vsm-session add-cookie FROM TO PROGRAM`, as the user: puts the session's entry into the user's own Xauthority file,
//! in place of older entries for the same display of this host, and turns into the program. `vsm-session drop-cookie
//! FROM TO` takes it out again. The entry names the host, as one home may be on many. It runs with the user's rights,
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
/// The word that selects the end of it.
pub const END_STAGE: &str = "drop-cookie";
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

/// Takes the cookie out again.
#[must_use]
#[expect(clippy::print_stderr, reason = "standard error is the session's log here")]
pub fn end(arguments: &[OsString]) -> ExitCode {
    let [from, to] = arguments else { return ExitCode::from(64) };
    match drop_from(Path::new(from), Path::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let to = to.to_string_lossy();
            eprintln!("vsm-session: the X cookie cannot be taken out of {to}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Xauthority's family for an entry of one host, by its name.
const FAMILY_LOCAL: u16 = 256;

/// An entry for any host as one for this host alone.
fn for_this_host(entry: &[u8]) -> Vec<u8> {
    let host = rustix::system::uname().nodename().to_bytes().to_vec();
    let mut all = FAMILY_LOCAL.to_be_bytes().to_vec();
    all.extend(u16::try_from(host.len()).unwrap_or(0).to_be_bytes());
    all.extend(host);
    // Behind the family and an address of no length.
    all.extend(entry.get(4..).unwrap_or_default());
    all
}

/// The length of the first entry, and of its part that says for which display it is; none = damaged.
pub(crate) fn lengths(entries: &[u8]) -> Option<(usize, usize)> {
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
pub(crate) fn merged(mut old: &[u8], new: &[u8]) -> Vec<u8> {
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
    let new = for_this_host(&fs::read(from)?);
    replace(to, &merged(&read(to)?, &new))
}

/// Takes this very entry out; one that has another cookie is another session's.
fn drop_from(from: &Path, to: &Path) -> io::Result<()> {
    let gone = for_this_host(&fs::read(from)?);
    let old = read(to)?;
    let (mut rest, mut kept) = (old.as_slice(), Vec::new());
    while let Some((length, _)) = lengths(rest) {
        let (entry, after) = rest.split_at(length);
        if entry != gone {
            kept.extend(entry);
        }
        rest = after;
    }
    if kept.len() == old.len() { Ok(()) } else { replace(to, &kept) }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path) {
        Ok(found) if found.len() <= FILE_MAX => fs::read(path),
        Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
        Err(_) => Ok(Vec::new()),
    }
}

fn replace(path: &Path, entries: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("vsm-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(entries).and_then(|()| fs::rename(&temporary, path));
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
        let old = for_this_host(&xserver::write_cookie(&dir.path().join("old"), 10).unwrap());
        fs::write(&to, [old, other.clone(), b"rubbish".to_vec()].concat()).unwrap();
        let new = xserver::write_cookie(&from, 10).unwrap();
        merge(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), [for_this_host(&new), other.clone()].concat());
        drop_from(&dir.path().join("old"), &to).unwrap();
        assert_eq!(fs::read(&to).unwrap().len(), for_this_host(&new).len() + other.len());
        drop_from(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), other);
    }
}
