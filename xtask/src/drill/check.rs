//! What the users were told, against what the tables say and what the agents really run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::{Outcome, users::Users};
use crate::cluster::Cluster;
use crate::pair;
use crate::progress::Progress;

/// The ids of the sessions whose X server really runs on an agent.
const RUNNING: &str = r#"
cd /var/lib/vsm-agent/sessions 2>/dev/null || exit 0
for f in *.json; do
  [ -e "$f" ] || continue
  pid=$(tr -d ' \n' < "$f" | sed 's/.*"x_server":{"pid":\([0-9]*\).*/\1/')
  kill -0 "$pid" 2>/dev/null && echo "${f%.json}"
done
true"#;

/// Agents that lost their power since the last look: desktops there ended with them.
#[derive(Debug, Default)]
pub(crate) struct Rebooted(BTreeSet<String>);

impl Rebooted {
    pub(crate) fn note(&mut self, agent: &str) {
        self.0.insert(agent.to_owned());
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    lost: Vec<String>,
    duplicates: Vec<String>,
    ghosts: Vec<String>,
    killed: Vec<String>,
    diverged: Vec<String>,
    pub(super) crippled: Vec<String>,
    pub(super) duels: Vec<String>,
    pub(super) noisy: Vec<String>,
}

impl Found {
    pub(crate) fn tell(&self, progress: &Progress) {
        let lists = [
            ("lost", &self.lost),
            ("duplicate", &self.duplicates),
            ("ghost", &self.ghosts),
            ("killed", &self.killed),
            ("diverged", &self.diverged),
            ("crippled", &self.crippled),
            ("duel", &self.duels),
            ("noisy", &self.noisy),
        ];
        for (what, list) in lists {
            for item in list {
                progress.step(format!("VIOLATION, {what}: {item}"));
            }
        }
    }

    pub(crate) fn add_to(&self, outcome: &mut Outcome) {
        outcome.lost += self.lost.len();
        outcome.duplicates += self.duplicates.len();
        outcome.ghosts += self.ghosts.len();
        outcome.killed += self.killed.len();
        outcome.diverged += self.diverged.len();
        outcome.crippled += self.crippled.len();
        outcome.duels += self.duels.len();
        outcome.noisy += self.noisy.len();
    }
}

/// Looks at everything while nobody does anything.
pub(crate) fn check(cluster: &Cluster, users: &Users, rebooted: &Rebooted) -> Result<Found> {
    let active = *pair::active(cluster).first().context("nobody is active")?;
    let compared = pair::verify(cluster, active)?;
    if !compared.skipped.is_empty() || compared.commit.is_none() {
        bail!("not all could be compared yet: {:?}", compared.skipped);
    }
    let rows = pair::rows(cluster, active)?;
    let running = running(cluster)?;
    let mut found = Found::default();
    for line in compared.differences {
        // Between the nodes, or between the table and an agent.
        let list = if line.contains(" is in the table and not on ") {
            &mut found.ghosts
        } else if line.contains(" runs on ") {
            &mut found.lost
        } else {
            &mut found.diverged
        };
        list.push(line);
    }
    let mut of_user: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !matches!(&*row.state, "ending" | "abandoned")) {
        of_user.entry(&row.user).or_default().push(&row.session);
    }
    for (user, sessions) in &of_user {
        for extra in sessions.iter().skip(1) {
            found.duplicates.push(format!("{user} has {extra} too"));
        }
    }
    for (user, known) in users.known() {
        let Some(desktop) = known.has else { continue };
        if rebooted.0.contains(&desktop.agent) {
            // Whether it went with its host, and when, is not known here.
            users.forget(&user);
            continue;
        }
        let runs = running.get(&desktop.session).is_some_and(|agent| *agent == desktop.agent);
        let in_table = rows.iter().any(|row| row.session == desktop.session);
        if known.unsure {
            continue;
        }
        if !runs {
            found.killed.push(format!("{user}'s {} on {}", desktop.session, desktop.agent));
        } else if !in_table {
            found.lost.push(format!("{user}'s {} on {}", desktop.session, desktop.agent));
        }
    }
    Ok(found)
}

/// Each session that runs, by id, with its agent.
fn running(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for agent in cluster.hosts().iter().filter(|host| host.name.starts_with("agent")) {
        let ids = cluster.output(&agent.name, "root", &["sh", "-c", RUNNING])?;
        all.extend(ids.lines().map(|id| (id.to_owned(), agent.name.clone())));
    }
    Ok(all)
}
