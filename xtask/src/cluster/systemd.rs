//! What is asked of the systemd of a fresh host.

use anyhow::{Result, bail};

use crate::command::{capture, command};
use crate::host::control::{DaemonState, DaemonStatus, Request};

/// The units that `status` tells of, those of them that are there.
const SHOWN: [&str; 5] = ["ssh", "vsmserver", "vsmagent", "vsm-agent-net", "keepalived"];

/// Fails unless a host has started all that it starts at boot.
///
/// # Errors
/// With the state, and the units that failed.
pub(super) fn is_up(pid: i32) -> Result<()> {
    let (_, state) = ask(pid, &["is-system-running"])?;
    match state.trim() {
        "running" => Ok(()),
        "degraded" => {
            let (_, failed) = ask(pid, &["list-units", "--failed", "--plain", "--no-legend"])?;
            bail!("failed: {}", failed.trim())
        }
        state => bail!("systemd says {state:?}"),
    }
}

/// The units of a host as daemons.
pub(super) fn daemons(pid: i32) -> Result<Vec<DaemonStatus>> {
    let mut all = Vec::new();
    for name in SHOWN {
        let properties = "--property=LoadState,ActiveState,MainPID,NRestarts";
        let (_, text) = ask(pid, &["show", properties, name])?;
        let of = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        if of("LoadState") != Some("loaded") {
            continue;
        }
        all.push(DaemonStatus {
            name: name.to_owned(),
            state: match of("ActiveState") {
                Some("active" | "reloading") => DaemonState::Running,
                Some("activating") => DaemonState::Waiting,
                Some("deactivating") => DaemonState::Stopping,
                Some("failed") => DaemonState::Failed,
                _ => DaemonState::Stopped,
            },
            pid: of("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0),
            uptime_s: None,
            restarts: of("NRestarts").and_then(|count| count.parse().ok()).unwrap_or(0),
        });
    }
    Ok(all)
}

/// Has a host's systemd do what PID 1 of a ready host does by itself; the daemons after that.
///
/// # Errors
/// When systemd refuses.
pub(super) fn tell(pid: i32, request: &Request) -> Result<Vec<DaemonStatus>> {
    let must = |words: &[&str]| match ask(pid, words)? {
        (true, _) => Ok(()),
        (false, said) => bail!("systemctl {}: {}", words.join(" "), said.trim()),
    };
    match request {
        Request::Status => {}
        Request::Start(daemon) => must(&["start", unit(daemon)])?,
        Request::Stop(daemon) => must(&["stop", unit(daemon)])?,
        Request::Kill(daemon) => {
            must(&["kill", "--kill-whom=main", "--signal=KILL", unit(daemon)])?;
            must(&["stop", unit(daemon)])?;
        }
        Request::Signal(daemon, signal) => {
            must(&["kill", "--kill-whom=main", &format!("--signal={signal}"), unit(daemon)])?;
        }
    }
    daemons(pid)
}

/// What a daemon wrote into the journal, those of its processes that serve a connection of sshd's too.
pub(super) fn log(pid: i32, daemon: &str) -> Result<String> {
    let of: &[&str] = match daemon {
        "sshd" => &["--identifier=sshd", "--identifier=sshd-session"],
        "init" => &["--identifier=systemd"],
        _ => &["--unit", daemon],
    };
    let words = [&["journalctl", "--quiet", "--no-pager", "--output=cat"], of].concat();
    Ok(inside(pid, &words)?.1)
}

/// The unit of a daemon, which Debian calls another name than its program in one case.
fn unit(daemon: &str) -> &str {
    if daemon == "sshd" { "ssh" } else { daemon }
}

/// Runs systemctl in a host; whether it succeeded, and what it printed.
fn ask(pid: i32, words: &[&str]) -> Result<(bool, String)> {
    inside(pid, &[&["systemctl"], words].concat())
}

/// Runs a program in a host; whether it succeeded, and what it printed.
fn inside(pid: i32, words: &[&str]) -> Result<(bool, String)> {
    let mut enter = command(&["nsenter", "--target", &pid.to_string()]);
    enter.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
    let output = capture(enter.args(words).current_dir("/"))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
