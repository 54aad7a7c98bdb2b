//! `vsm-while-x11`: runs a command for as long as the X server lives, so that nothing of it outlives the desktop.

use std::{
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use vsm_agent::{
    args::WhileArguments,
    inside::{self, Failure, NO_SESSION, USAGE},
};

/// As a shell says that a command cannot be run.
const NO_COMMAND: u8 = 127;
/// An error of ours.
const SOFTWARE: u8 = 70;
/// What a command gets between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    inside::main("vsm-while-x11", run)
}

fn run(WhileArguments { display, command }: WhileArguments) -> Result<ExitCode, Failure> {
    let server = x_server(&display)?;
    let Some((program, words)) = command.split_first() else {
        return Err((USAGE, "name a command".to_owned()));
    };
    let child = Command::new(program).args(words).spawn();
    let child = child.map_err(|error| (NO_COMMAND, format!("{}: {error}", program.display())))?;
    follow(child, server).map(code).map_err(|error| (SOFTWARE, error.to_string()))
}

/// The X server of a display, by who serves its socket.
fn x_server(display: &str) -> Result<Pid, Failure> {
    let none = |why: String| (NO_SESSION, why);
    let number = display.split_once(':').map_or("", |(_, rest)| rest);
    let number = number.split('.').next().unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(none(format!("{display:?} is not a display of this host, such as :10")));
    }
    let socket = PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
    let stream = UnixStream::connect(&socket)
        .map_err(|error| none(format!("{}: {error}", socket.display())))?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|error| none(error.to_string()))?;
    Pid::from_raw(peer.pid())
        .ok_or_else(|| none("the X server is in another PID namespace".to_owned()))
}

/// Waits for the end of the command, or of the X server, which ends it.
fn follow(mut child: Child, server: Pid) -> std::io::Result<ExitStatus> {
    let own = Pid::from_child(&child);
    let command = pidfd_open(own, PidfdFlags::empty())?;
    let Ok(server) = pidfd_open(server, PidfdFlags::empty()) else {
        // It is gone already.
        child.kill()?;
        return child.wait();
    };
    let mut fds = [PollFd::new(&command, PollFlags::IN), PollFd::new(&server, PollFlags::IN)];
    poll(&mut fds, None)?;
    if fds[0].revents().is_empty() {
        pidfd_send_signal(&command, Signal::TERM)?;
        let grace = Timespec { tv_sec: GRACE.as_secs().cast_signed(), tv_nsec: 0 };
        let mut ended = [PollFd::new(&command, PollFlags::IN)];
        if poll(&mut ended, Some(&grace))? == 0 {
            child.kill()?;
        }
    }
    child.wait()
}

/// As a shell has it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1))
}
