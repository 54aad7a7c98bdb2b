//! Starts a host: enters its network, makes its namespaces, leaves PID 1 behind.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::boot::Paths;
use crate::cluster::cgroup;
use crate::cluster::net;
use crate::cluster::spec::{netns, state_dir};
use crate::command::command;

/// Runs in a process of its own, with the cluster's lock as stdin.
///
/// # Errors
/// Names the step that failed.
pub(crate) fn launch(cluster: &str, host: &str) -> Result<()> {
    let state = state_dir(cluster);
    let paths = Paths::of(&state, host);
    close_inherited()?;
    nix::unistd::setsid().context("setsid")?;
    let network = net::path(&netns(cluster, host));
    let file = File::open(&network).with_context(|| network.display().to_string())?;
    setns(file, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
    if let Some(group) = cgroup::of_host(cluster, host) {
        fs::write(group.join("cgroup.procs"), "0").with_context(|| group.display().to_string())?;
        unshare(CloneFlags::CLONE_NEWCGROUP).context("control group namespace")?;
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .context("new namespaces")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
    // Opened before PID 1 covers /run, in the mount namespace that is ours as well.
    let noted = File::create(paths.pid());
    let mut noted = noted.with_context(|| paths.pid().display().to_string())?;
    let pid = spawn_init(&state, host, &paths)?;
    write!(noted, "{pid}").with_context(|| paths.pid().display().to_string())
}

/// Closes what whoever started us had open: a host outlives that, and would hold its locks for as long as it stands.
fn close_inherited() -> Result<()> {
    let number =
        |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?.filter_map(number).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The descriptor that listed them is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

fn spawn_init(state: &Path, host: &str, paths: &Paths) -> Result<u32> {
    let path: PathBuf = paths.log_of("init");
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| path.display().to_string())?;
    let mut init = command(&[std::env::current_exe()?]);
    init.arg("host-init").arg(state).arg(host);
    init.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    init.env("LANG", "C.UTF-8").env("RUST_BACKTRACE", "1").current_dir("/");
    init.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(init.spawn().context("start PID 1")?.id())
}
