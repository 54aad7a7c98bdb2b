//! What an agent tells, as it can be shown: it is written by somebody on another host, so it is bounded and printable,
//! and what cannot be is left out.

use std::sync::Arc;

use vsm_core::{AgentName, SessionId, Standing, StartParams, UserName};
use vsm_daemon::hole::{self, Hole};
use vsm_daemon::trouble::{ALL_MAX, Kind, TEXT_MAX};
use vsm_proto::{agent::v1 as pb, session::v1::LiveSession};

use crate::hosts::agents::{Link, Seen};

/// Who shadows one session at a time, as far as it is noted.
const SHADOWERS_MAX: usize = 64;
/// What is shown of what a host in maintenance says, in characters.
const MAINTENANCE_MAX: usize = 500;

/// A text of an agent's that obeys nobody's terminal.
pub(crate) fn printable(text: &str) -> String {
    if hole::is_open(Hole::Unprintable) { text.to_owned() } else { vsm_core::printable(text) }
}

/// Which sessions it tells of.
pub(crate) fn ids(told: &[LiveSession]) -> impl Iterator<Item = SessionId> {
    told.iter().filter_map(|live| live.session.as_ref()?.id.parse().ok())
}

/// What a host in maintenance says.
pub(crate) fn maintenance(told: Option<String>) -> Option<Arc<str>> {
    let bounded = |text: String| printable(&text).chars().take(MAINTENANCE_MAX).collect::<String>();
    told.map(bounded).map(Into::into)
}

/// A line that a host says, bounded as what it says is wrong.
pub(crate) fn line(text: &str) -> String {
    printable(text).chars().take(TEXT_MAX).collect()
}

/// What a host says is wrong there.
pub(crate) fn troubles(told: Vec<pb::Trouble>) -> Arc<[pb::Trouble]> {
    let shown = |trouble: pb::Trouble| pb::Trouble {
        kind: line(&trouble.kind),
        what: line(&trouble.what),
        since_unix_ms: trouble.since_unix_ms,
        next_step: line(&trouble.next_step),
    };
    told.into_iter().take(ALL_MAX).map(shown).collect()
}

/// Where users are sent to reach an agent: what it says, if a host can have that name or address.
pub(crate) fn public_name(link: &Link, told: &str) -> String {
    match told.parse::<AgentName>() {
        Ok(name) => {
            link.troubles.over(Kind::Refused, "name");
            name.to_string()
        }
        Err(error) => {
            let what = format!(
                "its public name cannot be that of a host, and users are sent to the name that the configuration has: {error}"
            );
            link.troubles.raise(Kind::Refused, "name", what);
            link.name.to_string()
        }
    }
}

/// Who shadows a session; what cannot be a user's name is nobody.
pub(crate) fn shadowers(live: &LiveSession) -> Vec<String> {
    let names = live.shadowers.iter().filter_map(|name| name.parse::<UserName>().ok());
    names.take(SHADOWERS_MAX).map(|name| printable(name.as_str())).collect()
}

/// What an agent tells of a session besides its record.
pub(crate) fn seen(live: &LiveSession) -> Seen {
    Seen {
        viewer: live.viewer.clone().map(Into::into),
        client: Some(printable(&live.last_client)).filter(|name| !name.is_empty()).map(Into::into),
        standing: standing(live),
    }
}

/// How a session stands against its limits, as its agent tells it.
fn standing(live: &LiveSession) -> Option<Arc<Standing>> {
    match live.standing.clone()?.try_into() {
        Ok(standing) => Some(Arc::new(standing)),
        Err(error) => {
            tracing::warn!(%error, "cannot read how a session stands");
            None
        }
    }
}

/// The words of a session that come from its host, as they can be shown.
pub(crate) fn shown(params: StartParams) -> StartParams {
    let all = |text: &str| printable(text).into();
    StartParams {
        start_command: all(&params.start_command),
        language: all(&params.language),
        client_name: all(&params.client_name),
        ..params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_in_the_wrong_hands_says_is_wrong_is_bounded_and_printable() {
        let evil = pb::Trouble {
            kind: "disk\u{1b}[2J".to_owned(),
            what: "\u{1b}]0;title\u{7}".repeat(1000),
            since_unix_ms: u64::MAX,
            next_step: "run\nrm -rf /".to_owned(),
        };
        let told = troubles(vec![evil; 100_000]);
        assert_eq!(told.len(), ALL_MAX);
        for text in [&told[0].kind, &told[0].what, &told[0].next_step] {
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.chars().count() <= TEXT_MAX, "{text:?}");
        }
    }
}
