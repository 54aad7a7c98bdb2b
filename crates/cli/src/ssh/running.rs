//! One ssh that runs, and whether the host at its other end is there.
//!
//! Keep-alives alone cannot tell: sshd answers none while PAM opens a session, which takes seconds where a directory or
//! a home is slow. Whoever gave that up and came again would be asked for the password twice, and keep a busy host
//! busier. But the kernel of a host that lives acknowledges what is sent, whatever its sshd does. So ours is asked, and
//! made to send something while ssh itself has nothing to say: before the login is done it may wait for a long time.

use std::{os::fd::RawFd, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio_util::task::AbortOnDropHandle;
use vsm_daemon::{
    clock,
    sockets::{self, State},
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So often the host's kernel is asked whether it is there, while nothing else is sent.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How an ssh ended.
#[derive(Debug)]
pub(super) struct Exit {
    /// Its exit code; none = by a signal.
    pub(super) code: Option<i32>,
    /// It was ended here, as its host acknowledged nothing.
    pub(super) given_up: bool,
}

/// An ssh; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Running(AbortOnDropHandle<Exit>);

impl Running {
    /// Takes care of an ssh that was spawned to be killed on drop. With a bound it ends when its host has acknowledged
    /// nothing for so long. A host on a way through others cannot be seen, nor one from a system without `/proc`: there
    /// ssh's own keep-alives decide.
    pub(super) fn new(child: Child, bound: Option<Duration>) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(run(child, bound))))
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&mut self) -> Exit {
        (&mut self.0).await.unwrap_or(Exit { code: None, given_up: false })
    }
}

async fn run(mut child: Child, bound: Option<Duration>) -> Exit {
    let pid = child.id();
    tokio::select! {
        status = child.wait() => {
            return Exit { code: status.ok().and_then(|status| status.code()), given_up: false };
        }
        () = unanswered(pid, bound.unwrap_or_default()), if bound.is_some() => {}
    }
    // What was run as ssh may be a script that runs it: it would live on, and hold the pipe. Each may have ended by
    // itself in this moment.
    let below = pid.map(sockets::children_of).unwrap_or_default();
    for pid in below.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = child.kill().await;
    Exit { code: None, given_up: true }
}

/// Over when nothing that this process sends was acknowledged for so long.
async fn unanswered(pid: Option<u32>, bound: Duration) {
    let Some(pid) = pid else { return std::future::pending().await };
    let (mut since, mut probed) = (None, false);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        probed = probed || probe(pid);
        if is_unanswered(pid) {
            let since = *since.get_or_insert_with(clock::now);
            if since.elapsed() >= bound {
                return;
            }
        } else {
            since = None;
        }
    }
}

/// Has the kernel probe the connection of this process; whether there is one. Where that may not be done, ssh's own
/// keep-alives are what is sent, from the login on.
fn probe(pid: u32) -> bool {
    let all = sockets::all().filter(|it| it.state == State::Established);
    let all: Vec<u64> = all.map(|it| it.inode).collect();
    let mut is_there = false;
    for (pid, fd, _) in held(pid).filter(|(_, _, inode)| all.contains(inode)) {
        is_there = true;
        let _ = sockets::probe_every(pid, fd, PROBE_EVERY);
    }
    is_there
}

fn is_unanswered(pid: u32) -> bool {
    let waits = sockets::all().filter(|it| it.state == State::Established && it.unanswered > 0);
    let waits: Vec<u64> = waits.map(|it| it.inode).collect();
    // Mostly there is none at all, and a process has more files than one wants to ask for.
    !waits.is_empty() && held(pid).any(|(_, _, inode)| waits.contains(&inode))
}

/// The sockets of this process and of those that it has begun, each with its holder: what is run as ssh may be a script
/// that runs it, and ssh may run what leads the way.
fn held(pid: u32) -> impl Iterator<Item = (u32, RawFd, u64)> {
    let all = std::iter::once(pid).chain(sockets::children_of(pid));
    all.flat_map(|pid| sockets::held_by(pid).into_iter().map(move |(fd, inode)| (pid, fd, inode)))
}
