//! What root has promised, and what it knows to be revoked: neither goes back. On a host without desktops, where
//! another table may be served.

use anyhow::{Context, Result};

use super::calls::start;
use crate::attack::calls;
use crate::attack::case::{By, Case, NET, Seen, case, tool};
use crate::attack::stage::{LOST, Stage};

const DAY_MS: u64 = 86_400_000;
/// Of whom it is noted.
const NOBODY: &str = "agent/never-there";

/// A start for nobody by the reign as it is, which is promised to by it.
fn reigning(stage: &Stage<'_>) -> Result<Seen> {
    let told = calls::report(stage, "agent1")?;
    let of = |name: &str| {
        let found = told.iter().find(|(fact, _)| *fact == name);
        found.map(|(_, value)| value.clone()).with_context(|| format!("no {name}"))
    };
    let (counter, nonce) = (of("epoch.counter")?, of("epoch.nonce")?);
    let (node, lineage) = (of("epoch.node")?, of("lineage")?);
    let fence = format!(
        r#""fence":{{"epoch":{{"counter":{counter},"node":"{node}","nonce":{nonce}}},"incarnation":1,"lineage":"{lineage}"}},"#
    );
    let text = start("nobody-here", &fence, "");
    tool(stage, LOST, NET, &["call", &text, "unknown-user", "fenced|lineage|damaged"])
}

fn forgotten(name: &'static str, how: &'static str) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        reigning(stage)?;
        tool(stage, LOST, NET, &["forget", how])
    };
    case(name, By::TakenOver, "a broker that was replaced, and acts", attempt, reigning)
}

/// Says that something counts no more that begins before this moment, and up to when root keeps it.
fn revoke(stage: &Stage<'_>, before_ms: u64) -> Result<(Seen, Option<u64>)> {
    let text = format!(r#"{{"revoke":{{"fence":<NOW>,"identities":[["{NOBODY}",{before_ms}]]}}}}"#);
    let said = tool(stage, LOST, NET, &["call", &text, "done", "far ahead"])?;
    let line = format!("grep '^{NOBODY} ' /var/lib/vsm-agent/revoked | cut -d' ' -f2");
    Ok((said, stage.sh(LOST, &line)?.trim().parse().ok()))
}

fn now_ms(stage: &Stage<'_>) -> Result<u64> {
    Ok(stage.sh(LOST, "date +%s%3N")?.trim().parse()?)
}

/// A moment before the one that is noted.
fn counts_again() -> Case {
    // Noted at first, and by how much it is moved then.
    let moved = |stage: &Stage<'_>, to: fn(u64) -> u64| -> Result<Seen> {
        reigning(stage)?;
        let now = now_ms(stage)?;
        let (_, first) = revoke(stage, now)?;
        let (_, then) = revoke(stage, to(now))?;
        Ok(Seen::won_if(first != then, format!("{first:?}, then {then:?}")))
    };
    let attempt = move |stage: &Stage<'_>| moved(stage, |now| now - DAY_MS);
    let control = move |stage: &Stage<'_>| moved(stage, |now| now + 1000);
    let gets = "a revoked certificate that counts again";
    case("net-take-back-what-is-revoked", By::TakenOver, gets, attempt, control)
}

/// A moment that never comes, so that the host it names is shut out for ever.
fn for_ever() -> Case {
    let by = |ahead_ms: u64| {
        move |stage: &Stage<'_>| {
            reigning(stage)?;
            Ok(revoke(stage, now_ms(stage)? + ahead_ms)?.0)
        }
    };
    let gets = "a host that can have no certificate any more";
    case("net-revoke-for-years", By::TakenOver, gets, by(365 * DAY_MS), by(DAY_MS))
}

pub(super) fn all() -> Vec<Case> {
    vec![
        forgotten("net-forget-the-promise", "set-aside"),
        forgotten("net-forget-the-promise-by-another-table", "another-table"),
        counts_again(),
        for_ever(),
    ]
}
