//! One start: a `vsm-session` is spawned, given its spec, and its answer awaited.
//!
//! A start runs in a task of its own, so that it does not die with the call that asked for it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};
use tracing::Instrument as _;
use vsm_core::Resources;
use vsm_daemon::{clock, socket, span, trouble::Kind};

use super::{Agent, Settings, fence::Permit, link, registry::Slot};
use crate::{
    lines::{self, LINE_MAX},
    process::Process,
    record::{Done, Outcome, Record},
    refusal::{Refusal, Refused},
    spec::{self, Reply, Spec},
};

/// Display numbers that are tried where others take them at the same moment.
const DISPLAY_TRIES_MAX: u32 = 5;
/// How long PAM and the name service may take, in addition to the X server's time.
const ACCOUNT_MAX: Duration = Duration::from_secs(30);
/// How long a start that failed may take to clean up.
const CLEAN_MAX: Duration = Duration::from_secs(10);

/// A `vsm-session` that waits for its spec, and where it reads it.
struct Spawned {
    child: Child,
    input: UnixStream,
}

/// Longest time that a start can take with these settings, whatever hangs.
pub(super) fn longest(settings: &Settings) -> Duration {
    Duration::from_millis(settings.session.x_timeout_ms) + ACCOUNT_MAX + CLEAN_MAX
}

/// Spawns the process while the caller's right to do so is held, and leaves the rest to a task. The answer comes by the
/// slot.
pub(super) fn begin(agent: &Arc<Agent>, slot: Arc<Slot>, resources: Resources, permit: Permit<'_>) {
    let settings = agent.settings();
    let first = spawn(agent, &slot);
    drop(permit);
    let agent = Arc::clone(agent);
    let duties = agent.duties.clone();
    let span = span::session(&slot.session());
    let work = async move {
        match run(&agent, &slot, &settings, resources, first).await {
            Ok(record) => {
                tracing::info!(display = slot.display(), "session started");
                agent.registry.running(&slot, record);
                link::follow(agent, slot).await;
            }
            Err(refused) => refuse(&agent, &slot, refused).await,
        }
    };
    duties.run_to_its_end("start of a session", work.instrument(span));
}

async fn refuse(agent: &Agent, slot: &Slot, refused: Refused) {
    tracing::warn!(reason = ?refused.reason, detail = refused.detail, "session not started");
    let done = Done { id: slot.id, at: clock::unix_millis(), outcome: Outcome::Refused(refused) };
    link::keep(agent, &done).await;
    let forget = agent.registry.finish(slot, done, &agent.settings());
    link::forget_on_disk(agent, forget);
}

async fn run(
    agent: &Agent,
    slot: &Slot,
    settings: &Settings,
    resources: Resources,
    first: io::Result<Spawned>,
) -> Result<Record, Refused> {
    let mut spawned = first;
    for _ in 0..DISPLAY_TRIES_MAX {
        let child = spawned.map_err(|error| {
            let program = agent.session_program.display();
            Refused::new(Refusal::Internal, format!("cannot run {program}: {error}"))
        })?;
        let spec = Spec {
            session: slot.session(),
            display: slot.display(),
            settings: settings.session.clone(),
            limits: slot.limits.clone(),
            resources,
            descriptors: vsm_daemon::process::given_descriptors(),
        };
        match converse(agent, slot, child, &spec, longest(settings)).await? {
            Reply::Ready { record, notes } => {
                let failed = !notes.is_empty();
                if failed || resources != Resources::default() {
                    let what = || format!("a limit does not hold: {}", notes.join("; "));
                    agent.troubles.set(Kind::Limits, "", failed.then(what));
                }
                return Ok(*record);
            }
            Reply::Refused(refused) => return Err(refused),
            Reply::DisplayTaken => {
                tracing::info!(
                    display = slot.display(),
                    "somebody else has the display; trying the next"
                );
                if agent.registry.next_display(slot, settings).is_none() {
                    break;
                }
                // Nobody's right is asked for again: who is promised to since finds the slot, and cancels or adopts it.
                spawned = spawn(agent, slot);
            }
        }
    }
    Err(Refused::new(Refusal::Full, "no display number is free (/vsmagent/display_max)"))
}

fn spawn(agent: &Agent, slot: &Slot) -> io::Result<Spawned> {
    if slot.is_cancelled() {
        return Err(io::Error::other("the start was cancelled"));
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    // Before the process is there, so that nothing is between the two holds.
    let name = agent.registry.display_name(slot)?;
    socket::send_with(&ours, spec::DISPLAY_LINE, &[name.as_fd()])?;
    ours.set_nonblocking(true)?;
    let log = agent.store.log(slot.id);
    // What the process itself says, if ever; on a full disk it says it to nobody.
    let log = std::fs::OpenOptions::new().append(true).create(true).open(log);
    let child = Command::new(&agent.session_program)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .spawn()?;
    let process = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Process::of);
    if !slot.spawned(process) {
        slot.cancel();
    }
    Ok(Spawned { child, input: UnixStream::from_std(ours)? })
}

/// Gives the spec, waits for the answer. Whatever goes wrong, nothing is left of the attempt.
async fn converse(
    agent: &Agent,
    slot: &Slot,
    Spawned { mut child, mut input }: Spawned,
    spec: &Spec,
    longest: Duration,
) -> Result<Reply, Refused> {
    let stdout = child.stdout.take();
    let talk = async {
        let stdout = stdout.ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(&lines::line(spec).map_err(io::Error::other)?).await?;
        drop(input);
        let mut line = Vec::new();
        let bound = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
        BufReader::new(stdout).take(bound).read_until(b'\n', &mut line).await?;
        serde_json::from_slice::<Reply>(&line).map_err(io::Error::other)
    };
    let failed = match timeout(longest, talk).await {
        Ok(Ok(reply)) => {
            // It answers when it is ready, or when nothing is left; in either case it is reaped when it goes.
            tokio::spawn(async move { child.wait().await });
            return Ok(reply);
        }
        Ok(Err(_)) if slot.is_cancelled() => {
            Refused::new(Refusal::Cancelled, "the start was cancelled")
        }
        Ok(Err(error)) => {
            Refused::new(Refusal::Internal, format!("vsm-session ended without an answer: {error}"))
        }
        Err(_) => {
            let detail = format!(
                "the session was not ready within {} s; PAM or the name service hangs",
                longest.as_secs()
            );
            Refused::new(Refusal::Internal, detail)
        }
    };
    // Fails only if it is gone.
    let _ = child.start_kill();
    // Killed processes end; one that waits for a dead disk is left to the kernel.
    let _ = timeout(CLEAN_MAX, child.wait()).await;
    let record = agent.store.records().ok().and_then(|all| {
        all.into_iter().find(|(id, _)| *id == slot.id).and_then(|(_, record)| record.ok())
    });
    link::sweep(agent, slot.id, record).await;
    Err(failed)
}
