//! The peer of a start: the X server alone, run by root as the same user with the same arguments and environment,
//! from `exec` to the first 12 bytes of RFB. How it is run is copied from a session that the product started.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::{fs::chown, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use serde::{Deserialize, Serialize};
use vsm_daemon::clock;

use crate::millis;

/// Length of an RFB greeting such as `RFB 003.008\n`.
const GREETING_LEN: usize = 12;
/// How often a connection is tried again, as `vsm-session` does.
const CONNECT_EVERY_MS: u8 = 1;
/// An X server that takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(60);
/// Displays that the product does not use.
const DISPLAY_MIN: usize = 3000;
/// Name of the X cookie's file.
const COOKIE: &str = "Xauthority";
/// By this variable vsmagent knows its sessions' processes, which a bare X server is not.
const SESSION_VARIABLE: &str = "VSM_SESSION_ID";
/// Where the sockets are.
const DIR: &str = "/run/vsm-bench";

/// How an X server was run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Template {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    user: String,
    display: String,
    /// The folder with the socket and the cookie.
    dir: String,
    /// The X cookie, which is gone when the session is.
    cookie: Vec<u8>,
}

/// What to start.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How, as `template` printed it
    #[arg(long)]
    template: String,
    /// Whose; one X server each
    #[arg(required = true)]
    users: Vec<String>,
}

/// How long each took.
#[derive(Debug, Serialize)]
pub(crate) struct Bare {
    /// From the first `exec` to each greeting, in milliseconds.
    each_ms: Vec<f64>,
    /// From the first `exec` to the last greeting, in milliseconds.
    all_ms: f64,
}

fn words(path: &Path) -> Result<Vec<String>> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// The one X server of a session: its folder under `/proc`.
fn server() -> Result<PathBuf> {
    let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let is_server = |dir: &PathBuf| {
        words(&dir.join("cmdline")).is_ok_and(|all| all.iter().any(|word| word == "-rfbunixpath"))
    };
    all.into_iter().find(is_server).context("no session runs here")
}

fn socket(arguments: &[String]) -> Result<&Path> {
    let path = arguments.iter().skip_while(|word| *word != "-rfbunixpath").nth(1);
    path.map(Path::new).context("the X server has no socket")
}

/// The one X server of a session: its pid and its socket.
pub(crate) fn running() -> Result<(i32, PathBuf)> {
    let dir = server()?;
    let pid = dir.file_name().and_then(|name| name.to_str()?.parse().ok()).context("pid")?;
    Ok((pid, socket(&words(&dir.join("cmdline"))?)?.to_owned()))
}

/// Reads how the one X server of a session runs.
pub(crate) fn template() -> Result<Template> {
    let dir = server()?;
    let arguments: Vec<String> = words(&dir.join("cmdline"))?.into_iter().skip(1).collect();
    let environment: Vec<(String, String)> = words(&dir.join("environ"))?
        .iter()
        .filter_map(|word| word.split_once('='))
        .filter(|(name, _)| *name != SESSION_VARIABLE)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let of =
        |name: &str| environment.iter().find(|known| known.0 == name).map(|known| known.1.clone());
    let folder = socket(&arguments)?.parent().context("its folder")?;
    Ok(Template {
        program: fs::read_link(dir.join("exe"))?,
        user: of("USER").context("USER")?,
        display: of("DISPLAY").context("DISPLAY")?,
        dir: folder.display().to_string(),
        cookie: fs::read(folder.join(COOKIE)).context("its cookie")?,
        arguments,
        environment,
    })
}

/// One X server that is awaited.
struct Server {
    child: Child,
    socket: PathBuf,
    stream: Option<UnixStream>,
    got: usize,
    ready: Option<Instant>,
}

impl Server {
    /// Looks whether the greeting has come by now.
    fn look(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the X server for {} ended with {status}", self.socket.display());
        }
        if self.stream.is_none() {
            let Ok(stream) = UnixStream::connect(&self.socket) else { return Ok(()) };
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.read(&mut [0; GREETING_LEN]) {
            Ok(count) => self.got += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if self.got >= GREETING_LEN {
            self.ready = Some(clock::now());
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A signal that lets it remove its lock file; it fails only if the server is gone.
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
        if let Some(dir) = self.socket.parent() {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// Everything that can be done before the clock starts: folder, cookie, command line.
fn prepare(template: &Template, name: &str, number: usize) -> Result<(Command, PathBuf)> {
    let user = User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
    let dir = format!("{DIR}/{name}");
    fs::create_dir_all(&dir).with_context(|| dir.clone())?;
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let cookie = Path::new(&dir).join(COOKIE);
    fs::write(&cookie, &template.cookie).context("the cookie")?;
    chown(&cookie, Some(uid), Some(gid))?;
    chown(&dir, Some(uid), Some(gid))?;
    let display = format!(":{}", DISPLAY_MIN + number);
    let own = |word: &String| match word {
        word if *word == template.display => display.clone(),
        word => word.replace(&template.dir, &dir).replace(&template.user, name),
    };
    let mut command = Command::new(&template.program);
    command.args(template.arguments.iter().map(own)).env_clear();
    command.envs(template.environment.iter().map(|(name, value)| (name, own(value))));
    command.current_dir(&user.dir).uid(uid).gid(gid);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((command, Path::new(&dir).join("rfb.sock")))
}

/// Starts them and waits for their greetings.
pub(crate) fn run(options: &Options) -> Result<Bare> {
    let template: Template = serde_json::from_str(&options.template).context("the template")?;
    let prepared: Vec<_> = (0..)
        .zip(&options.users)
        .map(|(number, user)| prepare(&template, user, number))
        .collect::<Result<_>>()?;
    let from = clock::now();
    let mut servers = Vec::new();
    for (mut command, socket) in prepared {
        let child = command.spawn().context("the X server")?;
        servers.push(Server { child, socket, stream: None, got: 0, ready: None });
    }
    while servers.iter().any(|server| server.ready.is_none()) {
        ensure!(clock::now() < from + DEADLINE, "an X server is not ready within {DEADLINE:?}");
        for server in servers.iter_mut().filter(|server| server.ready.is_none()) {
            server.look()?;
        }
        let waiting = servers.iter().filter(|server| server.ready.is_none());
        let streams: Vec<_> = waiting.filter_map(|server| server.stream.as_ref()).collect();
        let mut fds: Vec<_> =
            streams.iter().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut fds, CONNECT_EVERY_MS)?;
    }
    let each_ms: Vec<f64> =
        servers.iter().filter_map(|server| server.ready).map(|ready| millis(from, ready)).collect();
    let all_ms = each_ms.iter().copied().fold(0.0, f64::max);
    Ok(Bare { each_ms, all_ms })
}
