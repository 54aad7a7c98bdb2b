//! `vsm connect --no-viewer`: a socket that stays after the command has ended. A process in the background holds it and
//! opens ssh to the session host when a viewer connects.
//!
//! One forwarder serves one session: it holds a lock file next to the socket, and a second `vsm connect` that finds it
//! locked gives out the same socket. Listener and lock are handed over as the forwarder's standard input and output,
//! so that there is no moment at which nobody holds them.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use tokio::{
    io::copy_bidirectional,
    net::UnixListener,
    task::{JoinSet, LocalSet},
    time::timeout,
};

use crate::{
    door::Door,
    exit::{CANNOT_WRITE, Failure, NOT_FOUND, SOFTWARE},
    one_time::OneTimeKey,
    ssh::{Destination, SshOptions, TRY_HOST_MAX},
    viewer::{self, RemoveOnDrop},
};

/// Without a viewer for this long a forwarder ends.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Viewers at a time.
const VIEWERS_MAX: usize = 16;

/// Arguments of the forwarder, which `vsm connect` starts.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// Session host
    #[arg(long)]
    to: Destination,
    /// Session
    #[arg(long)]
    session: String,
    /// Socket that is standard input
    #[arg(long)]
    socket: PathBuf,
    /// Broker through whose host the session host is reached
    #[arg(long)]
    via: Option<Destination>,
    /// Folder of the key for the first viewer
    #[arg(long)]
    one_time: Option<PathBuf>,
    #[command(flatten)]
    ssh: SshOptions,
}

/// Gives the socket of the session's forwarder, starting one if there is none.
///
/// # Errors
/// If the socket cannot be made.
pub fn start(
    options: &SshOptions,
    to: &Destination,
    session: &str,
    door: Door,
) -> Result<PathBuf, Failure> {
    let dir = viewer::socket_dir()?;
    let socket = dir.join(format!("{session}.sock"));
    let cannot = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(CANNOT_WRITE, format!("cannot use {}: {error}", path.display()))
    };
    let lock_path = dir.join(format!("{session}.lock"));
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&lock_path)
        .map_err(|error| cannot(&lock_path, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(socket),
        Err(TryLockError::Error(error)) => return Err(cannot(&lock_path, &error)),
    }
    // Nobody holds the lock: a socket that is still there is stale.
    let _ = fs::remove_file(&socket);
    let listener = StdListener::bind(&socket).map_err(|error| cannot(&socket, &error))?;
    let own =
        std::env::current_exe().map_err(|error| cannot(Path::new("/proc/self/exe"), &error))?;
    let mut command = Command::new(own);
    command.args(["forward", "--to", &to.to_string(), "--session", session, "--socket"]);
    command.arg(&socket).arg("--ssh").arg(&options.ssh).args(options.arguments());
    if let Some(broker) = &door.via {
        command.arg("--via").arg(broker.to_string());
    }
    if let Some(key) = door.key {
        // The forwarder's from here on; what it does not take is swept.
        command.arg("--one-time").arg(key.leave());
    }
    command.stdin(OwnedFd::from(listener)).stdout(lock).stderr(Stdio::null());
    command
        .spawn()
        .map_err(|error| Failure::new(SOFTWARE, format!("cannot start the forwarder: {error}")))?;
    Ok(socket)
}

/// The forwarder: serves viewers until the session is over or nobody has come for an hour.
///
/// # Errors
/// If standard input is not the socket.
pub async fn run(arguments: ForwardArgs) -> Result<(), Failure> {
    LocalSet::new().run_until(serve_all(arguments)).await
}

async fn serve_all(arguments: ForwardArgs) -> Result<(), Failure> {
    // Its own process session: the terminal that it was started from may close.
    let _ = nix::unistd::setsid();
    let not_ours = |error: std::io::Error| {
        Failure::new(SOFTWARE, format!("standard input is no socket: {error}"))
    };
    let listener =
        std::io::stdin().as_fd().try_clone_to_owned().map(StdListener::from).map_err(not_ours)?;
    listener.set_nonblocking(true).map_err(not_ours)?;
    let listener = UnixListener::from_std(listener).map_err(not_ours)?;
    let _lock = std::io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(not_ours)?;
    let _cleanup = RemoveOnDrop(arguments.socket.clone());
    // For the first one. Whoever comes when it is too late for the key has to get in by other means.
    let mut key = arguments.one_time.and_then(|dir| OneTimeKey::take(dir).ok());
    let patience = TRY_HOST_MAX;
    let mut door = || Door { key: key.take(), via: arguments.via.clone(), patience };
    let mut viewers = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = viewers.join_next() => {
                if matches!(ended, Ok(Err(Failure { code: NOT_FOUND, .. }))) {
                    return Ok(());
                }
            }
            accepted = timeout(IDLE_MAX, listener.accept()), if viewers.len() < VIEWERS_MAX => match accepted {
                Ok(Ok((stream, _))) => drop(viewers.spawn_local(serve(arguments.ssh.clone(), arguments.to.clone(), arguments.session.clone(), door(), stream))),
                Ok(Err(_)) => return Ok(()),
                Err(_) if viewers.is_empty() => return Ok(()),
                Err(_) => {}
            },
        }
    }
}

async fn serve(
    options: SshOptions,
    to: Destination,
    session: String,
    door: Door,
    mut stream: tokio::net::UnixStream,
) -> Result<(), Failure> {
    let mut pipe = door.open(&options, &to, &session).await?;
    drop(door);
    // A viewer that went away, or a session: either way this viewer is served.
    let _ = copy_bidirectional(&mut stream, &mut pipe).await;
    Ok(())
}
