//! One hook as a process: bounded in time and in what is kept of its words.

use std::{
    collections::BTreeMap,
    io::{self, PipeReader},
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    net::unix::pipe::Receiver,
    process::{Child, Command},
};
use vsm_daemon::program;

use crate::message;

/// What is read at a time; as much as a pipe holds.
const CHUNK: usize = 64 << 10;
/// Lines of one hook that are logged.
const LINES_MAX: usize = 20;
/// Bytes of a line that are logged.
const LINE_MAX: usize = 500;
/// How long a killed process may take to go; one that takes longer hangs in the kernel.
const KILLED_MAX: Duration = Duration::from_secs(2);

/// How a hook ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<(), HookError>,
    pub(crate) said: Said,
}

/// Why a hook failed; the words stand behind its name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("cannot be run: {0}")]
    NotRun(#[source] io::Error),
    #[error("is lost: {0}")]
    Lost(#[source] io::Error),
    #[error("took longer than {} s (/vsmserver/hooks/timeout) and was ended", .0.as_secs())]
    TooLong(Duration),
    #[error("failed ({0})")]
    Failed(ExitStatus),
    #[error("was ended, as the broker did not wait for it any more")]
    Unwanted,
}

/// What a hook has said, as far as it is kept.
#[derive(Debug, Default)]
pub(crate) struct Said {
    lines: Vec<Vec<u8>>,
    left_out: usize,
}

impl Said {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let fresh = self.lines.last().is_none_or(|line| line.ends_with(b"\n"));
            if fresh && self.lines.len() < LINES_MAX {
                self.lines.push(Vec::new());
            }
            let room = match self.lines.last_mut() {
                Some(line) if !line.ends_with(b"\n") => {
                    let kept = piece.len().min(LINE_MAX.saturating_sub(line.len()));
                    line.extend(&piece[..kept]);
                    if piece.ends_with(b"\n") && kept < piece.len() {
                        line.push(b'\n');
                    }
                    kept
                }
                Some(_) | None => 0,
            };
            self.left_out += piece.len() - room;
        }
    }

    /// The same as it is told to the broker.
    pub(crate) fn told(self) -> message::Said {
        let text = |line: &Vec<u8>| String::from_utf8_lossy(line).into_owned();
        message::Said { lines: self.lines.iter().map(text).collect(), left_out: self.left_out }
    }
}

/// Runs a program with this environment and no other, at most so long, and as long as nobody says that it is unwanted.
pub(crate) async fn run(
    program: &Path,
    environment: &BTreeMap<String, String>,
    timeout: Duration,
    unwanted: impl Future<Output = ()>,
) -> Ended {
    let mut said = Said::default();
    let result = match spawn(program, environment) {
        Ok((child, output)) => follow(child, &output, &mut said, timeout, unwanted).await,
        Err(error) => Err(HookError::NotRun(error)),
    };
    Ended { result, said }
}

/// In a process group of its own, so that all that it starts can be ended with it.
fn spawn(path: &Path, environment: &BTreeMap<String, String>) -> io::Result<(Child, Receiver)> {
    // It may have waited for its turn since it was found.
    program::check(path).map_err(io::Error::other)?;
    let (reader, writer): (PipeReader, _) = io::pipe()?;
    let mut command = Command::new(path);
    command.env_clear().envs(environment).current_dir("/").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    Ok((child, Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

async fn follow(
    mut child: Child,
    output: &Receiver,
    said: &mut Said,
    timeout: Duration,
    unwanted: impl Future<Output = ()>,
) -> Result<(), HookError> {
    let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
    let mut unwanted = std::pin::pin!(unwanted);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            status = child.wait() => {
                // What it left in the pipe; whoever it left behind to write more is not waited for.
                take(output, said);
                let status = status.map_err(HookError::Lost)?;
                return if status.success() { Ok(()) } else { Err(HookError::Failed(status)) };
            }
            () = &mut deadline => {
                kill(&mut child).await;
                take(output, said);
                return Err(HookError::TooLong(timeout));
            }
            () = &mut unwanted => {
                kill(&mut child).await;
                return Err(HookError::Unwanted);
            }
            ready = output.readable(), if open => open = ready.is_ok() && take(output, said),
        }
    }
}

/// Takes one chunk; whether more may come.
fn take(output: &Receiver, said: &mut Said) -> bool {
    let mut chunk = vec![0; CHUNK];
    match output.try_read(&mut chunk) {
        Ok(0) => false,
        Ok(count) => {
            said.push(chunk.get(..count).unwrap_or_default());
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Ends the group. Its leader has not been waited for, so its number is still its own.
async fn kill(child: &mut Child) {
    if let Some(group) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // Gone is as good.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    drop(tokio::time::timeout(KILLED_MAX, child.wait()).await);
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    struct Hook {
        dir: tempfile::TempDir,
    }

    impl Hook {
        fn new(body: &str) -> Self {
            let hook = Self { dir: tempfile::tempdir().unwrap() };
            fs::write(hook.path(), format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(hook.path(), fs::Permissions::from_mode(0o700)).unwrap();
            hook
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join("hook")
        }

        async fn run(&self, timeout: Duration) -> Ended {
            let environment = BTreeMap::from([
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("VSM_USER".to_owned(), "ann".to_owned()),
                ("DIR".to_owned(), self.dir.path().display().to_string()),
            ]);
            run(&self.path(), &environment, timeout, std::future::pending()).await
        }
    }

    fn text(said: &Said) -> String {
        String::from_utf8(said.lines.concat()).unwrap()
    }

    #[tokio::test]
    async fn it_has_the_environment_that_it_was_given_and_nothing_else() {
        let ended = Hook::new("pwd; env | grep -v -e ^_= -e ^PWD= | sort; cat").run(LONG).await;
        ended.result.unwrap();
        let text = text(&ended.said);
        let names: Vec<_> = text.lines().map(|line| line.split('=').next().unwrap()).collect();
        assert_eq!(names, ["/", "DIR", "PATH", "VSM_USER"], "{text}");
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_words() {
        let ended = Hook::new("echo no such printer >&2; exit 3").run(LONG).await;
        assert_eq!(ended.result.unwrap_err().to_string(), "failed (exit status: 3)");
        assert_eq!(text(&ended.said), "no such printer\n");
        let ended = Hook::new("kill -9 $$").run(LONG).await;
        assert!(ended.result.unwrap_err().to_string().contains("signal: 9"));
        let nobody = std::future::pending();
        let gone = run(Path::new("/nonexistent/hook"), &BTreeMap::new(), LONG, nobody).await;
        assert!(gone.result.unwrap_err().to_string().starts_with("cannot be run: "));
    }

    #[tokio::test]
    async fn megabytes_are_read_and_not_kept() {
        let body = "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done";
        let ended = Hook::new(body).run(LONG).await;
        ended.result.unwrap();
        let kept: usize = ended.said.lines.iter().map(Vec::len).sum();
        assert_eq!(ended.said.lines.len(), LINES_MAX);
        assert!(kept <= LINES_MAX * (LINE_MAX + 1), "{kept}");
        assert!(ended.said.left_out > 3_900_000, "{}", ended.said.left_out);
    }

    /// With all that it started, also what ignores every signal that can be ignored.
    #[tokio::test]
    async fn one_that_hangs_is_ended_with_its_children() {
        let body = "trap '' TERM HUP\n(trap '' TERM HUP; echo $$ > $DIR/main; exec sleep 1000) &\n\
                    echo $! > $DIR/child\necho hangs\nwait; sleep 1000";
        let hook = Hook::new(body);
        let ended = hook.run(Duration::from_secs(1)).await;
        assert!(ended.result.unwrap_err().to_string().contains("took longer than 1 s"));
        assert_eq!(text(&ended.said), "hangs\n");
        let child = fs::read_to_string(hook.dir.path().join("child")).unwrap();
        let stat = || fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        let until = vsm_daemon::clock::now() + LONG;
        // It was killed; whoever reaps it may take a moment.
        while stat().is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(vsm_daemon::clock::now() < until, "its child lives");
            tokio::task::yield_now().await;
        }
    }

    /// A program that it leaves in the background, with our pipe in its hands, is not waited for.
    #[tokio::test]
    async fn what_it_leaves_behind_is_not_waited_for() {
        let hook = Hook::new("sleep 1000 &\necho $! > $DIR/child\necho done");
        let ended = hook.run(LONG).await;
        assert_eq!(text(&ended.said), "done\n");
        ended.result.unwrap();
        let child = fs::read_to_string(hook.dir.path().join("child")).unwrap();
        let child = Pid::from_raw(child.trim().parse().unwrap());
        nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
    }
}
