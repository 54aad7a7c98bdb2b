//! The cluster's certificates, made with the product's own `vsmctl pki` as an administrator would.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::lock::Lock;
use super::spec::{Host, Layout, Role, state_dir};
use crate::command::{command, run};
use crate::host::boot::Paths;

/// Issues what a host needs for its first start; without a built `vsmctl` it goes without.
pub(super) fn of_host(layout: &Layout, host: &Host, lock: &Lock) -> Result<()> {
    let state = state_dir(&layout.name);
    let vsmctl = state.join("bin/vsmctl");
    let mut roles = Vec::new();
    roles.extend((host.role == Role::Broker).then_some(["--role", "broker"]));
    roles.extend(layout.runs_agent(host).then_some(["--role", "agent"]));
    if roles.is_empty() {
        return Ok(());
    }
    let (authority, out) = (state.join("pki"), Paths::of(&state, &host.name).vsm.join("pki"));
    let all = |dir: &Path, files: &[&str]| files.iter().all(|file| dir.join(file).exists());
    if !vsmctl.exists() || all(&out, &["ca.pem", "host.pem", "host.key"]) {
        return Ok(());
    }
    // What is half made, by a command that was killed, is made again.
    let _ = fs::remove_dir_all(&out);
    if !all(&authority, &["ca.pem", "ca.key"]) {
        let _ = fs::remove_dir_all(&authority);
        let mut init = command(&[&vsmctl]);
        run(lock.lend(init.args(["pki", "init", "--dir"]).arg(&authority))?)?;
    }
    fs::create_dir_all(&out)?;
    let mut issue = command(&[&vsmctl]);
    issue.args(["pki", "issue", &host.name]).args(roles.concat()).arg("--dir").arg(&authority);
    for identity in host.identities() {
        issue.args(["--address", &identity]);
    }
    run(lock.lend(issue.arg("--out").arg(&out))?)?;
    if host.role == Role::Broker {
        let mut issuer = command(&[&vsmctl]);
        issuer.args(["pki", "issuer", &host.name, "--dir"]).arg(&authority).arg("--out").arg(&out);
        run(lock.lend(&mut issuer)?)?;
    }
    Ok(())
}
