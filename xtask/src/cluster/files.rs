//! The files of the hosts: users, keys, `/etc`, homes, programs.
//!
//! All is written before a host boots, into directories that its PID 1 mounts over those of the
//! machine. Keys are made at run time and go with the cluster.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::lock::Lock;
use super::spec::{
    BINARIES, ClusterSpec, Host, Layout, PASSWORD_HASH, RESOURCE, Role, Start, User, state_dir,
};
use crate::command::{command, run};
use crate::host::boot::{Paths, VSM_BIN};

/// Files of the project that a host needs, kept in the program so that it works from anywhere.
const SSHD_DROP_IN: &str = include_str!("../../../deploy/sshd/vsm.conf");
const SSHD_KEYS: &str = include_str!("../../../deploy/sshd/vsm-keys.conf");
/// Whom sshd runs the command of the keys as; on hosts with packages sysusers makes the account.
const KEYS_USER: (&str, u32) = ("vsm-keys", 990);
/// The accounts of the broker and of what listens on an agent, the group of administrators that the first is in, and
/// that of those who read the host's key, which both are in.
pub(super) const BROKER_USER: (&str, u32) = ("vsmserver", 991);
const ADMIN_GROUP: (&str, u32) = ("vsmadmin", 992);
const AGENT_USER: (&str, u32) = ("vsmagent", 993);
const KEY_GROUP: (&str, u32) = ("vsm-tls", 994);
/// That of vsm-web, which reads the key of its certificate and reaches a socket of the broker.
pub(super) const WEB_GROUP: (&str, u32) = ("vsm-web", 995);
const PAM_SERVICE: &str = include_str!("../../../deploy/pam/vsm");
/// Programs that are scripts.
const TOOLS: [(&str, &str); 3] = [
    ("vsm-memberof-group", include_str!("../../../deploy/tools/vsm-memberof-group")),
    ("vsm-single-app", include_str!("../../../deploy/tools/vsm-single-app")),
    ("vsm-support", include_str!("../../../deploy/tools/vsm-support")),
];
const XSESSION: &str = include_str!("../../../deploy/xsession");
const NOTIFY: &str = include_str!("../../../deploy/notify");
const ASK: &str = include_str!("../../../deploy/ask");
const CHOOSE_PROFILE: &str = include_str!("../../../deploy/choose-profile");

/// Forwarding is off to show that nothing needs it. What a storm of logins meets is the distribution's `MaxStartups`.
const SSHD_CONFIG: &str = "\
Include /etc/ssh/sshd_config.d/*.conf
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
DisableForwarding yes
PrintMotd no
UseDNS no
AcceptEnv LANG LC_*
";

const SSH_CLIENT_CONFIG: &str = "StrictHostKeyChecking yes\nConnectTimeout 5\n";
/// On fresh hosts a key is taken for right when it is first seen, and for wrong when it changes.
const SSH_FRESH_CONFIG: &str = "StrictHostKeyChecking accept-new\nConnectTimeout 5\n";
/// The configuration that Debian's package installs.
const DEBIAN_SSHD: &str = "/usr/share/openssh/sshd_config";
/// The key with which root on the first broker may log in on all hosts, as an administrator would.
const ADMINISTRATOR: &str = "root";

/// The owner of what is written.
pub(super) const ROOT: u32 = 0;

/// Makes the directories and keys that all hosts share; keeps what is there.
pub(crate) fn shared(spec: &ClusterSpec, layout: &Layout, lock: &Lock) -> Result<()> {
    let state = state_dir(&layout.name);
    for dir in ["bin", "links", "keys", "home", "net"] {
        make_dir(&state.join(dir), 0o755, ROOT)?;
    }
    fs::set_permissions(state.join("keys"), Permissions::from_mode(0o700))?;
    install_binaries(spec)?;
    for (name, text) in TOOLS {
        write(&state.join("bin").join(name), text, 0o755, ROOT)?;
    }
    for name in BINARIES.into_iter().chain(TOOLS.map(|(name, _)| name)) {
        let link = state.join("links").join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(VSM_BIN).join(name), link)?;
        }
    }
    for host in &layout.hosts {
        keygen(&state.join("keys").join(format!("host-{}", layout.host_key(host))), lock)?;
    }
    for user in &layout.users {
        keygen(&state.join("keys").join(&user.name), lock)?;
    }
    if layout.start == Start::Fresh {
        keygen(&state.join("keys").join(ADMINISTRATOR), lock)?;
    }
    Ok(())
}

/// Puts the newest programs where the hosts see them; running ones keep theirs.
///
/// Returns the names of those that are not built.
pub(crate) fn install_binaries(spec: &ClusterSpec) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for name in BINARIES {
        let source = spec.binaries.join(name);
        if source.is_file() {
            install(&spec.name, &source)?;
        } else {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// Puts one program where the hosts of a cluster see it.
pub(crate) fn install(cluster: &str, source: &Path) -> Result<()> {
    let bin = state_dir(cluster).join("bin");
    let name = source.file_name().unwrap_or_default();
    let fresh = bin.join(format!(".{}.new", name.display()));
    let _ = fs::remove_file(&fresh);
    // cargo replaces its outputs and never rewrites them, so a link is as good as a copy.
    if fs::hard_link(source, &fresh).is_err() {
        fs::copy(source, &fresh).with_context(|| source.display().to_string())?;
    }
    Ok(fs::rename(&fresh, bin.join(name))?)
}

/// Writes everything that only one host sees.
pub(crate) fn of_host(layout: &Layout, host: &Host) -> Result<()> {
    let paths = Paths::of(&state_dir(&layout.name), &host.name);
    for (dir, mode) in paths.all(layout.start) {
        make_dir(&dir, mode, ROOT)?;
    }
    etc(layout, host, &paths.etc)?;
    ssh(layout, host, &paths.ssh)?;
    if layout.start == Start::Fresh {
        administrator(layout, host, &paths.root)?;
    } else if layout.runs_agent(host) {
        write(&paths.etc.join("pam.d/vsm"), PAM_SERVICE, 0o644, ROOT)?;
        write(&paths.vsm.join("xsession"), XSESSION, 0o755, ROOT)?;
        write(&paths.vsm.join("notify"), NOTIFY, 0o755, ROOT)?;
        write(&paths.vsm.join("ask"), ASK, 0o755, ROOT)?;
        write(&paths.vsm.join("choose-profile"), CHOOSE_PROFILE, 0o755, ROOT)?;
    }
    for user in &layout.users {
        home(layout, host, user)?;
    }
    Ok(())
}

fn etc(layout: &Layout, host: &Host, etc: &Path) -> Result<()> {
    let mut hosts = "127.0.0.1 localhost\n".to_owned();
    for other in &layout.hosts {
        writeln!(hosts, "{} {}", other.addresses[0], other.name)?;
    }
    writeln!(hosts, "{} {}", RESOURCE.1, RESOURCE.0)?;
    let users = &layout.users;
    let (mut passwd, mut group, mut shadow) =
        (base("passwd", users)?, base("group", users)?, base("shadow", users)?);
    for User { name, uid } in users {
        writeln!(passwd, "{name}:x:{uid}:{uid}:{name}:/home/{name}:/bin/bash")?;
        writeln!(group, "{name}:x:{uid}:")?;
        // `*`: no password fits, but the account is not locked.
        let password = layout.web.map_or("*", |_| PASSWORD_HASH);
        writeln!(shadow, "{name}:{password}:19000:0:99999:7:::")?;
    }
    if layout.start == Start::Ready {
        for (name, id) in [KEYS_USER, BROKER_USER, AGENT_USER] {
            writeln!(passwd, "{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin")?;
            writeln!(group, "{name}:x:{id}:")?;
            writeln!(shadow, "{name}:!*:19000:0:99999:7:::")?;
        }
        writeln!(group, "{}:x:{}:{}", ADMIN_GROUP.0, ADMIN_GROUP.1, BROKER_USER.0)?;
        let readers = [BROKER_USER.0, AGENT_USER.0].join(",");
        writeln!(group, "{}:x:{}:{readers}", KEY_GROUP.0, KEY_GROUP.1)?;
        writeln!(group, "{}:x:{}:", WEB_GROUP.0, WEB_GROUP.1)?;
    }
    // As Debian has it, but for the network: there is none.
    let also = if layout.start == Start::Fresh { " systemd" } else { "" };
    let nsswitch =
        format!("passwd: files{also}\ngroup: files{also}\nshadow: files\nhosts: files\n");
    write(&etc.join("hosts"), &hosts, 0o644, ROOT)?;
    write(&etc.join("hostname"), &format!("{}\n", host.name), 0o644, ROOT)?;
    write(&etc.join("nsswitch.conf"), &nsswitch, 0o644, ROOT)?;
    write(&etc.join("resolv.conf"), "", 0o644, ROOT)?;
    write(&etc.join("passwd"), &passwd, 0o644, ROOT)?;
    write(&etc.join("group"), &group, 0o644, ROOT)?;
    write(&etc.join("shadow"), &shadow, 0o600, ROOT)
}

/// The machine's own accounts, which daemons such as sshd need, without those that we bring.
fn base(file: &str, users: &[User]) -> Result<String> {
    let text = read(&Path::new("/etc").join(file))?;
    let ours = |line: &str| users.iter().any(|user| line.split(':').next() == Some(&user.name));
    Ok(text.lines().filter(|line| !ours(line)).fold(String::new(), |all, line| all + line + "\n"))
}

fn ssh(layout: &Layout, host: &Host, ssh: &Path) -> Result<()> {
    let key = state_dir(&layout.name).join("keys").join(format!("host-{}", layout.host_key(host)));
    make_dir(&ssh.join("sshd_config.d"), 0o755, ROOT)?;
    let ready = layout.start == Start::Ready;
    let config = if ready { SSHD_CONFIG.to_owned() } else { read(Path::new(DEBIAN_SSHD))? };
    write(&ssh.join("sshd_config"), &config, 0o644, ROOT)?;
    if ready && host.role != Role::Client {
        write(&ssh.join("sshd_config.d/vsm.conf"), SSHD_DROP_IN, 0o644, ROOT)?;
        write(&ssh.join("sshd_config.d/vsm-keys.conf"), SSHD_KEYS, 0o644, ROOT)?;
    }
    write(&ssh.join("ssh_config"), "", 0o644, ROOT)?;
    write(&ssh.join("ssh_host_ed25519_key"), &read(&key)?, 0o600, ROOT)?;
    write(&ssh.join("ssh_host_ed25519_key.pub"), &read(&public(&key))?, 0o644, ROOT)
}

/// Homes: one shared directory on brokers and agents, as with NFS, and the client's own with the
/// private key.
fn home(layout: &Layout, host: &Host, user: &User) -> Result<()> {
    let state = state_dir(&layout.name);
    let homes = home_dir(&state, host);
    make_dir(&homes, 0o755, ROOT)?;
    let home = homes.join(&user.name);
    let ssh = home.join(".ssh");
    // Written last on each kind of host.
    if ssh.join(if host.role == Role::Client { "known_hosts" } else { "authorized_keys" }).exists()
    {
        return Ok(());
    }
    make_dir(&home, 0o700, user.uid)?;
    make_dir(&ssh, 0o700, user.uid)?;
    let key = state.join("keys").join(&user.name);
    write(&ssh.join("authorized_keys"), &read(&public(&key))?, 0o600, user.uid)?;
    if host.role == Role::Client {
        let (config, known) = match layout.start {
            Start::Ready => (SSH_CLIENT_CONFIG, known_hosts(layout)?),
            Start::Fresh => (SSH_FRESH_CONFIG, String::new()),
        };
        write(&ssh.join("id_ed25519"), &read(&key)?, 0o600, user.uid)?;
        write(&ssh.join("config"), config, 0o600, user.uid)?;
        write(&ssh.join("known_hosts"), &known, 0o600, user.uid)?;
    }
    Ok(())
}

/// Lets root of the first broker in everywhere.
fn administrator(layout: &Layout, host: &Host, root: &Path) -> Result<()> {
    let ssh = root.join(".ssh");
    make_dir(&ssh, 0o700, ROOT)?;
    let key = state_dir(&layout.name).join("keys").join(ADMINISTRATOR);
    write(&ssh.join("authorized_keys"), &read(&public(&key))?, 0o600, ROOT)?;
    if layout.of_role(Role::Broker).next() == Some(host) {
        write(&ssh.join("id_ed25519"), &read(&key)?, 0o600, ROOT)?;
        write(&ssh.join("config"), SSH_FRESH_CONFIG, 0o600, ROOT)?;
    }
    Ok(())
}

/// Where a host's homes lie.
pub(crate) fn home_dir(state: &Path, host: &Host) -> PathBuf {
    match host.role {
        Role::Client => state.join("hosts").join(&host.name).join("home"),
        Role::Broker | Role::Agent => state.join("home"),
    }
}

fn known_hosts(layout: &Layout) -> Result<String> {
    let keys = state_dir(&layout.name).join("keys");
    let mut text = String::new();
    for host in &layout.hosts {
        let key = read(&public(&keys.join(format!("host-{}", layout.host_key(host)))))?;
        let key: Vec<_> = key.split_whitespace().take(2).collect();
        writeln!(text, "{} {}", host.identities().join(","), key.join(" "))?;
    }
    Ok(text)
}

fn keygen(path: &Path, lock: &Lock) -> Result<()> {
    if public(path).is_file() {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    let mut keygen = command(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vsm-cluster"]);
    run(lock.lend(keygen.arg("-f").arg(path))?)?;
    Ok(())
}

fn public(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn make_dir(path: &Path, mode: u32, owner: u32) -> Result<()> {
    let context = || path.display().to_string();
    fs::create_dir_all(path).with_context(context)?;
    chown(path, Some(owner), Some(owner)).with_context(context)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(context)
}

pub(super) fn write(path: &Path, text: &str, mode: u32, owner: u32) -> Result<()> {
    let context = || path.display().to_string();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(context)?;
    }
    fs::write(path, text).with_context(context)?;
    chown(path, Some(owner), Some(owner)).with_context(context)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(context)
}
