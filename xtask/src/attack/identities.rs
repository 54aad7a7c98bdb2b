//! The certificates that attackers have: stolen from hosts, made for the purpose, or such as no command makes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::stage::{AGENTS, LOST, Stage};
use crate::command::{command, run};
use crate::pair::NODES;

/// Where the client sees them.
const THERE: &str = "/run/host/ids";

/// Who signs.
#[derive(Debug, Clone, Copy)]
enum Signer {
    Authority,
    /// A broker's issuer, whose key was stolen.
    Issuer,
    /// Another cluster's authority.
    Other,
}

/// `(folder, name, roles, who signs, begins, life in seconds)`.
type Made = (&'static str, &'static str, &'static [&'static str], Signer, i64, u64);

const DAY: u64 = 86_400;

const ALL: &[Made] = &[
    ("ops", "ops", &["admin"], Signer::Authority, 0, DAY),
    ("gone", "gone", &["admin"], Signer::Authority, 0, DAY),
    ("mallory", "mallory", &["admin"], Signer::Authority, 0, DAY),
    ("watcher", "watcher", &["admin"], Signer::Authority, 0, DAY),
    ("evil", "evil", &["broker"], Signer::Authority, 0, DAY),
    ("agent9", "agent9", &["agent"], Signer::Authority, 0, DAY),
    ("agent-ops", "ops", &["agent"], Signer::Authority, 0, DAY),
    ("agent-tlha", "{active}", &["agent"], Signer::Authority, 0, DAY),
    ("nobody", "nobody", &[], Signer::Authority, 0, DAY),
    ("former", "agent2", &["agent"], Signer::Authority, 0, 1),
    ("ended-broker", "{active}", &["broker"], Signer::Authority, 0, 1),
    ("ended-admin", "ops", &["admin"], Signer::Authority, 0, 1),
    ("early", "ops", &["admin"], Signer::Authority, 3 * 86_400, 10 * DAY),
    ("issued-agent", "agent2", &["agent"], Signer::Issuer, 0, DAY),
    ("issued-admin", "ops", &["admin"], Signer::Issuer, 0, DAY),
    ("issued-broker", "{standby}", &["broker"], Signer::Issuer, 0, DAY),
    ("issued-both", "{standby}", &["agent", "broker"], Signer::Issuer, 0, DAY),
    ("issued-nobody", "nobody", &[], Signer::Issuer, 0, DAY),
    ("other-admin", "ops", &["admin"], Signer::Other, 0, DAY),
    ("other-broker", "{standby}", &["broker"], Signer::Other, 0, DAY),
    ("other-agent", "agent2", &["agent"], Signer::Other, 0, DAY),
    ("later-agent", LOST, &["agent"], Signer::Authority, 0, 3650 * DAY),
    ("older-agent", LOST, &["agent"], Signer::Authority, -3_000_000, 3650 * DAY),
    ("ended-agent", LOST, &["agent"], Signer::Authority, 0, 1),
    ("broker-too", LOST, &["agent", "broker"], Signer::Authority, 0, 3650 * DAY),
    ("strange-agent", LOST, &["agent"], Signer::Other, 0, 3650 * DAY),
];

/// The folder of one, as the client sees it.
pub(super) fn of(name: &str) -> String {
    format!("{THERE}/{name}")
}

/// Makes all of them.
pub(super) fn make(stage: &Stage<'_>, binaries: &Path) -> Result<()> {
    let state = stage.dir();
    let ids = state.join("hosts/client/ids");
    fs::create_dir_all(&ids).context("the attackers' folder")?;
    let authority = state.join("pki");
    let other = state.join("pki-other");
    run(command(&[&binaries.join("vsmctl")]).args(["pki", "init", "--dir"]).arg(&other))?;
    for host in NODES.into_iter().chain(AGENTS) {
        let to = ids.join(host);
        fs::create_dir_all(&to)?;
        let issuer: &[&str] =
            if NODES.contains(&host) { &["issuer.pem", "issuer.key"] } else { &[] };
        for file in ["ca.pem", "host.pem", "host.key"].iter().chain(issuer) {
            let text = stage.sh(host, &format!("cat /etc/vsm/pki/{file}"))?;
            private(&to.join(file), &(text + "\n"))?;
        }
    }
    // It knows the authority, and has no certificate.
    fs::create_dir_all(ids.join("guest"))?;
    fs::copy(authority.join("ca.pem"), ids.join("guest/ca.pem"))?;
    for (folder, name, roles, signer, begins, life) in ALL {
        let (certificate, key) = match signer {
            Signer::Authority => (authority.join("ca.pem"), authority.join("ca.key")),
            Signer::Other => (other.join("ca.pem"), other.join("ca.key")),
            Signer::Issuer => {
                (ids.join("tlha-primary/issuer.pem"), ids.join("tlha-primary/issuer.key"))
            }
        };
        let mut forge = command(&[&binaries.join("vsm-bench")]);
        forge.args([
            "forge",
            &stage.fill(name)?,
            "--begins",
            &begins.to_string(),
            "--life",
            &life.to_string(),
        ]);
        for role in *roles {
            forge.args(["--role", role]);
        }
        forge.arg("--signer").arg(certificate).arg("--signer-key").arg(key);
        forge.arg("--trust").arg(authority.join("ca.pem")).arg("--out").arg(ids.join(folder));
        run(&mut forge)?;
    }
    Ok(())
}

fn private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).with_context(|| path.display().to_string())?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
