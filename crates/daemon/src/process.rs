//! What a daemon sets of its own process, whoever has started it.

use std::{process::ExitCode, sync::OnceLock};

use clap::Parser;
use rustix::{
    fs::Mode,
    process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
    },
};

/// The soft limit of open files as this process was started with it.
static GIVEN: OnceLock<Option<u64>> = OnceLock::new();

/// Modes are what the code says, and open files up to the hard limit: systemd's soft one of 1024 is for programs that
/// use `select`. To be called first.
pub fn prepare() {
    plain_modes();
    let limit = getrlimit(Resource::Nofile);
    let _ = GIVEN.set(limit.current);
    // Without it there is less room, and nothing else.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The host's own name, as `uname -n` prints it.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Bad usage, as sysexits.h numbers it.
const EXIT_USAGE: u8 = 64;

/// The `main` of a daemon: reads its command line, and says why it ends, where it ends with another exit code than 0.
pub fn main<A: Parser>(
    program: &str,
    run: impl FnOnce(&A) -> Result<(), (u8, String)>,
) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version are asked for; all else is wrong usage. If it cannot be printed nobody reads it.
            drop(message.print());
            return ExitCode::from(if message.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            complain(program, &why);
            ExitCode::from(code)
        }
    }
}

/// Tells whoever started a program why it ends, a line for each; its log may not have begun.
#[expect(clippy::print_stderr, reason = "errors of a start go to standard error")]
fn complain(program: &str, why: &str) {
    for line in why.lines() {
        eprintln!("{program}: {line}");
    }
}

/// No core file of this process is ever written, and nobody but root looks into its memory: it may hold keys. To be
/// called again after the process has become another user. What it starts is not touched by this.
pub fn guard_memory() {
    // The kernel knows this option.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The same, and for what it starts too.
pub fn no_cores() {
    guard_memory();
    // A limit may always be lowered.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Takes group's and others' right to write from files that are made, and nothing else; what the mask was before.
pub fn plain_modes() -> u32 {
    umask(Mode::from_raw_mode(0o022)).as_raw_mode()
}

/// The soft limit of open files that children are to have; none = no limit.
#[must_use]
pub fn given_descriptors() -> Option<u64> {
    GIVEN.get().copied().unwrap_or_else(|| getrlimit(Resource::Nofile).current)
}

/// Sets the soft limit of open files, at most to the hard one.
pub fn set_descriptors(soft: Option<u64>) {
    let limit = getrlimit(Resource::Nofile);
    let current = match (soft, limit.maximum) {
        (Some(soft), Some(hard)) => Some(soft.min(hard)),
        (soft, hard) => soft.or(hard),
    };
    // It is not above the hard one, so the kernel has no reason.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_for_this_process_and_known_for_children() {
        set_descriptors(Some(500));
        prepare();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current, given_descriptors()), (limit.maximum, Some(500)));
        assert_eq!(plain_modes(), 0o022);
        set_descriptors(given_descriptors());
        assert_eq!(getrlimit(Resource::Nofile).current, Some(500));
    }
}
