//! One turn of a phase's loop: waits for something to happen, and handles it. Nothing happens between turns.
//!
//! All phases read the same descriptors and answer the same requests. What differs is what a phase has: [`Parts`].

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    process::ExitStatus,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{desktop::Program, limits::Enforcer, monitor::Monitor, peer::Peer, requests};
use crate::control::{DropCause, Event, Phase, Request};

/// What a phase has beside the [`Monitor`], lent for a turn.
#[derive(Debug)]
pub(super) enum Parts<'a> {
    Preparing {
        /// The connection by which the X server greets, once there is one.
        greeting: Option<&'a UnixStream>,
    },
    Running {
        limits: &'a mut Enforcer,
        script: &'a mut Program,
    },
    Ending {
        /// For how the session stands; they are enforced no more.
        limits: &'a mut Enforcer,
        /// The session script, until it has ended.
        script: Option<&'a mut Program>,
    },
}

impl Parts<'_> {
    const fn phase(&self) -> Phase {
        match self {
            Self::Preparing { .. } => Phase::Starting,
            Self::Running { .. } => Phase::Running,
            Self::Ending { .. } => Phase::Ending,
        }
    }

    fn script(&mut self) -> Option<&mut Program> {
        match self {
            Self::Preparing { .. } => None,
            Self::Running { script, .. } => Some(script),
            Self::Ending { script, .. } => script.as_deref_mut(),
        }
    }

    fn viewers_changed(&mut self, monitor: &Monitor) {
        if let Self::Running { limits, .. } | Self::Ending { limits, .. } = self {
            limits.viewers_changed(monitor.peers.viewed_since());
        }
    }

    fn status(&self, monitor: &Monitor) -> Event {
        let standing = match self {
            Self::Preparing { .. } => None,
            Self::Running { limits, .. } | Self::Ending { limits, .. } => limits.standing(),
        };
        monitor.status(self.phase(), standing)
    }

    /// What is to be waited for beside what the monitor has.
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        match self {
            Self::Preparing { greeting } => [greeting.map(AsFd::as_fd), None],
            Self::Running { limits, script } => [script.output.fd(), limits.fd()],
            Self::Ending { script, .. } => {
                [script.as_ref().and_then(|script| script.output.fd()), None]
            }
        }
    }
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// What a wait has found.
struct Woken {
    signals: bool,
    connection: bool,
    /// The connections on which something happens, by index.
    peers: Vec<usize>,
}

/// Waits for something to happen, at most so long; none = the wait was cut short.
fn wait(monitor: &Monitor, parts: &Parts<'_>, timeout: Duration) -> Option<Woken> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut fds = vec![readable(monitor.signals.as_fd()), readable(monitor.peers.listener())];
    let first = fds.len();
    fds.extend(monitor.peers.fds());
    // What the others have is taken at every turn.
    let others = parts.fds().into_iter().flatten().chain(monitor.notices.fds());
    fds.extend(monitor.x_server.output.fd().into_iter().chain(others).map(readable));
    poll(&mut fds, timeout).ok()?;
    let is_woken = |index: usize| fds.get(index).is_some_and(|fd| fd.any() == Some(true));
    Some(Woken {
        signals: is_woken(0),
        connection: is_woken(1),
        peers: (0..monitor.peers.count()).filter(|index| is_woken(first + index)).collect(),
    })
}

/// Waits for something to happen, at most so long, and handles it. How the session script has ended, if it has.
pub(super) fn turn(
    monitor: &mut Monitor,
    mut parts: Parts<'_>,
    timeout: Duration,
) -> Option<ExitStatus> {
    let woken = wait(monitor, &parts, timeout)?;
    for index in woken.peers {
        serve(monitor, &mut parts, index);
    }
    monitor.drain_output(parts.script());
    let mut script_ended = None;
    if woken.signals {
        let script = parts.script().map(|script| script.pid);
        script_ended = monitor.take_signals(script);
    }
    if let Some(gone) = monitor.peers.drop_gone() {
        monitor.shadows_ended(gone.shadows);
        if gone.viewed {
            monitor.peers.tell_who_views();
            parts.viewers_changed(monitor);
        }
    }
    if woken.connection {
        monitor.peers.accept();
    }
    script_ended
}

fn serve(monitor: &mut Monitor, parts: &mut Parts<'_>, index: usize) {
    let Some(peer) = monitor.peers.get_mut(index) else { return };
    peer.flush();
    peer.receive();
    while let Some(request) = monitor.peers.get_mut(index).and_then(Peer::next_request) {
        let answer = answer(monitor, parts, index, request);
        if let (Some(peer), Some(answer)) = (monitor.peers.get_mut(index), answer) {
            peer.send(&answer);
        }
    }
}

/// The answer to a request; none = it was given, or comes later.
fn answer(
    monitor: &mut Monitor,
    parts: &mut Parts<'_>,
    index: usize,
    request: Request,
) -> Option<Event> {
    let refused = |why: &str| Some(Event::Refused { why: why.to_owned() });
    let peer = monitor.peers.get_mut(index)?;
    if peer.shadowing.is_some() {
        // It was root's, and is in the hands of one who shadows.
        return refused("this connection is for viewing alone");
    }
    let is_owner = peer.uid == monitor.desktop.account.uid;
    if peer.uid != 0 && !(is_owner && may_owner_ask(&request)) {
        return refused("only root may ask for that");
    }
    let running = match parts {
        Parts::Running { limits, .. } => Some(&mut **limits),
        Parts::Preparing { .. } | Parts::Ending { .. } => None,
    };
    match (request, running) {
        (Request::Disconnect { reason }, _) => {
            let was_connected = monitor.peers.drop_viewers(&reason, DropCause::Disconnected);
            parts.viewers_changed(monitor);
            Some(Event::Disconnected { was_connected })
        }
        (Request::EndShadows, _) => {
            let was_connected = monitor.peers.drop_shadows();
            Some(Event::Disconnected { was_connected })
        }
        (Request::Environment, _) => {
            Some(Event::Environment { variables: monitor.desktop.environment.clone() })
        }
        (Request::Files, _) => Some(Event::Files { rules: monitor.spec.settings.files }),
        (Request::Subscribe, _) => {
            monitor.peers.subscribe(index);
            Some(parts.status(monitor))
        }
        (Request::Status, _) => Some(parts.status(monitor)),
        (Request::Terminate { reason, detail }, _) => {
            monitor.ask_to_end(reason, &detail);
            Some(Event::Terminating)
        }
        // Not a refusal: the caller is to learn why there is no session any more.
        (_, None) => Some(Event::Terminating),
        (Request::Attach { address }, Some(limits)) => {
            requests::attach(monitor, limits, index, &address)
        }
        (Request::Notify { program, text }, Some(_)) => {
            requests::notify(monitor, index, &program, &text)
        }
        (Request::AskShadow { by, control, program }, Some(_)) => {
            requests::ask_shadow(monitor, index, &by, control, &program)
        }
        (Request::Shadow { by, address, control }, Some(_)) => {
            requests::shadow(monitor, index, &by, &address, control)
        }
        (Request::Limits { limits: wanted }, Some(limits)) => {
            Some(limits.set_limits(*wanted, monitor))
        }
        (Request::Extend, Some(limits)) => Some(limits.extend(&mut monitor.log)),
        (Request::Standing, Some(limits)) => {
            limits.ask_standing(monitor.peers.get(index)?.number);
            None
        }
    }
}

const fn may_owner_ask(request: &Request) -> bool {
    matches!(
        request,
        Request::Attach { .. }
            | Request::Disconnect { .. }
            | Request::EndShadows
            | Request::Environment
            | Request::Extend
            | Request::Files
    )
}
