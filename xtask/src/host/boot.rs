//! How a host gets its own view of the machine: what is mounted where.
//!
//! The machine's root stays, so programs and libraries are shared; everything that a host writes
//! or that tells hosts apart is its own. `/etc`, `/var` and `/usr/local` are overlays whose upper half lies in
//! the host's state directory and so outlives a power cut; `/run`, `/tmp` and `/dev/shm` do not.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::HOST_DIR;
use super::daemon::DaemonSpec;
use crate::cluster::spec::{Start, User};

/// Where a host sees the product's programs; `/usr/bin` has links to here, so that a rebuilt
/// program can be put in place under a running host.
pub(crate) const VSM_BIN: &str = "/run/vsm-bin";

/// What PID 1 is told, in `host.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostSpec {
    pub(crate) name: String,
    pub(crate) start: Start,
    /// Fresh hosts: the directory that becomes `/mnt`, to be read only.
    pub(crate) medium: Option<PathBuf>,
    /// The directory that becomes `/home`.
    pub(crate) home: PathBuf,
    /// The users who get a runtime directory at boot, as a login manager would make it.
    pub(crate) seats: Vec<User>,
    /// Where the daemon keeps its store: a disk of its own, which can be filled, lost and put back.
    pub(crate) store: Option<PathBuf>,
    /// Commands run once, at the first boot, before the daemons start.
    pub(crate) first_boot: Vec<Vec<String>>,
    pub(crate) daemons: Vec<DaemonSpec>,
    /// Directories that are made at each boot, as tmpfiles.d would.
    pub(crate) run: Vec<RunDir>,
    /// Directories whose files appear in directories of the machine, each with its target.
    pub(crate) over: Vec<(PathBuf, PathBuf)>,
}

/// A directory below `/run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunDir {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
}

/// The parts of a host's state directory.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) dir: PathBuf,
    pub(crate) etc: PathBuf,
    pub(crate) ssh: PathBuf,
    pub(crate) vsm: PathBuf,
    pub(crate) log: PathBuf,
    /// The disk with the daemon's store; mounted before the host boots, so it outlives a power cut.
    pub(crate) disk: PathBuf,
    pub(super) usr: PathBuf,
    pub(super) var: PathBuf,
    pub(crate) root: PathBuf,
    pub(super) usr_work: PathBuf,
    pub(super) etc_work: PathBuf,
    pub(super) var_work: PathBuf,
}

impl Paths {
    /// The paths of one host of the cluster whose state is in `state`.
    pub(crate) fn of(state: &Path, host: &str) -> Self {
        Self::in_dir(&state.join("hosts").join(host))
    }

    fn in_dir(dir: &Path) -> Self {
        let part = |name: &str| dir.join(name);
        Self {
            dir: dir.to_owned(),
            etc: part("etc"),
            ssh: part("ssh"),
            vsm: part("vsm"),
            log: part("log"),
            disk: part("disk"),
            usr: part("usr"),
            var: part("var"),
            root: part("root"),
            usr_work: part("usr.work"),
            etc_work: part("etc.work"),
            var_work: part("var.work"),
        }
    }

    /// All directories to make for a host that starts so, with their modes.
    pub(crate) fn all(&self, start: Start) -> Vec<(PathBuf, u32)> {
        let mut all: Vec<_> = [&self.etc, &self.ssh, &self.vsm, &self.log, &self.var, &self.usr]
            .map(|dir| (dir.clone(), 0o755))
            .into();
        let private = [&self.root, &self.disk, &self.etc_work, &self.var_work, &self.usr_work];
        all.extend(private.map(|dir| (dir.clone(), 0o700)));
        // Mount points, made in the upper half since the machine need not have them.
        let points: &[_] = match start {
            Start::Ready => &["etc/ssh", "etc/vsm", "var/log"],
            Start::Fresh => &["etc/ssh", "var/log"],
        };
        all.extend(points.iter().map(|dir| (self.dir.join(dir), 0o755)));
        all.push((self.dir.clone(), 0o700));
        all
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.dir.join("host.json")
    }

    pub(crate) fn pid(&self) -> PathBuf {
        self.dir.join("init.pid")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    pub(crate) fn log_of(&self, daemon: &str) -> PathBuf {
        self.log.join(format!("{daemon}.log"))
    }
}

/// Reads what a host's PID 1 is told.
pub(super) fn spec(state: &Path, host: &str) -> Result<HostSpec> {
    let path = Paths::of(state, host).spec();
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Mounts everything and sets the host's name. Runs as PID 1 in fresh namespaces.
pub(super) fn boot(state: &Path, host: &str, spec: &HostSpec) -> Result<()> {
    let paths = Paths::of(state, host);
    nix::unistd::sethostname(&spec.name).context("sethostname")?;
    kernel_views()?;
    let links = state.join("links");
    read_only_overlay(&links, Path::new("/usr/bin"))?;
    for (over, target) in &spec.over {
        read_only_overlay(over, target)?;
    }
    overlay(&paths.etc, &paths.etc_work, Path::new("/etc"))?;
    overlay(&paths.var, &paths.var_work, Path::new("/var"))?;
    // What an administrator installs by hand.
    overlay(&paths.usr, &paths.usr_work, Path::new("/usr/local"))?;
    bind(&paths.ssh, "/etc/ssh")?;
    bind(&paths.vsm, "/etc/vsm")?;
    bind(&paths.log, "/var/log")?;
    if let Some(store) = &spec.store {
        make_dir(store, 0o700)?;
        bind(&paths.disk, store)?;
    }
    bind(&spec.home, "/home")?;
    bind(&paths.root, "/root")?;
    tmpfs("/tmp", "mode=1777")?;
    tmpfs("/dev/shm", "mode=1777")?;
    run_dir(&paths, &state.join("bin"))?;
    for RunDir { path, mode, owner, group } in &spec.run {
        make_dir(path, 0o700)?;
        std::os::unix::fs::chown(path, Some(*owner), Some(*group))?;
        fs::set_permissions(path, Permissions::from_mode(*mode))?;
    }
    for User { name: _, uid } in &spec.seats {
        let dir = PathBuf::from(format!("/run/user/{uid}"));
        make_dir(&dir, 0o700)?;
        std::os::unix::fs::chown(&dir, Some(*uid), Some(*uid))?;
    }
    Ok(())
}

/// `/proc`, `/sys` and `/sys/fs/cgroup` of these namespaces.
pub(super) fn kernel_views() -> Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {target}"))?;
    }
    // Without control groups a host goes on: the agent has another way to end a desktop.
    let target = "/sys/fs/cgroup";
    if let Err(error) =
        mount(Some("cgroup2"), target, Some("cgroup2"), MsFlags::empty(), None::<&str>)
    {
        eprintln!("no control groups: mount {target}: {error}");
    }
    Ok(())
}

/// A `/run` of its own, with the way back to the host's state and programs, which lie below the
/// machine's `/run` and would be covered.
fn run_dir(paths: &Paths, bin: &Path) -> Result<()> {
    let own = fs::File::open(&paths.dir)?;
    let bin = fs::File::open(bin)?;
    tmpfs("/run", "mode=755")?;
    for (dir, mode) in [
        (HOST_DIR, 0o700),
        (VSM_BIN, 0o755),
        ("/run/lock", 0o1777),
        ("/run/sshd", 0o755),
        ("/run/user", 0o755),
    ] {
        make_dir(Path::new(dir), mode)?;
    }
    bind(&descriptor(&own), HOST_DIR)?;
    bind(&descriptor(&bin), VSM_BIN)
}

fn descriptor(file: &fs::File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

pub(super) fn overlay(upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let (lower, upper, work) = (target.display(), upper.display(), work.display());
    overlay_with(&format!("lowerdir={lower},upperdir={upper},workdir={work}"), target)
}

fn read_only_overlay(over: &Path, target: &Path) -> Result<()> {
    overlay_with(&format!("lowerdir={}:{}", over.display(), target.display()), target)
}

fn overlay_with(options: &str, target: &Path) -> Result<()> {
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options))
        .with_context(|| format!("mount overlay on {} ({options})", target.display()))
}

pub(super) fn tmpfs(target: &str, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
        .with_context(|| format!("mount tmpfs on {target}"))
}

pub(super) fn bind(source: &Path, target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("bind {} on {}", source.display(), target.display()))
}

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}
