//! `vsm-session`: one desktop from its PAM session to its last process.
//!
//! It is small and has one thread, but for those that copy what one sees who may only look: what it does takes
//! milliseconds, and it must still be there when everything else on the host is being restarted. [`start`] prepares the
//! desktop, [`monitor`] looks after it, [`ending`] leaves nothing behind; [`lifetime`] keeps its time, [`limits`] does
//! what the time wants and [`idle`] knows when the user was last there. A second stage of the same program ([`launch`])
//! drops to the user, so that no code of ours runs between `fork` and `exec`.

mod account;
mod children;
pub mod cookie;
mod desktop;
mod ending;
mod given;
mod idle;
mod keyboard;
pub mod launch;
mod leftovers;
mod lifetime;
mod limits;
mod locale;
mod monitor;
mod notices;
mod output;
mod peer;
mod profile;
mod requests;
mod shadow;
mod start;
mod xserver;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
};

use vsm_daemon::socket;

use crate::{
    displays::Name,
    lines::{self, LINE_MAX},
    refusal::{Refusal, Refused},
    spec::{self, Reply, Spec},
};

/// Runs one session: the spec comes as one line on standard input, the reply goes as one line to standard output.
/// Returns when nothing is left of the session.
#[must_use]
pub fn run() -> ExitCode {
    // Held until nothing is left that could look for it.
    let (spec, _display) = match read_spec() {
        Ok(read) => read,
        Err(error) => {
            let refused = Refused::new(
                Refusal::Internal,
                format!("vsm-session cannot read what to start: {error}"),
            );
            answer(&Reply::Refused(refused));
            return ExitCode::from(64);
        }
    };
    match start::start(spec) {
        Ok(started) => {
            let (record, notes) = (Box::new(started.record().clone()), started.notes());
            answer(&Reply::Ready { record, notes });
            detach();
            started.run();
        }
        Err(reply) => answer(&reply),
    }
    ExitCode::SUCCESS
}

fn read_spec() -> io::Result<(Spec, OwnedFd)> {
    // A message that brings a descriptor ends there, whatever follows it.
    let display = match socket::receive_with(io::stdin()) {
        Ok((line, mut descriptors)) => descriptors.pop().filter(|_| line == spec::DISPLAY_LINE),
        // A vsmagent from before an upgrade sends the spec alone, by a pipe.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOTSOCK) => None,
        Err(error) => return Err(error),
    };
    let mut line = Vec::new();
    let bound = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    BufReader::new(io::stdin()).take(bound).read_until(b'\n', &mut line)?;
    let spec: Spec = serde_json::from_slice(&line)?;
    let display = match display {
        Some(display) => display,
        None => Name::hold(spec.display).and_then(|name| name.again())?,
    };
    Ok((spec, display))
}

fn answer(reply: &Reply) {
    let Ok(line) = lines::line(reply) else { return };
    let mut out = io::stdout();
    // If vsmagent died meanwhile, its successor finds the session by its socket.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Lets go of the pipes to `vsmagent`; standard error stays the session's log.
fn detach() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        // Worst case the pipes stay open, which nobody reads.
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
