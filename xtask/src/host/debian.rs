//! A fresh host: Debian's own systemd as PID 1, over the machine's packages and with nothing of the product.
//!
//! `/usr`, `/etc` and `/var` are overlays, so that packages are installed here as on any host and stay after a
//! power cut. What would reach the machine's kernel, devices or time is masked or mounted read-only, and what
//! the machine itself has enabled or configured is not here.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use super::boot::{HostSpec, Paths, bind, kernel_views, make_dir, overlay, tmpfs};
use crate::command::command;

/// Debian's PID 1.
pub(crate) const SYSTEMD: &str = "/lib/systemd/systemd";

/// Units for a kernel, devices, a console, a network and a clock that are not this host's own, or slow ones
/// that change nothing here.
const MASKED: [&str; 23] = [
    "console-getty.service",
    "dev-hugepages.mount",
    "getty.target",
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-update-utmp.service",
];

/// What Debian enables when it installs these packages; the second waits until it is configured.
const ENABLED: [&str; 2] = ["ssh.service", "keepalived.service"];

/// What a machine with other uses may have, and a host that was just installed has not.
const CLEARED: [&str; 9] = [
    "/etc/systemd/system",
    "/etc/rcS.d",
    "/etc/rc2.d",
    "/etc/rc3.d",
    "/etc/keepalived/keepalived.conf",
    "/etc/vsm",
    "/etc/crypttab",
    // It keeps packages from starting their services, as in images that nobody boots.
    "/usr/sbin/policy-rc.d",
    // Without it an installation does not index all manual pages anew.
    "/var/lib/man-db/auto-update",
];

/// The devices that a host has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Becomes the host's systemd. Runs as PID 1 in fresh namespaces.
///
/// # Errors
/// When something cannot be mounted or written, or systemd is not there.
pub(super) fn start(state: &Path, host: &str, spec: &HostSpec) -> Result<()> {
    let paths = Paths::of(state, host);
    nix::unistd::sethostname(&spec.name).context("sethostname")?;
    kernel_views()?;
    read_only(Path::new("/sys"))?;
    // The network's parameters are the host's own.
    for dir in ["/proc/sys", "/proc/sys/net"] {
        bind(Path::new(dir), dir)?;
    }
    read_only(Path::new("/proc/sys"))?;
    overlay(&paths.usr, &paths.usr_work, Path::new("/usr"))?;
    overlay(&paths.etc, &paths.etc_work, Path::new("/etc"))?;
    overlay(&paths.var, &paths.var_work, Path::new("/var"))?;
    bind(&paths.ssh, "/etc/ssh")?;
    bind(&paths.log, "/var/log")?;
    bind(&spec.home, "/home")?;
    bind(&paths.root, "/root")?;
    if let Some(medium) = &spec.medium {
        bind(medium, "/mnt")?;
        read_only(Path::new("/mnt"))?;
    }
    install(&paths)?;
    devices(&paths.dir.join("dev"))?;
    tmpfs("/tmp", "mode=1777")?;
    tmpfs("/run", "mode=755")?;
    let mut systemd = command(&[SYSTEMD]);
    // Told that it is in a container, it leaves the kernel alone. Only what the target wants is started.
    systemd.arg("--unit=multi-user.target").env_clear().env("container", "vsm");
    systemd.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    bail!("{SYSTEMD}: {}", systemd.env("LANG", "C.UTF-8").stdin(Stdio::null()).exec())
}

/// The state of a host that Debian was just installed on; once, as long as the disks last.
fn install(paths: &Paths) -> Result<()> {
    let mark = paths.dir.join("installed");
    if mark.exists() {
        return Ok(());
    }
    for path in CLEARED.map(Path::new) {
        clear(path).with_context(|| path.display().to_string())?;
    }
    let units = Path::new("/etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    make_dir(&wanted, 0o755)?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit)).context(unit)?;
    }
    for unit in ENABLED {
        symlink(Path::new("/lib/systemd/system").join(unit), wanted.join(unit)).context(unit)?;
    }
    // The machine's own disks are not this host's.
    fs::write("/etc/fstab", "").context("/etc/fstab")?;
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    fs::write("/etc/machine-id", uuid).context("/etc/machine-id")?;
    Ok(fs::write(mark, "")?)
}

/// Removes a file, or all that is in a directory.
fn clear(path: &Path) -> std::io::Result<()> {
    let Ok(kind) = path.symlink_metadata() else { return Ok(()) };
    if !kind.is_dir() {
        return fs::remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    // A mount point stays.
    let _ = fs::remove_dir(path);
    Ok(())
}

/// A `/dev` of the host's own, so that its sockets and terminals are not the machine's.
fn devices(dev: &Path) -> Result<()> {
    make_dir(dev, 0o755)?;
    mount(Some("tmpfs"), dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))
        .context("mount /dev")?;
    let names = DEVICES.map(|name| (name, name));
    // Nobody reads a console here.
    for (name, source) in names.into_iter().chain([("console", "null")]) {
        fs::write(dev.join(name), "")?;
        bind(&Path::new("/dev").join(source), dev.join(name))?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
        make_dir(&dev.join(name), mode)?;
    }
    let options = Some("newinstance,ptmxmode=0666,mode=620,gid=5");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::MS_NOSUID, options)
        .context("mount /dev/pts")?;
    for (target, name) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(name))?;
    }
    mount(Some(dev), "/dev", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("move /dev")
}

/// Makes one mount read-only, and no other of the same file system.
fn read_only(path: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("make {} read-only", path.display()))
}
