//! A place for measurements that need no hosts: a network of its own with nothing but loopback, a directory on disk,
//! certificates, and processes that end with it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::clock::wait_for;
use crate::command::{command, run};
use crate::compile::{self, Profile};

const NETWORK: &str = "vsm-bench-lab";
/// On disk on every Debian system, and open to the users that databases run as; `/tmp` and `/run` often are not.
const DIR: &str = "/var/tmp/vsm-bench";
/// The brokers' names, by which the lower one dials, and the name that certificates are for.
pub(super) const NODES: [&str; 2] = ["a", "b"];
pub(super) const HOST: &str = "localhost";
/// A process that is told to end and does not in this time is killed.
const END_WAIT: Duration = Duration::from_secs(10);

/// The place; all of it is gone when the value is dropped.
pub(super) struct Lab {
    binaries: PathBuf,
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        let lab = Self { binaries: compile::binaries(Profile::Release)? };
        // Of a run that was killed.
        lab.clear();
        run(&mut command(&["ip", "netns", "add", NETWORK]))?;
        run(&mut command(&["ip", "-netns", NETWORK, "link", "set", "lo", "up"]))?;
        fs::create_dir_all(DIR).context(DIR)?;
        fs::set_permissions(DIR, Permissions::from_mode(0o755))?;
        lab.certificates()?;
        Ok(lab)
    }

    fn clear(&self) {
        // Fails where there is none, which is what it is for.
        let _ = command(&["ip", "netns", "delete", NETWORK]).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(DIR);
    }

    /// One for each broker, by the product's own tool; the rivals use them too.
    fn certificates(&self) -> Result<()> {
        let vsmctl = self.binaries.join("vsmctl");
        let authority = self.path("pki");
        run(Command::new(&vsmctl).args(["pki", "init", "--dir"]).arg(&authority))?;
        for node in NODES {
            let (out, config) = (self.path(&format!("{node}-pki")), self.config(node));
            fs::create_dir_all(&out)?;
            let mut issue = Command::new(&vsmctl);
            issue.args(["pki", "issue", node, "--role", "broker", "--dir"]).arg(&authority);
            issue.args(["--address", HOST, "--address", "127.0.0.1"]).arg("--out").arg(&out);
            run(&mut issue)?;
            fs::create_dir_all(&config)?;
            let files = [("ca", "ca.pem"), ("cert", "host.pem"), ("key", "host.key")];
            let lines =
                files.map(|(what, file)| format!("  {what}_file: {}/{file}\n", out.display()));
            fs::write(config.join("tls.yaml"), format!("tls:\n{}", lines.concat()))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    /// Path of a file, as a word of a command line.
    pub(super) fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A broker's configuration.
    pub(super) fn config(&self, node: &str) -> PathBuf {
        self.path(&format!("{node}-conf.d"))
    }

    /// A command in this network that does not outlive us.
    pub(super) fn command(&self, user: &str, words: &[&str]) -> Command {
        let mut enter = command(&["ip", "netns", "exec", NETWORK, "setpriv", "--pdeathsig=KILL"]);
        if user != "root" {
            enter.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups"]);
        }
        enter.args(words).current_dir("/");
        enter
    }

    /// A command of the measuring program.
    pub(super) fn tool(&self, words: &[&str]) -> Command {
        let tool = self.binaries.join("vsm-bench").display().to_string();
        self.command("root", &[&[tool.as_str()], words].concat())
    }

    /// Runs the measuring program and reads its line of JSON.
    pub(super) fn measure<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let output = run(self.tool(words).stdin(Stdio::null()))?;
        parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Starts a daemon whose words go to a file.
    pub(super) fn daemon(&self, name: &str, user: &str, words: &[&str]) -> Result<Daemon> {
        self.spawn(name, &mut self.command(user, words))
    }

    /// Starts a server of the measuring program.
    pub(super) fn server(&self, name: &str, words: &[&str]) -> Result<Daemon> {
        self.spawn(name, &mut self.tool(words))
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<Daemon> {
        let log = self.path(&format!("{name}.log"));
        let file = fs::File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Daemon { child: command.spawn().with_context(|| name.to_owned())?, log })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.clear();
    }
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).with_context(|| format!("vsm-bench printed {line:?}"))
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// A process that is told to end, by its pid, when the value is dropped.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// The end of what it said.
    pub(super) fn said(&self) -> String {
        said(&self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An interrupt is what ends Redis, etcd and PostgreSQL alike at once and in good order.
        if let Ok(pid) = pid(&self.child) {
            let _ = kill(pid, Signal::SIGINT);
        }
        end(&mut self.child);
    }
}

fn said(log: &Path) -> String {
    crate::command::tail(&fs::read(log).unwrap_or_default())
}

/// Waits for the end of a process, and brings it about where that takes too long.
fn end(child: &mut Child) {
    let ended = wait_for("a process to end", END_WAIT, || match child.try_wait() {
        Ok(None) => Err("it runs on".to_owned()),
        Ok(Some(_)) | Err(_) => Ok(()),
    });
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// One broker's table, which obeys lines; it ends with its input.
pub(super) struct Node {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Node {
    /// Starts one of [`NODES`] with its state in `dir`.
    pub(super) fn start(lab: &Lab, name: &str, port: u16) -> Result<Self> {
        let peer = if name == NODES[0] { NODES[1] } else { NODES[0] };
        let (config, dir) = (lab.config(name).display().to_string(), lab.word(name));
        let port = port.to_string();
        let words = ["node", "--name", name, "--peer", peer, "--dir", &dir, "--config", &config];
        let mut tool = lab.tool(&[&words[..], &["--port", &port]].concat());
        let log = lab.path(&format!("{name}.log"));
        tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
        let mut child = tool.spawn().context("the measuring program")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, input, output, log })
    }

    /// Has it do something, and reads its answer.
    pub(super) fn order<T: DeserializeOwned>(&mut self, order: &str) -> Result<T> {
        let input = self.input.as_mut().context("its input")?;
        writeln!(input, "{order}")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the node ended when it was told to {order:?}: {}", said(&self.log));
        }
        parse(&line)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.input.take());
        end(&mut self.child);
    }
}
