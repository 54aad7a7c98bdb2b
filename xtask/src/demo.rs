//! `cargo xtask demo`: a user logs in, gets a desktop, works, leaves and comes back to it.
//!
//! Everything runs on real parts: sshd, broker, agent, Xvnc, a window manager, a terminal. The
//! pictures are taken by the product's own client.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::clock::wait_for;
use crate::cluster::{Cluster, ClusterSpec};
use crate::command::capture;
use crate::compile::{self, Profile};
use crate::progress::Progress;
use crate::setup;

/// How long broker and agents may take until the first login works.
const SERVICE_WAIT: Duration = Duration::from_secs(20);
/// How long a desktop may take to draw its terminal, or a terminal to obey.
const DESKTOP_WAIT: Duration = Duration::from_secs(20);
/// How long one command in the terminal may take.
const COMMAND_WAIT: Duration = Duration::from_secs(2);
/// What every PNG file starts with.
const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End with one line of JSON on stdout
    #[arg(long)]
    json: bool,
    /// Leave the cluster `demo` standing
    #[arg(long)]
    keep: bool,
    /// Take the programs as they are
    #[arg(long)]
    no_build: bool,
}

/// What `vsm connect --json` prints, as far as the demo looks at it.
#[derive(Debug, Clone, Deserialize)]
struct Connected {
    session: String,
    agent: String,
    display: u32,
    created: bool,
}

/// The demo's last line.
#[derive(Debug, Serialize)]
struct Outcome {
    session: String,
    agent: String,
    login_ms: u128,
    reconnect_same: bool,
    screenshots: [PathBuf; 2],
}

/// Tells the story; the cluster is taken away at its end, however it ends.
pub(crate) fn demo(options: &Options) -> Result<()> {
    setup::setup(false)?;
    if !options.no_build {
        compile::build(Profile::Dev)?;
    }
    let progress = Progress::new(true);
    let mut spec = ClusterSpec::new("demo", compile::helper()?);
    spec.fresh = true;
    progress.step("a broker, two agents and a client come up, each a host of its own");
    let cluster = Cluster::up(&spec)?;
    let outcome = story(&cluster, &progress);
    if options.keep {
        progress.step("the cluster stays: cargo xtask cluster status --name demo");
        cluster.keep();
    } else {
        cluster.down()?;
        progress.step("the cluster is gone");
    }
    let outcome = outcome?;
    if options.json {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    if !outcome.reconnect_same {
        bail!("the second login did not reach the desktop of the first");
    }
    Ok(())
}

fn story(cluster: &Cluster, progress: &Progress) -> Result<Outcome> {
    let (login, login_ms) = first_login(cluster, progress)?;
    let Connected { session, agent, display, .. } = login.clone();
    progress.step(format!(
        "alice has desktop :{display} on {agent} after {login_ms} ms (session {session})"
    ));
    let desktop = Desktop::find(cluster, &agent, display)?;
    let terminal = desktop.terminal()?;
    progress.step("its window manager and a terminal are on the screen");
    let first = picture(cluster, "first.png")?;
    progress.step(format!("a picture of it: {}", first.path.display()));
    desktop.type_in(&terminal, "echo \"$(id -un) was here\" | tee was-here")?;
    progress.step("alice typed a command in the terminal and left");
    let again = picture(cluster, "again.png")?;
    let reconnect_same = again.to.session == session
        && again.to.agent == agent
        && !again.to.created
        && desktop.terminal()? == terminal;
    if again.image == first.image {
        bail!("{} does not show what was typed", again.path.display());
    }
    progress.step(format!("alice is back at the same desktop: {}", again.path.display()));
    Ok(Outcome { session, agent, login_ms, reconnect_same, screenshots: [first.path, again.path] })
}

/// Logs in as soon as the service is there, and times the login that worked.
fn first_login(cluster: &Cluster, progress: &Progress) -> Result<(Connected, u128)> {
    progress.step("alice logs in: vsm connect alice@tlha");
    wait_for("the first login", SERVICE_WAIT, || {
        let watch = Progress::new(false);
        let connected = connect(cluster, "login.png").map_err(|error| format!("{error:#}"))?;
        Ok((connected, watch.elapsed_ms()))
    })
}

/// Connects, takes a picture of the desktop into alice's home on the client, and leaves.
fn connect(cluster: &Cluster, file: &str) -> Result<Connected> {
    let words = ["vsm", "connect", "--json", "--screenshot", file, "alice@tlha"];
    let answer = cluster.output("client", "alice", &words)?;
    let line = answer.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("vsm connect printed {answer:?}"))
}

/// A picture that a connection took, copied out of the cluster.
struct Picture {
    to: Connected,
    path: PathBuf,
    image: Vec<u8>,
}

fn picture(cluster: &Cluster, file: &str) -> Result<Picture> {
    let to = connect(cluster, file)?;
    let image = capture(cluster.command("client", "alice", &["cat", file])?.stdin(Stdio::null()))?;
    let image = image.stdout;
    if !image.starts_with(PNG_MAGIC) {
        bail!("{file}: vsm connect --screenshot left no PNG picture");
    }
    let helper = compile::helper()?;
    let target = helper.parent().and_then(Path::parent).context("the target directory")?;
    let path = target.join("demo").join(file);
    std::fs::create_dir_all(target.join("demo"))?;
    std::fs::write(&path, &image).with_context(|| path.display().to_string())?;
    Ok(Picture { to, path, image })
}

/// A running desktop, reached as its own programs reach it.
struct Desktop<'a> {
    cluster: &'a Cluster,
    agent: String,
    /// `DISPLAY=…` and `XAUTHORITY=…`.
    environment: [String; 2],
}

impl<'a> Desktop<'a> {
    /// Takes display and cookie from the environment of one of alice's programs on the agent.
    fn find(cluster: &'a Cluster, agent: &str, display: u32) -> Result<Self> {
        let script = format!(
            "for p in $(pgrep -u alice); do tr '\\0' '\\n' < /proc/$p/environ 2>/dev/null \
             | grep -qx 'DISPLAY=:{display}' && tr '\\0' '\\n' < /proc/$p/environ \
             | grep -m1 ^XAUTHORITY= && exit 0; done; exit 1"
        );
        let cookie = wait_for("a program on the desktop", DESKTOP_WAIT, || {
            let found = cluster.output(agent, "root", &["sh", "-c", &script]);
            found.map_err(|_| format!("alice has none with DISPLAY=:{display} on {agent}"))
        })?;
        let environment = [format!("DISPLAY=:{display}"), cookie];
        Ok(Self { cluster, agent: agent.to_owned(), environment })
    }

    fn xdotool(&self, words: &[&str]) -> Result<String> {
        let [display, cookie] = &self.environment;
        let words = [&["env", display, cookie, "xdotool"], words].concat();
        self.cluster.output(&self.agent, "alice", &words)
    }

    /// The terminal's window, once it is on the screen.
    fn terminal(&self) -> Result<String> {
        wait_for("the terminal's window", DESKTOP_WAIT, || {
            let search = ["search", "--onlyvisible", "--class", "xterm"];
            let windows = self.xdotool(&search).map_err(|error| format!("{error:#}"))?;
            windows.lines().next().map(str::to_owned).ok_or_else(|| "none yet".to_owned())
        })
    }

    /// Types a line that leaves the file `was-here`, until the file proves that it was obeyed:
    /// keys typed while the shell still starts are lost.
    fn type_in(&self, window: &str, line: &str) -> Result<()> {
        self.xdotool(&["windowactivate", "--sync", window])?;
        wait_for("the terminal to obey", DESKTOP_WAIT, || {
            self.type_line(line).map_err(|error| format!("{error:#}"))?;
            wait_for("the command's end", COMMAND_WAIT, || self.was_here())
                .map_err(|error| format!("{error:#}"))
        })
    }

    fn type_line(&self, line: &str) -> Result<()> {
        self.xdotool(&["key", "ctrl+u"])?;
        self.xdotool(&["type", "--delay", "20", &format!("{line}\n")])?;
        Ok(())
    }

    fn was_here(&self) -> Result<(), String> {
        match self.cluster.output(&self.agent, "alice", &["cat", "was-here"]) {
            Ok(text) if text == "alice was here" => Ok(()),
            Ok(text) => Err(format!("was-here has {text:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}
