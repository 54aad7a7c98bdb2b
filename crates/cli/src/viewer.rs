//! A local unix socket for a viewer, and the viewer.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::unistd::Uid;
use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::{UnixListener, UnixStream},
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{
    exit::{CANNOT_WRITE, Failure, NOT_FOUND, SOFTWARE, USAGE},
    screen,
    ssh::{Farewell, Pipe},
};

/// How long a viewer may take to see that its desktop is gone.
const VIEWER_END_MAX: Duration = Duration::from_secs(5);
/// What is missing where there is no viewer.
const NO_VIEWER: &str = "no viewer is installed: install tigervnc-viewer, name one with --viewer, or use --no-viewer or --screenshot";
/// Viewers that take the path of a unix socket, best first.
const KNOWN: [&str; 2] = ["vncviewer", "xtigervncviewer"];

/// The directory of this user's sockets: theirs alone. After `su` the runtime directory of the environment is another
/// user's; then it is the one that there is without any.
///
/// # Errors
/// If neither can be made, or the last one belongs to somebody else.
pub fn socket_dir() -> Result<PathBuf, Failure> {
    let own = Uid::current().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|dir| dir.is_absolute() && dir.is_dir());
    if let Some(dir) = runtime.map(|dir| dir.join("vsm"))
        && private(&dir, own).is_ok()
    {
        return Ok(dir);
    }
    let dir = std::env::temp_dir().join(format!("vsm-{own}"));
    match private(&dir, own) {
        Ok(()) => Ok(dir),
        Err(why) => Err(Failure::new(CANNOT_WRITE, format!("cannot use {}: {why}", dir.display()))),
    }
}

/// Makes the directory, or says why it is not one of this user's alone.
fn private(dir: &Path, own: u32) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| error.to_string())?;
    let found = fs::symlink_metadata(dir).map_err(|error| error.to_string())?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err("it is not a directory of yours alone (mode 0700)".into());
    }
    Ok(())
}

/// The command line of the viewer: the one given, else the first that is installed; none = there is none.
fn command(given: Option<&str>) -> Option<Vec<OsString>> {
    if let Some(given) = given {
        return Some(given.split_whitespace().map(Into::into).collect());
    }
    KNOWN.into_iter().find(|name| found(name)).map(|name| vec![name.into()])
}

/// Whether there is such a program.
fn found(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// The viewer to run, and whether it can show anything: all that can be known before a desktop is asked for.
///
/// # Errors
/// If there is no such program, no display, or no place for its socket.
pub fn ready(given: Option<&str>) -> Result<Vec<OsString>, Failure> {
    let no = |why: &str| Err(Failure::new(NOT_FOUND, why));
    let Some(command) = command(given) else { return no(NO_VIEWER) };
    let Some(program) = command.first() else {
        return Err(Failure::new(USAGE, "the viewer's command line is empty"));
    };
    if !found(&program.to_string_lossy()) {
        return no(&format!(
            "cannot run the viewer {}: there is no such program",
            program.display()
        ));
    }
    // What is given may need none.
    if given.is_none() {
        let display = std::env::var("DISPLAY").unwrap_or_default();
        if display.is_empty() {
            return no(
                "there is no display to show it on (DISPLAY is not set): run this at your screen, or use --no-viewer or \
                 --screenshot",
            );
        }
        if !screen::may_be(&display) {
            return no(&format!(
                "there is no display {display} to show it on (DISPLAY): run this at your screen, or use --no-viewer or \
                 --screenshot"
            ));
        }
    }
    socket_dir().map(|_| command)
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
    let host_ended = AtomicBool::new(false);
    let bridge = async {
        let (stream, _) = listener.accept().await?;
        bridge(stream, &mut pipe, &host_ended).await
    };
    let mut stop = signal(SignalKind::terminate()).map_err(io)?;
    let (left, done) = tokio::select! {
        biased;
        // The desktop lives on; what is ours goes.
        _ = tokio::signal::ctrl_c() => return Ok(Farewell::Plain),
        _ = stop.recv() => return Ok(Farewell::Plain),
        // One that ends because its connection did has not left.
        status = viewer.wait() => (!host_ended.load(Ordering::Relaxed), match status {
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

/// Joins viewer and host until both have ended, or one breaks; `host_ended` becomes true when the host is the first.
async fn bridge(
    stream: UnixStream,
    pipe: &mut Pipe,
    host_ended: &AtomicBool,
) -> std::io::Result<()> {
    let (mut from_viewer, mut to_viewer) = stream.into_split();
    let (mut from_host, mut to_host) = split(pipe);
    let out = async {
        copy(&mut from_viewer, &mut to_host).await?;
        to_host.shutdown().await
    };
    let back = async {
        copy(&mut from_host, &mut to_viewer).await?;
        host_ended.store(true, Ordering::Relaxed);
        to_viewer.shutdown().await
    };
    tokio::try_join!(out, back).map(drop)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ssh::{self, SshOptions, Target};

    /// One that has a helper, which holds its connection a little longer.
    const VIEWER: &str = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new($ARGV[0]) or exit 1; \
                          if (!fork) { close STDOUT; close STDERR; sleep 1; exit 0 } sysread($s, my $b, 1)";

    #[tokio::test]
    async fn a_viewer_that_ends_as_its_connection_did_has_not_left() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("ssh");
        fs::write(&program, "#!/bin/sh\nread line\necho ok\nsleep 0.5\nexit 255\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let options = SshOptions { ssh: program.into(), ..SshOptions::default() };
        let target = Target::Session("x".to_owned());
        let pipe = ssh::open(&options, &"tlha".parse().unwrap(), &target).await.unwrap();
        let command = ["perl", "-e", VIEWER].map(OsString::from);
        let session = dir.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(run(&command, session, pipe).await.unwrap(), Farewell::Lost);
    }

    #[test]
    fn a_directory_is_the_users_alone_or_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let own = Uid::current().as_raw();
        let fresh = dir.path().join("a/b");
        assert_eq!(private(&fresh, own), Ok(()));
        assert!(private(&fresh, own + 1).is_err());
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private(&fresh, own).is_err());
    }

    #[test]
    fn a_viewer_that_is_not_there_is_found_out_first() {
        let failure = ready(Some("/nonexistent/viewer -x")).unwrap_err();
        assert_eq!(failure.code, NOT_FOUND);
        assert!(failure.text.contains("/nonexistent/viewer"), "{failure}");
        assert_eq!(ready(Some(" ")).unwrap_err().code, USAGE);
    }
}
