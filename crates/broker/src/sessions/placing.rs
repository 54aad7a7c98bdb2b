//! What a new session is proposed with, and what is the matter with the agents that do not get it: for logins, and for
//! `vsmctl explain`, which asks the same without having it done.

use std::{fmt, sync::Arc, time::Duration};

use vsm_core::{AgentName, Draft, Eligible, Proposal, Rule, SessionId, UserName, lifecycle};
use vsm_daemon::clock;

use crate::{
    hosts::{
        agents::{LINK_WAIT, LinkState},
        fleet::Member,
    },
    sessions::Sessions,
    site::settings::Settings,
};

/// Agents that a refusal names: it is one line.
const NAMED_MAX: usize = 8;

/// Asks for a new session on the best of these agents.
pub(crate) fn reservation(
    sessions: &Sessions,
    settings: &Settings,
    draft: Draft,
    eligible: Arc<[Eligible]>,
    rule: Rule,
) -> Proposal {
    let uncounted = long_unreachable(sessions, &draft.user);
    Proposal::Reserve { draft, cap: settings.max_sessions_per_user, uncounted, eligible, rule }
}

/// The agents that can be asked; where none can, it waits a moment for those that are expected.
pub(crate) async fn eligible(
    sessions: &Sessions,
    subcluster: &str,
    user: &UserName,
) -> Arc<[Eligible]> {
    let (fleet, until) = (&sessions.agents.fleet, clock::now() + LINK_WAIT);
    let mut changes = sessions.agents.changes();
    loop {
        let eligible = fleet.eligible_for(subcluster, user);
        let is_expected = |member: &Member| {
            sessions.agents.link(&member.agent).is_some_and(|link| link.is_expected())
        };
        if !eligible.is_empty() || !fleet.members_of(subcluster).iter().any(is_expected) {
            return eligible;
        }
        match tokio::time::timeout_at(until.into(), changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return eligible,
        }
    }
}

/// The user's sessions on agents that have been silent for longer than the grace.
pub(crate) fn long_unreachable(sessions: &Sessions, user: &UserName) -> Vec<SessionId> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let silent_ms = |agent: &AgentName| match sessions.agents.link(agent).map(|link| link.state()) {
        Some(LinkState::Down { since, .. }) => Some(millis(since.elapsed())),
        Some(LinkState::Up(_) | LinkState::Connecting) | None => None,
    };
    let grace_ms = millis(sessions.settings().unreachable_grace);
    sessions.table.read(|view| lifecycle::uncounted(&view.table, user, grace_ms, silent_ms))
}

/// Why an agent takes no new sessions, as far as its link and the configuration know; none = it does.
pub(crate) fn why_not(sessions: &Sessions, member: &Member) -> Option<String> {
    match sessions.agents.link(&member.agent).map(|link| link.state()) {
        Some(LinkState::Down { why, .. }) => Some(format!("down, {why}")),
        Some(LinkState::Connecting) | None => Some("not reached yet".to_owned()),
        Some(LinkState::Up(_)) if member.settings.draining => {
            Some("draining (/vsmserver/agents/draining)".to_owned())
        }
        Some(LinkState::Up(up)) => {
            let second = member.second_of.as_ref();
            let second = second.map(|first| {
                format!("the same host as {first}, and used by that name alone (vsmctl ha check)")
            });
            let closed =
                || up.maintenance.as_ref().map(|text| format!("in maintenance{}", Said(text)));
            second.or_else(closed)
        }
    }
}

/// What a host in maintenance says, behind a colon; nothing where it says nothing.
pub(crate) struct Said<'a>(pub(crate) &'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// What is the matter with each agent of a subcluster of which none takes a session.
pub(crate) fn why_none(sessions: &Sessions, subcluster: &str) -> String {
    let members = sessions.agents.fleet.members_of(subcluster);
    let now = clock::unix_millis();
    let drained = |agent: &AgentName| sessions.table.read(|view| view.table.is_drained(agent, now));
    let state = |member: &Member| {
        let why = why_not(sessions, member)
            .unwrap_or_else(|| if drained(&member.agent) { "draining" } else { "full" }.to_owned());
        format!("{} is {why}", member.agent)
    };
    let mut states: Vec<_> = members.iter().take(NAMED_MAX).map(state).collect();
    if states.is_empty() {
        return "there are none".to_owned();
    }
    if members.len() > NAMED_MAX {
        states.push(format!("and {} more", members.len() - NAMED_MAX));
    }
    states.join("; ")
}
