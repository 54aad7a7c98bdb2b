//! The second stage of `vsm-session`: becomes the user and turns into the program to run.
//!
//! `vsm-session launch CGROUP UID GID DIR PROGRAM [ARG…]`, as root, with the environment that the program is to have.
//! The supplementary groups are inherited from the monitor, where PAM had its say about them. A failure is one line
//! on standard error and one of the exit codes below, which no X server or script uses.

use std::{
    ffi::OsString,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus},
};

use nix::{
    sys::signal::SigSet,
    unistd::{Gid, Uid, setgid, setsid, setuid},
};

use crate::cgroup::Cgroup;

/// The user may not enter their home directory.
pub const EXIT_HOME: u8 = 125;
/// The user's rights could not be taken on.
pub const EXIT_RIGHTS: u8 = 126;
/// The program could not be run.
pub const EXIT_PROGRAM: u8 = 127;

/// What to run, as whom.
#[derive(Debug, Clone)]
pub(super) struct Launch<'a> {
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) dir: &'a std::path::Path,
    pub(super) program: &'a std::path::Path,
}

impl Launch<'_> {
    /// The command to which program arguments, environment and streams are added. It begins with no environment.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let cgroup =
            self.cgroup.map_or_else(|| "-".into(), |cgroup| cgroup.dir().as_os_str().to_owned());
        command.arg0("vsm-session").arg("launch").arg(cgroup);
        command.arg(self.uid.to_string()).arg(self.gid.to_string()).arg(self.dir).arg(self.program);
        command.env_clear();
        command
    }
}

/// How a process that was launched ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Becomes the user and the program; returns only if that fails.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    let (code, error) = match turn_into(arguments) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    report(&format!("vsm-session: {error}"));
    ExitCode::from(code)
}

#[expect(clippy::print_stderr, reason = "standard error is the session's log here")]
fn report(line: &str) {
    eprintln!("{line}");
}

fn turn_into(arguments: &[OsString]) -> Result<std::convert::Infallible, (u8, String)> {
    let usage = || (64, "launch is not for use by hand".to_owned());
    let [cgroup, uid, gid, dir, program, arguments @ ..] = arguments else { return Err(usage()) };
    let number =
        |text: &OsString| text.to_str().and_then(|text| text.parse().ok()).ok_or_else(usage);
    let (uid, gid): (u32, u32) = (number(uid)?, number(gid)?);
    let rights = |what: &str, error: &dyn std::fmt::Display| {
        (EXIT_RIGHTS, format!("cannot {what}: {error}"))
    };
    if cgroup != "-" {
        Cgroup::at(PathBuf::from(cgroup))
            .join()
            .map_err(|error| rights("join the session's cgroup", &error))?;
    }
    setsid().map_err(|error| rights("begin a process session", &error))?;
    setgid(Gid::from_raw(gid)).map_err(|error| rights("take on the group", &error))?;
    setuid(Uid::from_raw(uid)).map_err(|error| rights("take on the user", &error))?;
    // The monitor takes its signals by descriptor and blocks them, which would be inherited.
    SigSet::empty().thread_set_mask().map_err(|error| rights("unblock signals", &error))?;
    let dir = PathBuf::from(dir);
    std::env::set_current_dir(&dir)
        .map_err(|error| (EXIT_HOME, format!("cannot enter {}: {error}", dir.display())))?;
    let error: io::Error = Command::new(program).args(arguments).exec();
    Err((EXIT_PROGRAM, format!("cannot run {}: {error}", PathBuf::from(program).display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exit status 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by SIGKILL");
    }

    #[test]
    fn it_is_not_for_use_by_hand() {
        assert_eq!(turn_into(&["-".into()]).unwrap_err().0, 64);
        let words = ["-", "me", "0", "/", "true"].map(OsString::from);
        assert_eq!(turn_into(&words).unwrap_err().0, 64);
    }
}
