//! A local unix socket for a viewer, and the viewer.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::Uid;
use tokio::{
    io::copy_bidirectional,
    net::UnixListener,
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{
    exit::{CANNOT_WRITE, Failure, NOT_FOUND, SOFTWARE, USAGE},
    ssh::{Farewell, Pipe},
};

/// How long a viewer may take to see that its desktop is gone.
const VIEWER_END_MAX: Duration = Duration::from_secs(5);
/// Viewers that take the path of a unix socket, best first.
const KNOWN: [&str; 2] = ["vncviewer", "xtigervncviewer"];

/// The directory of this user's sockets: theirs alone.
///
/// # Errors
/// If it cannot be made, or belongs to somebody else.
pub fn socket_dir() -> Result<PathBuf, Failure> {
    let own = Uid::current().as_raw();
    let dir = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_dir() => PathBuf::from(dir).join("vsm"),
        _ => std::env::temp_dir().join(format!("vsm-{own}")),
    };
    let cannot =
        |why: String| Failure::new(CANNOT_WRITE, format!("cannot use {}: {why}", dir.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|error| cannot(error.to_string()))?;
    let found = fs::symlink_metadata(&dir).map_err(|error| cannot(error.to_string()))?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(cannot("it is not a directory of yours alone (mode 0700)".into()));
    }
    Ok(dir)
}

/// The command line of the viewer: the one given, else the first that is installed; none = there is none.
#[must_use]
pub fn command(given: Option<&str>) -> Option<Vec<OsString>> {
    if let Some(given) = given {
        return Some(given.split_whitespace().map(Into::into).collect());
    }
    let path = std::env::var_os("PATH")?;
    let installed = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    KNOWN.into_iter().find(installed).map(|name| vec![name.into()])
}

/// Runs the viewer on the pipe until either ends, and tells how.
///
/// # Errors
/// If the socket cannot be made or the viewer cannot be run.
pub async fn run(command: &[OsString], session: &str, mut pipe: Pipe) -> Result<Farewell, Failure> {
    let path = socket_dir()?.join(format!("{session}.{}.sock", std::process::id()));
    let io = |error: std::io::Error| {
        Failure::new(CANNOT_WRITE, format!("cannot use {}: {error}", path.display()))
    };
    let listener = UnixListener::bind(&path).map_err(io)?;
    let _cleanup = RemoveOnDrop(path.clone());
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(USAGE, "the viewer's command line is empty"));
    };
    let cannot = |error| {
        Failure::new(NOT_FOUND, format!("cannot run the viewer {}: {error}", program.display()))
    };
    let mut viewer = Command::new(program)
        .args(arguments)
        .arg(&path)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let bridge = async {
        let (mut stream, _) = listener.accept().await?;
        copy_bidirectional(&mut stream, &mut pipe).await
    };
    let mut stop = signal(SignalKind::terminate()).map_err(io)?;
    let (left, done) = tokio::select! {
        biased;
        // The desktop lives on; what is ours goes.
        _ = tokio::signal::ctrl_c() => return Ok(Farewell::Plain),
        _ = stop.recv() => return Ok(Farewell::Plain),
        status = viewer.wait() => (true, match status {
            Ok(status) if status.success() => Ok(Farewell::Plain),
            Ok(status) => Err(Failure::new(SOFTWARE, format!("the viewer {} ended with {status}", program.display()))),
            Err(error) => Err(Failure::new(SOFTWARE, format!("the viewer is lost: {error}"))),
        }),
        // What it ended with matters less than what the other side has to say.
        _ = bridge => {
            // Give the viewer the moment that it needs to see the end and say so.
            drop(tokio::time::timeout(VIEWER_END_MAX, viewer.wait()).await);
            (false, Ok(Farewell::Plain))
        }
    };
    match pipe.finish().await {
        Farewell::Plain => done,
        // A viewer that left has left first.
        Farewell::Lost if left => done,
        farewell @ (Farewell::Lost
        | Farewell::Disconnected
        | Farewell::Replaced
        | Farewell::Ended
        | Farewell::Idle) => Ok(farewell),
    }
}

/// Removes a file when it goes out of scope.
#[derive(Debug)]
pub(crate) struct RemoveOnDrop(pub(crate) PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.0);
    }
}
