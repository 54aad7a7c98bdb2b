//! Whether an attempt disturbs anybody: a login that fails, a desktop that ends, a session host that goes down, or
//! another node that becomes active.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::logins::{Logins, Mark};
use super::stage::{self, SPARE, Stage};
use crate::clock::wait_for;
use crate::pair::{self, Row};

/// How long the service may take to be well again before the next attempt.
const AGAIN: Duration = Duration::from_secs(90);
/// Session hosts that nothing that is done may bring down; the third is the attackers'.
const KEPT: [&str; 2] = ["agent1", "agent2"];

/// How it all stood before an attempt.
#[derive(Debug)]
pub(super) struct Before {
    desktops: BTreeMap<String, String>,
    logins: Mark,
    pids: Vec<(&'static str, &'static str, Option<i32>)>,
}

/// The desktops of those who have nothing to do with it: session and user.
fn desktops(stage: &Stage<'_>) -> Result<BTreeMap<String, String>> {
    let rows = pair::rows(stage.cluster, stage.fact("active")?)?;
    let theirs = |row: &Row| row.user != "bob" && !SPARE.contains(&&*row.user);
    Ok(rows.into_iter().filter(theirs).map(|row| (row.session, row.user)).collect())
}

fn pids(stage: &Stage<'_>) -> Vec<(&'static str, &'static str, Option<i32>)> {
    let brokers = pair::NODES.map(|node| (node, "vsmserver"));
    let parts = |agent| [(agent, "vsmagent"), (agent, "vsm-agent-net")];
    let agents = KEPT.into_iter().flat_map(parts);
    let pid = |host, daemon| stage.cluster.daemon(host, daemon).ok().and_then(|status| status.pid);
    brokers
        .into_iter()
        .chain(agents)
        .map(|(host, daemon)| (host, daemon, pid(host, daemon)))
        .collect()
}

/// How it stands.
pub(super) fn before(stage: &Stage<'_>, logins: &Logins) -> Result<Before> {
    Ok(Before { desktops: desktops(stage)?, logins: logins.mark(), pids: pids(stage) })
}

/// What was disturbed since then; and waits until it is not any more.
pub(super) fn disturbed(
    stage: &Stage<'_>,
    logins: &Logins,
    before: &Before,
) -> Result<Vec<String>> {
    let mut found = logins.failed_since(before.logins);
    for (then, now) in before.pids.iter().zip(pids(stage)) {
        if *then != now {
            found.push(format!("{} on {} was {:?} and is {:?}", now.1, now.0, then.2, now.2));
        }
    }
    match look(stage, before) {
        Ok(more) => found.extend(more),
        Err(error) => found.push(format!("{error:#}")),
    }
    if !found.is_empty() {
        let active = stage.fact("active")?;
        let _ = pair::in_step(stage.cluster, AGAIN);
        let _ = stage::agents_up(stage.cluster, active, &KEPT);
        let _ = wait_for("a login", AGAIN, || {
            pair::login(stage.cluster, "carol", 30).map_err(|error| format!("{error:#}"))
        });
    }
    Ok(found)
}

fn look(stage: &Stage<'_>, before: &Before) -> Result<Vec<String>> {
    let active = stage.fact("active")?;
    let node = pair::node(stage.cluster, active)?;
    if node.role != "active" || !node.ready {
        return Ok(vec![format!("{active} is {}", node.role)]);
    }
    let now = desktops(stage)?;
    let gone = before.desktops.iter().filter(|(session, _)| !now.contains_key(*session));
    let mut found: Vec<_> =
        gone.map(|(session, user)| format!("the desktop {session} of {user} is gone")).collect();
    found.extend(stage::agents_down(stage.cluster, active, &KEPT)?);
    Ok(found)
}
