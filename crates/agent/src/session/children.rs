//! The children of this process: all programs of the desktop, as those whose parent is gone come to it.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use nix::{
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    unistd::Pid,
};

/// Waits a little where there is nothing to poll.
pub(super) fn pause(time: Duration) {
    let spec = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // Being woken early only means to look early.
    let _ = rustix::event::poll(&mut [], Some(&spec));
}

/// Takes all children that have ended, with how.
pub(super) fn reap() -> Vec<(i32, ExitStatus)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                ended.push((pid.as_raw(), ExitStatus::from_raw(code << 8)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended.push((pid.as_raw(), ExitStatus::from_raw(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// Whether there is any child, ended or not.
pub(super) fn any() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(nix::Error::ECHILD)
}
