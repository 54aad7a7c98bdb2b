//! `cargo xtask demo`: the ninth step of setting a pair up. A user logs in at the resource name and works, the active
//! node's cable is pulled, and she logs in again and has the same desktop; the cable goes back, and the node catches
//! up. Another one sits at a browser meanwhile, and has not even to log in again.
//!
//! Everything runs on real parts: keepalived, sshd, brokers, agents, Xvnc, a window manager, a terminal. The
//! pictures are taken by the product's own client.

mod browser;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::browser::Desk;
use crate::clock::{self, wait_for};
use crate::cluster::web::Factors;
use crate::cluster::{Cluster, ClusterSpec, Fault};
use crate::command::capture;
use crate::compile::{self, Profile};
use crate::pair;
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
    /// Leave the cluster `demo` running
    #[arg(long)]
    keep: bool,
    /// Do not build; use the programs that are there
    #[arg(long)]
    no_build: bool,
    /// Without a browser, and do not install one
    #[arg(long)]
    no_browser: bool,
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
    same_after_failover: bool,
    failover_ms: Failover,
    resynced: bool,
    tables_equal: bool,
    screenshots: [PathBuf; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    browser: Option<browser::Report>,
}

/// From the fault on, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Failover {
    /// Until the other node has the resource address: keepalived's part.
    detection: u64,
    /// From there until it serves: the broker's part.
    promotion: u64,
    /// Until the user has the desktop again, by ssh at the resource name.
    total: u64,
}

/// Tells the story; the cluster is taken away at its end, however it ends.
pub(crate) fn demo(options: &Options) -> Result<()> {
    setup::setup(false)?;
    if !options.no_browser {
        setup::browsers(false)?;
    }
    if !options.no_build {
        compile::build(Profile::Dev)?;
    }
    let progress = Progress::new(true);
    let mut spec = ClusterSpec::pair("demo", compile::helper()?);
    spec.fresh = true;
    spec.web = (!options.no_browser).then_some(Factors::PasswordAndCode);
    progress.step(
        "two brokers with keepalived, three agents and a client come up, each a host of its own",
    );
    let cluster = Cluster::up(&spec)?;
    let outcome = story(&cluster, !options.no_browser, &progress);
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
    let browser_same = outcome.browser.as_ref().is_none_or(|it| it.same && it.asked == 0);
    let same = outcome.same_after_failover && browser_same;
    if !(same && outcome.resynced && outcome.tables_equal) {
        bail!("the failover did not go as it should: {outcome:?}");
    }
    Ok(())
}

fn story(cluster: &Cluster, with_browser: bool, progress: &Progress) -> Result<Outcome> {
    let active = pair::in_step(cluster, SERVICE_WAIT)?;
    let standby = pair::other(active);
    progress.step(format!("{active} has the address tlha and is active, {standby} follows"));
    let (login, login_ms) = first_login(cluster, progress)?;
    let Connected { session, agent, display, .. } = login;
    progress.step(format!(
        "alice has desktop :{display} on {agent} after {login_ms} ms (session {session})"
    ));
    let desktop = Desktop::find(cluster, "alice", &agent, display)?;
    let terminal = desktop.terminal()?;
    progress.step("its window manager and a terminal are on the screen");
    desktop.type_in(&terminal, "echo \"$(id -un) was here\" | tee was-here")?;
    let before = picture(cluster, "before.png")?;
    progress.step(format!("she typed a command; a picture of it: {}", before.path.display()));
    let desk = with_browser.then(|| sit_down(cluster, progress)).transpose()?;
    progress.step(format!("the cable of {active} is pulled"));
    let (failover_ms, back_ms) = fail_over(cluster, active, standby, desk.as_ref(), progress)?;
    let browser = desk.as_ref().zip(back_ms).map(|(desk, ms)| desk.report(ms)).transpose()?;
    let after = picture(cluster, "after.png")?;
    let same_after_failover = after.to.session == session
        && after.to.agent == agent
        && !after.to.created
        && desktop.terminal()? == terminal;
    progress.step(format!("alice is back at the same desktop: {}", after.path.display()));
    progress.step(format!("the cable of {active} goes back"));
    cluster.heal(&[])?;
    let resynced = pair::in_step(cluster, SERVICE_WAIT)? == standby;
    progress.step(format!("{active} has caught up and follows {standby}"));
    println_roles(cluster, standby);
    let compared = pair::verify(cluster, standby)?;
    let tables_equal = compared.differences.is_empty() && compared.commit.is_some();
    let at = compared
        .commit
        .map_or_else(|| "no common change".to_owned(), |commit| format!("change {commit}"));
    progress.step(format!(
        "both tables at {at}: {} session(s), differences: {:?}",
        compared.sessions, compared.differences
    ));
    let screenshots = [before.path, after.path];
    Ok(Outcome {
        session,
        agent,
        login_ms,
        same_after_failover,
        failover_ms,
        resynced,
        tables_equal,
        screenshots,
        browser,
    })
}

/// Bob logs in with a browser.
fn sit_down<'a>(cluster: &'a Cluster, progress: &Progress) -> Result<Desk<'a>> {
    progress.step("bob opens https://tlha/ in a browser, and types his password and a code");
    let desk = Desk::sit_down(cluster, &pictures()?)?;
    progress.step(format!("bob has his desktop in the browser after {} ms", desk.login_ms));
    Ok(desk)
}

/// Pulls the cable and logs in again; when what happened.
fn fail_over(
    cluster: &Cluster,
    active: &str,
    standby: &str,
    desk: Option<&Desk<'_>>,
    progress: &Progress,
) -> Result<(Failover, Option<u64>)> {
    let began = clock::unix_micros();
    cluster.fault(&Fault::Cable { host: active.to_owned() })?;
    // Beside the login, so that neither waits for the other; the brokers' logs have the times.
    let (watched, login, back) = std::thread::scope(|scope| {
        let when = |what: &'static str, words: &'static str| {
            let at = wait_for(what, SERVICE_WAIT, || {
                pair::logged(cluster, standby, words, began).ok_or_else(|| "not yet".to_owned())
            })?;
            let ms = at.saturating_sub(began) / 1000;
            progress.step(format!("{ms} ms after that {standby} {what}"));
            Ok::<_, anyhow::Error>(ms)
        };
        let watched = scope.spawn(move || {
            let held = when("has the address: keepalived noticed", "holds=true")?;
            Ok::<_, anyhow::Error>((
                held,
                when("is active, with the witnesses' votes", " active epoch=")?,
            ))
        });
        let back = desk.map(|desk| scope.spawn(move || desk.back(began)));
        let login = pair::login(cluster, "alice", 60);
        let login = login.map(|_| (clock::unix_micros() - began) / 1000);
        (watched.join(), login, back.map(std::thread::ScopedJoinHandle::join).transpose())
    });
    let (held, serves) =
        watched.map_err(|_| anyhow::anyhow!("the watcher of the failover died"))??;
    let total = login?;
    progress.step(format!("{total} ms after that alice has her desktop again, by ssh at tlha"));
    let back = back.map_err(|_| anyhow::anyhow!("the watcher of the browser died"))?.transpose()?;
    if let Some(ms) = back {
        progress.step(format!("{ms} ms after that bob's browser has his, by itself"));
    }
    Ok((Failover { detection: held, promotion: serves.saturating_sub(held), total }, back))
}

/// The administrator's view, on the screen.
fn println_roles(cluster: &Cluster, host: &str) {
    if let Ok(text) = cluster.output(host, "root", &["vsmctl", "ha", "status"]) {
        for line in text.lines() {
            eprintln!("          {line}");
        }
    }
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
}

fn picture(cluster: &Cluster, file: &str) -> Result<Picture> {
    let to = connect(cluster, file)?;
    let image = capture(cluster.command("client", "alice", &["cat", file])?.stdin(Stdio::null()))?;
    let image = image.stdout;
    if !image.starts_with(PNG_MAGIC) {
        bail!("{file}: vsm connect --screenshot left no PNG picture");
    }
    let path = pictures()?.join(file);
    std::fs::write(&path, &image).with_context(|| path.display().to_string())?;
    Ok(Picture { to, path })
}

/// Where pictures go.
fn pictures() -> Result<PathBuf> {
    let dir = compile::target()?.join("demo");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// A running desktop, reached as its own programs reach it.
struct Desktop<'a> {
    cluster: &'a Cluster,
    user: &'a str,
    agent: String,
    /// `DISPLAY=…` and `XAUTHORITY=…`.
    environment: [String; 2],
}

impl<'a> Desktop<'a> {
    /// Takes display and cookie from the environment of one of the user's programs on the agent.
    fn find(cluster: &'a Cluster, user: &'a str, agent: &str, display: u32) -> Result<Self> {
        let script = format!(
            "for p in $(pgrep -u {user}); do tr '\\0' '\\n' < /proc/$p/environ 2>/dev/null \
             | grep -qx 'DISPLAY=:{display}' && tr '\\0' '\\n' < /proc/$p/environ \
             | grep -m1 ^XAUTHORITY= && exit 0; done; exit 1"
        );
        let cookie = wait_for("a program on the desktop", DESKTOP_WAIT, || {
            let found = cluster.output(agent, "root", &["sh", "-c", &script]);
            found.map_err(|_| format!("{user} has none with DISPLAY=:{display} on {agent}"))
        })?;
        let environment = [format!("DISPLAY=:{display}"), cookie];
        Ok(Self { cluster, user, agent: agent.to_owned(), environment })
    }

    fn xdotool(&self, words: &[&str]) -> Result<String> {
        let [display, cookie] = &self.environment;
        let words = [&["env", display, cookie, "xdotool"], words].concat();
        self.cluster.output(&self.agent, self.user, &words)
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
