//! The connection to each `vsm-session`: it keeps the registry true, and tells at once when a session ends.
//!
//! A connection that breaks while the process lives is opened again. A process that is gone has left the record of
//! its end, or was killed: then what is left of its session is ended here.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use vsm_core::{EndReason, SessionId};
use vsm_daemon::{backoff::Backoff, clock, trouble::Kind};

use super::{
    Agent,
    registry::{Slot, made_out},
};
use crate::{
    cgroup::Cgroup,
    control::{self, Event, Request},
    displays, folders,
    lines::{self, Lines},
    process::{self, Process},
    record::{Done, Outcome, Record},
};

/// How long a `vsm-session` may take to answer; it does in less than a millisecond, unless the host is swamped or its
/// user's PAM modules are slow.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long ending what was left behind goes on.
const SWEEP_MAX: Duration = Duration::from_secs(5);
/// How long it is told that an end could not be recorded.
const ENDS_TOLD_FOR: Duration = Duration::from_secs(600);

/// A connection to one `vsm-session`.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    lines: Lines,
}

impl Link {
    /// Connects, and makes sure that it is root who answers there.
    pub(super) async fn open(session_dir: &Path) -> io::Result<Self> {
        let stream =
            timeout(ANSWER_MAX, UnixStream::connect(control::socket(session_dir))).await??;
        let owner = stream.peer_cred()?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("uid {owner} serves the socket"),
            ));
        }
        Ok(Self { stream, lines: Lines::default() })
    }

    pub(super) async fn send(&mut self, request: &Request) -> io::Result<()> {
        let line = lines::line(request).map_err(io::Error::other)?;
        timeout(ANSWER_MAX, self.stream.write_all(&line)).await?
    }

    /// The next event; none = the connection ended. Events that this version does not know are skipped.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            match self.lines.next_message() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(lines::LineError::Syntax(error)) => {
                    tracing::debug!(%error, "skipped an event that is not known");
                    continue;
                }
                Err(error @ lines::LineError::TooLong) => return Err(io::Error::other(error)),
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(None);
            }
            self.lines.push(buffer.get(..count).unwrap_or_default());
        }
    }
}

/// Asks one thing over a connection of its own.
pub(super) async fn ask(session_dir: &Path, request: &Request) -> io::Result<Event> {
    ask_for(session_dir, request, ANSWER_MAX).await
}

/// The same, where the answer may take so long.
pub(super) async fn ask_for(
    session_dir: &Path,
    request: &Request,
    answer_max: Duration,
) -> io::Result<Event> {
    let asked = async {
        let mut link = Link::open(session_dir).await?;
        link.send(request).await?;
        link.next().await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    timeout(answer_max, asked).await?
}

/// Follows a session until it is over.
pub(super) async fn follow(agent: Arc<Agent>, slot: Arc<Slot>) {
    let dir = control::session_dir(&agent.settings().session.run_dir, slot.id);
    let mut backoff =
        Backoff::new(Duration::from_millis(10), Duration::from_secs(10), rand::random());
    loop {
        match listen(&agent, &slot, &dir).await {
            Ok(Some(done)) => return over(&agent, &slot, done).await,
            Ok(None) => backoff.reset(),
            Err(error) => {
                tracing::debug!(%error, "no connection to the session's monitor");
            }
        }
        if !slot.monitor_is_alive() {
            let done = match agent.store.done(slot.id) {
                Some(done) => done,
                None => lost(&agent, &slot).await,
            };
            return over(&agent, &slot, done).await;
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Listens on one connection; the end of the session, or none where the connection ended first.
async fn listen(agent: &Agent, slot: &Slot, dir: &Path) -> io::Result<Option<Done>> {
    let mut link = Link::open(dir).await?;
    link.send(&Request::Subscribe).await?;
    while let Some(event) = link.next().await? {
        match event {
            Event::Status { viewer, standing, .. } => {
                agent.registry.set_viewer(slot, viewer);
                agent.registry.set_standing(slot, standing.map(|standing| *standing));
            }
            Event::Viewer { viewer } => agent.registry.set_viewer(slot, viewer),
            Event::Standing { standing } => {
                agent.registry.set_standing(slot, Some(*standing));
            }
            Event::Shadowers { by } => agent.registry.set_shadowers(slot, by),
            Event::Ended { reason, detail, at } => {
                let outcome = Outcome::Ended { reason, detail };
                return Ok(Some(Done { id: slot.id, at, outcome }));
            }
            Event::Terminating
            | Event::Attached
            | Event::Dropped { .. }
            | Event::Disconnected { .. }
            | Event::Environment { .. }
            | Event::Files { .. }
            | Event::LimitsSet
            | Event::Extended { .. }
            | Event::Shown
            | Event::ShadowAnswer { .. }
            | Event::Refused { .. } => {}
        }
    }
    Ok(None)
}

async fn over(agent: &Agent, slot: &Slot, done: Done) {
    let ended = done.ended();
    tracing::info!(reason = ?ended.reason, detail = ended.detail, "session ended");
    let forget = agent.registry.finish(slot, done, &agent.settings());
    forget_on_disk(agent, forget);
}

/// Drops what the registry no longer remembers.
pub(super) fn forget_on_disk(agent: &Agent, ids: Vec<SessionId>) {
    if ids.is_empty() {
        return;
    }
    let store = agent.store.clone();
    tokio::task::spawn_blocking(move || ids.into_iter().for_each(|id| store.forget(id)));
}

/// The monitor was killed: ends what is left and keeps that.
async fn lost(agent: &Agent, slot: &Slot) -> Done {
    let record = slot.record();
    let x_server = record.as_ref().map(|record| record.x_server);
    sweep(agent, slot.id, record).await;
    let words =
        if x_server.is_some_and(Process::is_alive) { " and could not be ended" } else { "" };
    let done =
        made_out(slot.id, EndReason::Lost, &format!("its monitor process was killed{words}"));
    keep(agent, &done).await;
    done
}

/// Makes it durable that something is over; on a full disk it is known in memory only, and told.
pub(super) async fn keep(agent: &Agent, done: &Done) {
    let (store, done) = (agent.store.clone(), done.clone());
    let written = tokio::task::spawn_blocking(move || store.save_done(&done)).await;
    let failed = written.map_err(io::Error::other).and_then(|result| result).err();
    match failed {
        // Ends are rare: nobody would say when there is room again.
        Some(error) => {
            let what = format!("the end of a session could not be recorded: {error}");
            agent.troubles.raise_for(ENDS_TOLD_FOR, Kind::Disk, "ends", what);
        }
        None => agent.troubles.over(Kind::Disk, "ends"),
    }
}

/// Ends everything that is left of a session whose monitor is gone, and removes its folder.
pub(super) async fn sweep(agent: &Agent, id: SessionId, record: Option<Record>) {
    let dir = control::session_dir(&agent.settings().session.run_dir, id);
    let (folder, troubles) = (dir.display().to_string(), agent.troubles.clone());
    let swept = tokio::task::spawn_blocking(move || {
        let deadline = clock::now() + SWEEP_MAX;
        let cgroup = record.as_ref().and_then(|record| record.cgroup.clone()).map(Cgroup::at);
        while clock::now() < deadline {
            let mut left = process::by_environment(id);
            if let Some(cgroup) = &cgroup {
                left.extend(cgroup.pids());
                cgroup.kill();
            }
            if left.is_empty() {
                break;
            }
            process::signal_all(&left, Signal::KILL);
            // Being woken early only means to look early.
            let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            });
        }
        if let Some(record) = &record
            && let Some(held) = record.x_server.hold()
        {
            // Gone is as good.
            let _ = held.signal(Signal::KILL);
        }
        displays::clear(id, record.and_then(|record| record.session.state.display()));
        if let Some(cgroup) = cgroup {
            cgroup.remove();
        }
        folders::unmount_below(&dir);
        let alive = process::by_environment(id).len();
        let what = match folders::remove(&dir) {
            _ if alive > 0 => {
                Some(format!("{alive} processes of session {id}, which is over, cannot be ended"))
            }
            Err(error) => Some(format!(
                "{} of a session that is over cannot be removed: {error}",
                dir.display()
            )),
            Ok(()) => None,
        };
        troubles.set(Kind::Remains, &folder, what);
    });
    if let Err(error) = swept.await {
        let what = format!("what session {id} left could not be ended: {error}");
        agent.troubles.raise(Kind::Remains, &id.to_string(), what);
    }
}
