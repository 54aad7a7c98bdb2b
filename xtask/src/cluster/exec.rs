//! Running programs inside a host.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use super::Cluster;
use super::spec::Role;
use crate::command::{capture, command, shown, tail};

/// What a program inside finds in `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs what follows in a process namespace of its own, which the kernel ends with the process that made it, as this
/// one ends with the one that started it.
const CONTAINED: [&str; 7] = [
    "setpriv",
    "--pdeathsig=KILL",
    "unshare",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
];

impl Cluster {
    /// A command that runs `words` on `host` as `user`, in the user's home, with a clean
    /// environment. Its stdin, stdout, stderr and exit code are those of the program.
    ///
    /// # Errors
    /// When the host is not known, is off, or has no such user.
    pub fn command(&self, host: &str, user: &str, words: &[&str]) -> Result<Command> {
        self.command_within(host, user, &[], words)
    }

    /// The same for what starts processes of its own: once the command has ended, and also when it is killed, none of
    /// them is left.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn contained(&self, host: &str, user: &str, words: &[&str]) -> Result<Command> {
        self.command_within(host, user, &CONTAINED, words)
    }

    fn command_within(
        &self,
        host: &str,
        user: &str,
        container: &[&str],
        words: &[&str],
    ) -> Result<Command> {
        let pid = self.init_pid(host)?.to_string();
        let mut enter = command(&["nsenter", "--target", &pid]);
        enter.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
        enter.args(container);
        let mut home = "/root".to_owned();
        let mut runtime = None;
        if user != "root" {
            let known = self.layout.users.iter().find(|known| known.name == user);
            let uid = known.with_context(|| format!("no user {user:?} in this cluster"))?.uid;
            let (reuid, regid) = (format!("--reuid={uid}"), format!("--regid={uid}"));
            enter.args(["setpriv", &reuid, &regid, "--init-groups"]);
            // A change of user makes the kernel forget it.
            enter.args((!container.is_empty()).then_some("--pdeathsig=KILL"));
            home = format!("/home/{user}");
            // Where systemd runs, logind makes it at a login, and this is none.
            let made = self.layout.start == super::Start::Ready;
            runtime = made.then(|| format!("XDG_RUNTIME_DIR=/run/user/{uid}"));
        }
        enter.args(["env", "-i", "-C", &home]);
        enter.args([format!("HOME={home}"), format!("USER={user}"), format!("LOGNAME={user}")]);
        enter.args([
            format!("PATH={PATH}"),
            "SHELL=/bin/bash".to_owned(),
            "LANG=C.UTF-8".to_owned(),
        ]);
        enter.args(runtime);
        for name in ["TERM", "NO_COLOR"] {
            enter.args(std::env::var(name).ok().map(|value| format!("{name}={value}")));
        }
        enter.args(words);
        // The caller's own directory need not exist inside.
        enter.current_dir("/");
        Ok(enter)
    }

    /// Who a command runs as where nobody says: alice on the client, else root.
    ///
    /// # Errors
    /// When the host is not known.
    pub fn default_user(&self, host: &str) -> Result<&'static str> {
        Ok(if self.host(host)?.role == Role::Client { "alice" } else { "root" })
    }

    /// Runs `words` to the end with captured output, whatever the exit code.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn exec(&self, host: &str, user: &str, words: &[&str]) -> Result<Output> {
        capture(self.command(host, user, words)?.stdin(Stdio::null()))
    }

    /// Runs `words` and returns what they print, without the last line's end.
    ///
    /// # Errors
    /// When they do not exit with 0; the error has the end of stderr.
    pub fn output(&self, host: &str, user: &str, words: &[&str]) -> Result<String> {
        let mut command = self.command(host, user, words)?;
        let output = capture(command.stdin(Stdio::null()))?;
        if !output.status.success() {
            let (what, why) = (words.join(" "), tail(&output.stderr));
            bail!("{user} on {host}: {what}: {}: {why} ({})", output.status, shown(&command));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }
}
