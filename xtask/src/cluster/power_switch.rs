//! The power switch of a pair under Pacemaker: what cuts a broker's power when its fence agent asks.
//!
//! A process that lives in the network of the switch, so that `down` ends it with all others. The brokers reach it by a
//! socket each, not by the network: as in a real rack, where the switch has a network of its own, a broker whose cable
//! is pulled can still shoot the other one.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::spec::{ClusterSpec, Layout, Role, SWITCH, netns, state_dir};
use super::{Cluster, Fault, net};
use crate::clock::{self, wait_for};
use crate::command::command;
use crate::host::boot::Paths;

/// The socket's name in a host's state directory.
pub(crate) const SOCKET: &str = "power.sock";
/// Longest request.
const LINE_MAX: u64 = 256;
/// Whoever asks says it at once.
const TIMEOUT: Duration = Duration::from_secs(5);
const START_WAIT: Duration = Duration::from_secs(5);

/// Starts it unless it runs.
pub(super) fn turn_on(layout: &Layout, spec: &ClusterSpec) -> Result<()> {
    let sockets = sockets(layout);
    let runs = || sockets.iter().all(|(_, socket)| UnixStream::connect(socket).is_ok());
    if runs() {
        return Ok(());
    }
    let log = OpenOptions::new().create(true).append(true).open(log(&layout.name))?;
    let mut switch = command(&[&spec.helper]);
    switch.args(["host-power", &layout.name]).current_dir("/");
    switch.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    switch.spawn().context("start the power switch")?;
    let up = || if runs() { Ok(()) } else { Err("it does not listen".to_owned()) };
    wait_for("the power switch", START_WAIT, up)
}

fn log(cluster: &str) -> PathBuf {
    state_dir(cluster).join("power.log")
}

impl Cluster {
    /// What the power switch did, a line for each request: microseconds since 1970, who asked, what, and the answer.
    #[must_use]
    pub fn power_log(&self) -> String {
        fs::read_to_string(log(self.name())).unwrap_or_default()
    }
}

/// Each broker with its socket.
fn sockets(layout: &Layout) -> Vec<(String, PathBuf)> {
    let state = state_dir(&layout.name);
    let of =
        |host: &super::Host| (host.name.clone(), Paths::of(&state, &host.name).dir.join(SOCKET));
    layout.of_role(Role::Broker).map(of).collect()
}

/// Is the power switch of a cluster until it is killed.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn serve(name: &str) -> Result<()> {
    nix::unistd::setsid().context("setsid")?;
    let network = net::path(&netns(name, SWITCH));
    setns(fs::File::open(&network)?, CloneFlags::CLONE_NEWNET).context("the switch's network")?;
    let cluster = Cluster::attach(name, std::env::current_exe()?)?;
    let mut listeners = Vec::new();
    for (host, socket) in sockets(&cluster.layout) {
        // Made by `files` for a host that boots; the first time that is later.
        socket.parent().map_or(Ok(()), fs::create_dir_all)?;
        let _ = fs::remove_file(&socket);
        listeners.push((host, UnixListener::bind(&socket).context("power socket")?));
    }
    std::thread::scope(|scope| {
        for (asker, listener) in &listeners {
            let cluster = &cluster;
            scope.spawn(move || {
                for stream in listener.incoming().flatten() {
                    if let Err(error) = answer(cluster, asker, stream) {
                        eprintln!("{} {asker}: {error:#}", clock::unix_micros());
                    }
                }
            });
        }
    });
    Ok(())
}

/// One request, one answer, each a line.
fn answer(cluster: &Cluster, asker: &str, mut stream: UnixStream) -> Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(LINE_MAX)).read_line(&mut line)?;
    let words: Vec<_> = line.split_whitespace().collect();
    // That somebody looks whether it is there, as `turn_on` does, is no request.
    let (action, host) = match words[..] {
        [] => return Ok(()),
        [action] => (action, ""),
        [action, host, ..] => (action, host),
    };
    let result = act(cluster, action, host);
    let told = result.as_ref().map_or_else(|error| format!("error {error:#}"), ToString::to_string);
    if !matches!(action, "monitor" | "status" | "list") {
        eprintln!("{} {asker}: {action} {host}: {told}", clock::unix_micros());
    }
    writeln!(stream, "{told}")?;
    drop(stream);
    if action == "reboot" && result.is_ok() {
        boot(cluster, host)?;
    }
    Ok(())
}

fn act(cluster: &Cluster, action: &str, host: &str) -> Result<&'static str> {
    match action {
        "monitor" | "list" => return Ok("ok"),
        "status" | "on" | "off" | "reboot" => {}
        other => bail!("no action {other:?}"),
    }
    if !cluster.layout.of_role(Role::Broker).any(|broker| broker.name == host) {
        bail!("no outlet for {host:?}");
    }
    match action {
        "status" => return Ok(if cluster.init_pid(host).is_ok() { "on" } else { "off" }),
        "on" => boot(cluster, host)?,
        // Its power is off when this returns; the rest of a reboot is not waited for.
        _ if cluster.init_pid(host).is_ok() => cluster.power_off(host)?,
        _ => {}
    }
    Ok("ok")
}

/// Boots a host, but for one without mains: a power cut is healed by who made it.
fn boot(cluster: &Cluster, host: &str) -> Result<()> {
    let cut = Fault::Power { host: host.to_owned() };
    if cluster.init_pid(host).is_ok() || cluster.faults().contains(&cut) {
        return Ok(());
    }
    cluster.power_on(host)
}
