//! The second stage of `vsm-session`: becomes the user and turns into the program to run.
//!
//! `vsm-session launch PROGRAM`, as root, with no environment and its [`Order`] on standard input: what a user or PAM
//! says about the environment is text until the rights of root are gone. The supplementary groups are inherited from
//! the monitor, where PAM had its say about them. A failure is one line on standard error and one of the exit codes
//! below, which no X server or script uses.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use nix::{
    sys::{
        signal::SigSet,
        stat::{Mode, umask},
    },
    unistd::{Gid, Uid, setgid, setsid, setuid},
};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::given::Given;
use crate::{cgroup::Cgroup, displays};

/// The word that selects this stage.
pub const STAGE: &str = "launch";

/// The user may not enter their home directory.
pub const EXIT_HOME: u8 = 125;
/// The user's rights could not be taken on.
pub const EXIT_RIGHTS: u8 = 126;
/// The program could not be run.
pub const EXIT_PROGRAM: u8 = 127;

/// What to run, as whom, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) cgroup: Option<PathBuf>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) dir: PathBuf,
    /// A `/tmp` of its own; none = the session's.
    pub(super) tmp: Option<PathBuf>,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) given: Given,
}

impl Order {
    /// The command that carries it out, to which the streams for its output are added.
    pub(super) fn command(&self) -> io::Result<Command> {
        let mut order = File::from(memfd_create("vsm-order", MemfdFlags::CLOEXEC)?);
        order.write_all(&serde_json::to_vec(self)?)?;
        order.rewind()?;
        let mut command = Command::new("/proc/self/exe");
        // Said again for those who look at processes.
        command.arg0("vsm-session").arg(STAGE).arg(&self.program).env_clear().stdin(order);
        Ok(command)
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
pub fn run() -> ExitCode {
    let (code, error) = match turn_into() {
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

fn turn_into() -> Result<std::convert::Infallible, (u8, String)> {
    let order: Order = serde_json::from_reader(io::stdin())
        .map_err(|_| (64, "launch is not for use by hand".to_owned()))?;
    let rights = |what: &str, error: &dyn std::fmt::Display| {
        (EXIT_RIGHTS, format!("cannot {what}: {error}"))
    };
    if let Some(cgroup) = order.cgroup {
        Cgroup::at(cgroup).join().map_err(|error| rights("join the session's cgroup", &error))?;
    }
    if let Some(tmp) = &order.tmp {
        displays::enter(tmp).map_err(|error| rights("mount a /tmp of its own", &error))?;
    }
    order.given.limit().map_err(|error| rights("set its limits", &error))?;
    setsid().map_err(|error| rights("begin a process session", &error))?;
    setgid(Gid::from_raw(order.gid)).map_err(|error| rights("take on the group", &error))?;
    setuid(Uid::from_raw(order.uid)).map_err(|error| rights("take on the user", &error))?;
    // The monitor takes its signals by descriptor and blocks them, which would be inherited.
    SigSet::empty().thread_set_mask().map_err(|error| rights("unblock signals", &error))?;
    std::env::set_current_dir(&order.dir)
        .map_err(|error| (EXIT_HOME, format!("cannot enter {}: {error}", order.dir.display())))?;
    umask(Mode::from_bits_truncate(order.given.umask));
    let mut command = Command::new(&order.program);
    command.args(order.arguments).env_clear().envs(order.environment).stdin(Stdio::null());
    let error: io::Error = command.exec();
    Err((EXIT_PROGRAM, format!("cannot run {}: {error}", order.program.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exit status 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by SIGKILL");
    }
}
