//! `cargo xtask setup`: the tools that development, tests and the demo need.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{command, show, tail};
use crate::compile::{self, cargo};
use crate::host::daemon::LIBFAKETIME;
use crate::progress::Progress;

/// A file that is there exactly if its Debian package is.
const NEEDED: [(&str, &str); 23] = [
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/bin/Xtigervnc", "tigervnc-standalone-server"),
    ("/usr/bin/xtigervncviewer", "tigervnc-viewer"),
    ("/usr/bin/openbox-session", "openbox"),
    ("/usr/bin/xterm", "xterm"),
    ("/usr/bin/xdotool", "xdotool"),
    ("/usr/bin/xauth", "xauth"),
    ("/usr/bin/xdpyinfo", "x11-utils"),
    ("/usr/bin/xsetroot", "x11-xserver-utils"),
    ("/usr/share/fonts/X11/misc/fonts.dir", "xfonts-base"),
    ("/usr/bin/dbus-run-session", "dbus-daemon"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/bin/ps", "procps"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/env", "coreutils"),
    ("/usr/sbin/keepalived", "keepalived"),
    (LIBFAKETIME, "libfaketime"),
    ("/usr/bin/cc", "gcc"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/git", "git"),
];

/// What a cluster with Pacemaker needs beside that. Installed only for the tests, and when one is asked for.
const FOR_PACEMAKER: [(&str, &str); 8] = [
    ("/usr/sbin/corosync", "corosync"),
    ("/usr/sbin/pacemakerd", "pacemaker"),
    ("/usr/sbin/crm_mon", "pacemaker-cli-utils"),
    ("/usr/sbin/ocf-tester", "resource-agents"),
    ("/usr/bin/xmllint", "libxml2-utils"),
    ("/usr/sbin/crm", "crmsh"),
    ("/usr/sbin/fence_heuristics_ping", "fence-agents"),
    ("/usr/bin/ping", "iputils-ping"),
];

/// The other tool for Pacemaker's configuration: only for the test that compares what both make.
const PCS: [(&str, &str); 1] = [("/usr/sbin/pcs", "pcs")];

/// A whole desktop: only for the test that ends one.
const XFCE: [(&str, &str); 4] = [
    ("/usr/bin/xfce4-session", "xfce4-session"),
    ("/usr/bin/xfwm4", "xfwm4"),
    ("/usr/bin/xfdesktop", "xfdesktop4"),
    ("/usr/libexec/gvfsd", "gvfs"),
];

/// What fresh hosts need beside that: Debian's own PID 1, as on a machine that boots.
const SYSTEMD: [(&str, &str); 4] = [
    ("/lib/systemd/systemd", "systemd"),
    ("/usr/bin/dbus-daemon", "dbus"),
    ("/usr/share/pam-configs/systemd", "libpam-systemd"),
    ("/usr/lib/systemd/user/dbus.socket", "dbus-user-session"),
];

/// What tests with browsers need: the browsers and their drivers, what makes them trust an authority, what fetches what
/// they run, a second factor for logins, and a clipboard's other end.
const BROWSERS: [(&str, &str); 10] = [
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/chromedriver", "chromium-driver"),
    ("/usr/bin/firefox-esr", "firefox-esr"),
    ("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"),
    ("/usr/bin/certutil", "libnss3-tools"),
    ("/usr/bin/npm", "npm"),
    ("/usr/bin/google-authenticator", "libpam-google-authenticator"),
    ("/usr/bin/oathtool", "oathtool"),
    ("/usr/bin/xclip", "xclip"),
    ("/usr/bin/python3", "python3"),
];

/// Firefox's driver, which Debian has no package of: built by cargo, at this version.
const GECKODRIVER: (&str, &str) = ("geckodriver", "0.37.0");

/// Installers that failed, and whose words are kept.
const TALKS_MAX: u32 = 1000;

/// Keeps packages from starting their services while they are installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing.
///
/// # Errors
/// When something is missing and this is only a check, or not root: the error has the command
/// that installs it.
pub fn setup(check: bool) -> Result<()> {
    packages(&NEEDED, check)?;
    if has_cargo_tool("cargo-nextest") {
        return Ok(());
    }
    cargo_install(&["cargo-nextest".as_ref()], check)
}

/// Installs what tests with browsers need.
///
/// # Errors
/// As [`setup`].
pub fn browsers(check: bool) -> Result<()> {
    packages(&BROWSERS, check)?;
    let (program, version) = GECKODRIVER;
    if geckodriver()?.is_file() {
        return Ok(());
    }
    let root = tools()?;
    let words = [program, "--version", version, "--root"].map(OsStr::new);
    cargo_install(&[&words, &[root.as_os_str()][..]].concat(), check)
}

/// Where Firefox's driver is, if it is installed.
pub(crate) fn geckodriver() -> Result<PathBuf> {
    Ok(tools()?.join("bin").join(GECKODRIVER.0))
}

/// Where tools lie that cargo builds for the tests alone.
fn tools() -> Result<PathBuf> {
    Ok(compile::target()?.join("tools"))
}

/// Has cargo build and install a program, with these arguments.
fn cargo_install(words: &[&OsStr], check: bool) -> Result<()> {
    let mut install = cargo();
    install.args(["install", "--locked"]).args(words);
    let hint = format!("cargo install --locked {}", words.join(OsStr::new(" ")).display());
    if check {
        bail!("missing: {hint}");
    }
    Progress::new(true).step(hint);
    let talk = Talk::new()?;
    quietly(&mut install, &talk)?;
    talk.forget();
    Ok(())
}

/// Installs what any test needs.
///
/// # Errors
/// As [`setup`].
pub(crate) fn everything() -> Result<()> {
    setup(false)?;
    [&FOR_PACEMAKER[..], &PCS, &XFCE, &SYSTEMD]
        .into_iter()
        .try_for_each(|some| packages(some, false))
}

/// Installs what is missing of Pacemaker.
///
/// # Errors
/// As [`setup`].
pub fn pacemaker() -> Result<()> {
    packages(&FOR_PACEMAKER, false)
}

/// Installs pcs.
///
/// # Errors
/// As [`setup`].
pub fn pcs() -> Result<()> {
    packages(&PCS, false)
}

/// Installs XFCE.
///
/// # Errors
/// As [`setup`].
pub fn xfce() -> Result<()> {
    packages(&XFCE, false)
}

/// Installs what fresh hosts need, and no tool of cargo.
///
/// # Errors
/// As [`setup`].
pub(crate) fn fresh_hosts() -> Result<()> {
    packages(&NEEDED, false)?;
    packages(&SYSTEMD, false)
}

/// Has each of these files there, by the Debian package beside it.
///
/// # Errors
/// As [`setup`].
pub(crate) fn packages(needed: &[(&str, &'static str)], check: bool) -> Result<()> {
    let mut packages: Vec<_> =
        needed.iter().filter(|(file, _)| !Path::new(file).exists()).map(|entry| entry.1).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if check || !nix::unistd::geteuid().is_root() {
        bail!("missing packages; as root: apt-get install --no-install-recommends -y {list}");
    }
    Progress::new(true).step(format!("installing {list}"));
    install(&packages)
}

/// Puts a Debian package, and what it needs that this machine has not, into a folder, and installs nothing here.
///
/// # Errors
/// When apt cannot have them, or the folder cannot be made.
pub fn fetch(package: &str, into: &Path) -> Result<()> {
    // Whole or not at all: who finds the folder finds the packages.
    let part = into.with_extension("part");
    std::fs::create_dir_all(part.join("partial"))?;
    let mut download = command(&["apt-get", "install", "--download-only"]);
    download.arg("--option").arg(format!("Dir::Cache::archives={}", part.display()));
    apt(&mut download, &[package])?;
    Ok(std::fs::rename(&part, into)?)
}

/// Whether cargo finds this subcommand.
pub(crate) fn has_cargo_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new(&home).join(".cargo/bin")])
        .any(|dir| dir.join(name).is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    let policy = Path::new(POLICY);
    let ours = !policy.exists();
    if ours {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        show(&mut command(&["chmod", "755", POLICY]))?;
    }
    let result = apt(&mut command(&["apt-get", "install"]), packages);
    if ours {
        std::fs::remove_file(policy)?;
    }
    result
}

/// Where installers talk to: nobody wants to read it unless one fails.
struct Talk {
    path: PathBuf,
    file: File,
}

impl Talk {
    /// A new file, which nobody else has made.
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir();
        for number in 1..=TALKS_MAX {
            let path = dir.join(format!("vsm-setup-{number}.log"));
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        bail!("remove the old files {}", dir.join("vsm-setup-*.log").display())
    }

    /// Removes it: all went well.
    fn forget(self) {
        // It lies in the folder for what is of no use any more.
        let _ = std::fs::remove_file(self.path);
    }
}

/// Runs an installer, with all that it says going to a file; the error names it and has the end of it.
fn quietly(installer: &mut Command, talk: &Talk) -> Result<()> {
    installer.stdin(Stdio::null()).stdout(talk.file.try_clone()?).stderr(talk.file.try_clone()?);
    show(installer).map_err(|error| {
        let said = std::fs::read(&talk.path).unwrap_or_default();
        let path = talk.path.display();
        error.context(format!(
            "an installer failed; all that it said is in {path}:\n{}",
            tail(&said)
        ))
    })
}

fn apt(install: &mut Command, packages: &[&str]) -> Result<()> {
    install.args(["--no-install-recommends", "-qq", "-y"]);
    install.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    let talk = Talk::new()?;
    if quietly(install, &talk).is_err() {
        // The lists may be missing or old.
        quietly(&mut command(&["apt-get", "update", "-qq"]), &talk)?;
        quietly(install, &talk)?;
    }
    talk.forget();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_installer_says_is_told_if_it_fails_and_named() {
        let talk = Talk::new().unwrap();
        quietly(command(&["sh", "-c", "echo fetched"]).env("LANG", "C"), &talk).unwrap();
        let mut failed = command(&["sh", "-c", "echo no space >&2; exit 3"]);
        let error = quietly(&mut failed, &talk).unwrap_err().to_string();
        let path = talk.path.clone();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.ends_with("fetched\nno space"), "{error}");
        talk.forget();
        assert!(!path.exists());
    }
}
