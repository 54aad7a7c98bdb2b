//! What a host of a cluster has for people who log in with a browser: the sshd that `vsm-web` speaks to, with the
//! configuration that is shipped, and what it asks them for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::files::{BROKER_USER, ROOT, WEB_GROUP, home_dir, read, write};
pub use super::spec::{Factors, PASSWORD};
use super::spec::{Host, Layout, Role, Start, User, state_dir};
use crate::command::run;
use crate::host::boot::{Paths, RunDir, VSM_BIN};
use crate::npm::NOVNC;

/// What everybody's one-time codes are made from, as `oathtool --totp --base32` takes it.
pub const CODE_SECRET: &str = "JBSWY3DPEHPK3PXP";
/// Where it listens: for forms, and for keys.
pub const PORTS: [u16; 2] = [5022, 5023];
/// Its name among a host's daemons.
pub(super) const SSHD: &str = "vsm-web-sshd";
/// And that of what faces browsers.
pub(super) const WEB: &str = "vsm-web";
/// As its unit has it: nobody, with the power to take a port below 1024 and no other.
pub(super) const UNPRIVILEGED: [&str; 8] = [
    "/usr/bin/setpriv",
    "--reuid=nobody",
    "--regid=nogroup",
    "--groups=vsm-web",
    "--inh-caps=-all,+net_bind_service",
    "--ambient-caps=+net_bind_service",
    "--bounding-set=-all,+net_bind_service",
    "/usr/bin/vsm-web",
];

const SSHD_CONFIG: &str = include_str!("../../../deploy/web/sshd_config");
const SSHD_SCRIPT: &str = include_str!("../../../deploy/web/vsm-web-sshd");
/// How Debian's sshd asks, and the line that asks for a code after it.
const PAM: &str = "/etc/pam.d/sshd";
const PAM_PASSWORD: &str = "@include common-auth\n";
const PAM_CODE: &str = "auth required pam_google_authenticator.so\n";

/// The one-time code that is good now.
///
/// # Errors
/// When there is no `oathtool`.
pub fn code() -> Result<String> {
    let mut oathtool = crate::command::command(&["oathtool", "--totp", "--base32", CODE_SECRET]);
    let output = run(&mut oathtool).context("cargo xtask setup installs it")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The folder of the socket at which `vsm-web` hands in what an OpenID provider says, as the package's tmpfiles.d makes
/// it at each boot.
pub(super) fn folder() -> RunDir {
    RunDir { path: "/run/vsm-web".into(), mode: 0o2750, owner: BROKER_USER.1, group: WEB_GROUP.1 }
}

/// What people are asked for on this host; none = it has no such sshd.
pub(super) fn factors(layout: &Layout, host: &Host) -> Option<Factors> {
    layout.web.filter(|_| layout.start == Start::Ready && host.role == Role::Broker)
}

/// Its command.
pub(super) fn command() -> [String; 2] {
    [format!("{VSM_BIN}/{SSHD}"), "-e".to_owned()]
}

/// What all of them have: the script that starts it, and what browsers run.
pub(super) fn shared(layout: &Layout) -> Result<()> {
    if layout.web.is_none() {
        return Ok(());
    }
    let script = state_dir(&layout.name).join("bin").join(SSHD);
    write(&script, SSHD_SCRIPT, 0o755, ROOT)?;
    let novnc = share(layout).join("vsm-web/novnc");
    if novnc.is_dir() { Ok(()) } else { NOVNC.unpack_into(&novnc) }
}

/// Where a host sees that, as the package puts it.
pub(super) fn overlay(layout: &Layout) -> (PathBuf, PathBuf) {
    (share(layout), "/usr/share".into())
}

fn share(layout: &Layout) -> PathBuf {
    state_dir(&layout.name).join("web/share")
}

/// Gives it a certificate for the resource address: the broker's is one.
pub(super) fn certificate() -> [Vec<String>; 2] {
    let install = |options: &[&str], from: &str, to: &str| {
        let words = [&["/usr/bin/install"], options, &[from, to]].concat();
        words.into_iter().map(str::to_owned).collect()
    };
    let owner = ["-m", "400", "-o", "nobody", "-g", "nogroup"];
    [
        install(&["-m", "644"], "/etc/vsm/pki/host.pem", "/etc/vsm/web/cert.pem"),
        install(&owner, "/etc/vsm/pki/host.key", "/etc/vsm/web/key.pem"),
    ]
}

/// The files of one host.
pub(super) fn of_host(layout: &Layout, host: &Host) -> Result<()> {
    let Some(factors) = factors(layout, host) else { return Ok(()) };
    let state = state_dir(&layout.name);
    let (paths, homes) = (Paths::of(&state, &host.name), home_dir(&state, host));
    write(&paths.vsm.join("web/sshd_config"), SSHD_CONFIG, 0o644, ROOT)?;
    // The host's own takes keys alone, so a site has to say what holds for browsers.
    let own = paths.vsm.join("web/sshd_config.d/site.conf");
    write(&own, "AuthenticationMethods any\n", 0o644, ROOT)?;
    if factors == Factors::PasswordAndCode {
        write(&paths.etc.join("pam.d/sshd"), &pam()?, 0o644, ROOT)?;
        for User { name, uid } in &layout.users {
            let mut text = format!("{CODE_SECRET}\n");
            // A code may be used again: tests log in more often than twice a minute.
            writeln!(text, "\" WINDOW_SIZE 3\n\" TOTP_AUTH")?;
            write(&homes.join(name).join(".google_authenticator"), &text, 0o600, *uid)?;
        }
    }
    Ok(())
}

/// Debian's file, and what makes it ask for a code too.
fn pam() -> Result<String> {
    let text = read(Path::new(PAM))?;
    let (before, after) = text
        .split_once(PAM_PASSWORD)
        .with_context(|| format!("{PAM} has no line {PAM_PASSWORD:?}"))?;
    Ok(format!("{before}{PAM_PASSWORD}{PAM_CODE}{after}"))
}
