//! `vsm-session`: one desktop from its PAM session to its last process.
//!
//! A session passes through three phases, each a type that owns what it has and turns into the next:
//!
//! - [`preparing`]: [`start`] has made the folder, opened the PAM session and started the X server, which has yet to
//!   greet. A start that fails is undone, and `vsmagent` is told why.
//! - [`running`]: the desktop can be viewed. The session script runs; [`limits`] enforces what [`lifetime`] decides.
//! - [`ending`]: [`shutdown`] ends all processes. Then the PAM session is closed, the record of the end is saved,
//!   subscribers are told, and the folder goes.
//!
//! [`monitor`] is what lives through all of them. [`turn`] is one turn of their loops: it waits for signals, output and
//! requests, and handles them. The parts lie below: connections ([`peers`]), texts on the desktop ([`notices`]), the
//! keyboard map, the last input ([`idle`]), shadowing, the log. No part imports a phase.
//!
//! The process is small and must outlive a restart of everything else on the host. Single-threaded, except that each
//! view-only shadower has two copying threads, one for each direction. A second stage of the same program ([`launch`])
//! drops to the user, so that none of our code runs between `fork` and `exec`.

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
mod peers;
mod preparing;
mod profile;
mod requests;
mod running;
pub(crate) mod shadow;
mod shutdown;
mod start;
mod turn;
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
        Ok(ready) => {
            let (record, notes) = (Box::new(ready.record().clone()), ready.notes().to_vec());
            answer(&Reply::Ready { record, notes });
            detach();
            let ending = ready.run();
            ending.run();
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
