//! Sets the stage: the hosts with their configuration, people with a desktop, and what the attackers have.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::stage::{ADMINISTRATOR, AGENTS, LOST, OTHER, Stage, USERS, WAIT, agents_up};
use super::{calls, cases, identities, logins};
use crate::cluster::{Cluster, ClusterSpec};
use crate::command::{command, run};
use crate::pair::{self, NODES};
use crate::progress::Progress;

/// The object that tells of its loading, for `LD_PRELOAD`.
const OBJECT: &str = include_str!("tools/object.c");

/// Brings the hosts up; those with holes stand apart.
pub(super) fn up(name: &str, helper: &Path, binaries: PathBuf, holed: bool) -> Result<Cluster> {
    let name = if holed { format!("{name}-hole") } else { name.to_owned() };
    let mut spec = ClusterSpec::pair(name, helper);
    spec.fresh = true;
    spec.users = USERS;
    spec.agents = u8::try_from(AGENTS.len())?;
    spec.binaries = binaries;
    Cluster::up(&spec)
}

/// Sets all up; what the attacks are made on.
pub(super) fn set<'a>(
    cluster: &'a Cluster,
    binaries: &Path,
    hole: Option<&str>,
    progress: &Progress,
) -> Result<Stage<'a>> {
    let bench = cluster.install(&binaries.join("vsm-bench"))?.display().to_string();
    let mut stage = Stage::new(cluster, bench);
    settings(&stage, hole)?;
    logins::prepare(cluster)?;
    progress.step("the hosts are configured");
    let active = pair::in_step(cluster, WAIT)?;
    stage.know("active", active);
    stage.know("standby", pair::other(active));
    agents_up(cluster, active, &AGENTS)?;
    people(&mut stage)?;
    progress.step("alice, bob and carol have a desktop on agent1");
    cases::web::prepare(&mut stage)?;
    object(&stage)?;
    identities::make(&stage, binaries)?;
    reign(&mut stage)?;
    progress.step("the attackers have what they may have");
    Ok(stage)
}

fn settings(stage: &Stage<'_>, hole: Option<&str>) -> Result<()> {
    let hole = hole.map(|hole| format!("echo {hole} > /etc/vsm/hole; ")).unwrap_or_default();
    for agent in AGENTS {
        stage.sh(agent, pair::BARE_SCRIPT)?;
        stage.sh(agent, &format!("{hole}vsm-config /shadowing/shadowing_mode=silent"))?;
        // The distribution's own stack lets users set variables, and so does this one.
        stage.sh(
            agent,
            "echo 'session required pam_env.so user_readenv=1' >> /etc/pam.d/vsm; mkdir -p -m 1777 /tmp/loaded",
        )?;
        stage.cluster.restart_daemon(agent, "vsmagent")?;
    }
    for node in NODES {
        let words = format!(
            "{hole}groupadd -f vsmadmin; usermod -aG vsmadmin {ADMINISTRATOR}; mkdir -p /etc/vsm/sessionstartup.d; mkdir -p -m 1777 /tmp/loaded; \
             vsm-config /shadowing/allowed_shadowers=carol /vsmserver/bastion=true '/vsmserver/allowed_clients=ops gone' \
             /vsmserver/HA/observers=watcher /vsmserver/max_sessions_per_user=1"
        );
        stage.sh(node, &words)?;
    }
    for node in NODES {
        stage.cluster.restart_daemon(node, "vsmserver")?;
        pair::in_step(stage.cluster, WAIT)?;
    }
    Ok(())
}

/// Gives everybody the desktop that they begin with.
fn people(stage: &mut Stage<'_>) -> Result<()> {
    let active = stage.fact("active")?.to_owned();
    let drain = |agent: &str, word: &str, more: &str| {
        stage.sh(&active, &format!("vsmctl agent {word} {agent} {more}")).map(drop)
    };
    drain("agent2", "drain", "--reason others")?;
    drain(LOST, "drain", "--reason lost")?;
    drain(OTHER, "drain", "--reason lost")?;
    let mut facts = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let desktop = pair::login(stage.cluster, user, 60)?;
        if desktop.agent != "agent1" {
            bail!("{user} is on {}", desktop.agent);
        }
        let record = format!("cat /var/lib/vsm-agent/sessions/{}.json", desktop.session);
        let record: serde_json::Value = serde_json::from_str(&stage.sh("agent1", &record)?)?;
        let dir = format!("/run/vsm/sessions/{}", desktop.session);
        let pid = |part: &str| record[part]["pid"].to_string();
        facts.extend([
            (format!("{user}.session"), desktop.session.clone()),
            (format!("{user}.display"), desktop.display.to_string()),
            (format!("{user}.dir"), dir),
            (format!("{user}.x"), pid("x_server")),
            (format!("{user}.monitor"), pid("monitor")),
        ]);
        let script = format!("pgrep -u {user} -f '^sleep 86400' | head -n 1");
        facts.push((format!("{user}.desktop"), stage.sh("agent1", &script)?));
    }
    drain("agent2", "undrain", "")?;
    drain("agent1", "drain", "--reason full")?;
    for (name, value) in facts {
        stage.know(&name, value);
    }
    Ok(())
}

/// What a preloaded object is made of, where all hosts see it.
fn object(stage: &Stage<'_>) -> Result<()> {
    let dir = stage.dir();
    let (source, object) = (dir.join("object.c"), dir.join("object.so"));
    fs::write(&source, OBJECT)?;
    let mut cc = command(&["cc", "-shared", "-fPIC", "-O0", "-o"]);
    run(cc.arg(&object).arg(&source))?;
    stage.cluster.install(&object)?;
    Ok(())
}

/// What whoever has a broker's certificate can ask: the table's lineage, and the reign.
fn reign(stage: &mut Stage<'_>) -> Result<()> {
    let told = calls::report(stage, "agent1")?;
    for (name, value) in told {
        stage.know(name, value);
    }
    Ok(())
}
