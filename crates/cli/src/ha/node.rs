//! A node of the pair as `vsmctl ha` shows it: the broker's view in words and numbers that are the same in a table and
//! in JSON.

use serde::Serialize;
use vsm_proto::{admin::v1 as pb, session::v1::Epoch, sync::v1::Lsn};

use crate::{output, trouble::Trouble};

/// A node as it sees itself; the JSON fields are stable. Where it could not be asked, `unreachable` says why and all
/// behind it is empty.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) local: bool,
    pub(super) unreachable: Option<String>,
    pub(super) at: Option<String>,
    pub(super) age_ms: u64,
    pub(super) role: String,
    pub(super) ready: bool,
    pub(super) votes: bool,
    pub(super) epoch: Option<String>,
    pub(super) promised: Option<String>,
    pub(super) last: Option<String>,
    pub(super) commit: u64,
    pub(super) behind: u64,
    pub(super) backlog: u64,
    pub(super) second_vote: String,
    pub(super) wanted: bool,
    pub(super) failed_claims: u32,
    pub(super) role_source: String,
    pub(super) holds_address: bool,
    pub(super) healthy: bool,
    pub(super) health_reason: String,
    pub(super) witnesses: Vec<Witness>,
    pub(super) stream: Option<Stream>,
    pub(super) sessions: u32,
    pub(super) table_digest: String,
    pub(super) parameters_differ: Vec<String>,
    pub(super) host_keys_differ: bool,
    pub(super) host_keys: Vec<String>,
    pub(super) ha_off: Option<String>,
    pub(super) version: String,
    pub(super) lineage: String,
    pub(super) store_fault: Option<String>,
    pub(super) former_life: bool,
    pub(super) peer_fenced: bool,
    pub(super) troubles: Vec<Trouble>,
}

/// A witness as a node sees it; the JSON fields are stable.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Witness {
    pub(super) agent: String,
    pub(super) up: bool,
    pub(super) promised: Option<String>,
    pub(super) kept: u64,
    pub(super) trouble: Option<String>,
}

impl Witness {
    /// Whether its vote is to be had.
    pub(super) const fn votes(&self) -> bool {
        self.up && self.trouble.is_none()
    }
}

/// A node's stream to the other one; the JSON fields are stable.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Stream {
    pub(super) open: bool,
    pub(super) why: Option<String>,
    pub(super) since: Option<String>,
    pub(super) rtt_us: u64,
    pub(super) clock_skew_ms: i64,
    pub(super) opened: u64,
    pub(super) refused: u64,
    pub(super) garbled: u64,
}

fn told(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn epoch(epoch: Option<&Epoch>) -> Option<String> {
    epoch.map(|epoch| format!("{}@{}", epoch.counter, epoch.node))
}

/// `COUNTER@NODE/NUMBER`; before everything it is `0`.
pub(crate) fn position(lsn: &Lsn) -> String {
    epoch(lsn.epoch.as_ref())
        .map_or_else(|| lsn.seq.to_string(), |epoch| format!("{epoch}/{}", lsn.seq))
}

impl Node {
    /// From the broker's view; `now_unix_ms` is by the clock here.
    pub(super) fn new(view: pb::NodeView, now_unix_ms: u64) -> Self {
        let health = view.health.unwrap_or_default();
        Self {
            unreachable: told(view.unreachable),
            at: output::time(view.at_unix_ms),
            age_ms: if view.at_unix_ms == 0 {
                0
            } else {
                now_unix_ms.saturating_sub(view.at_unix_ms)
            },
            epoch: epoch(view.epoch.as_ref()),
            promised: epoch(view.promised.as_ref()),
            last: view.last.as_ref().map(position),
            healthy: health.healthy,
            health_reason: health.reason,
            witnesses: view.witnesses.into_iter().map(Into::into).collect(),
            stream: view.stream.map(Into::into),
            table_digest: format!("{:016x}", view.table_digest),
            ha_off: told(view.r#unsafe),
            store_fault: told(view.store_fault),
            name: view.name,
            local: view.local,
            role: view.role,
            ready: view.ready,
            votes: view.votes,
            commit: view.commit,
            behind: view.behind,
            backlog: view.backlog,
            second_vote: view.second_vote,
            wanted: view.wanted,
            failed_claims: view.failed_claims,
            role_source: view.role_source,
            holds_address: view.holds_address,
            sessions: view.sessions,
            parameters_differ: view.parameters_differ,
            host_keys_differ: view.host_keys_differ,
            host_keys: view.host_keys,
            version: view.version,
            lineage: view.lineage,
            peer_fenced: view.peer_fenced,
            former_life: view.former_life,
            troubles: view.troubles.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether it could be asked.
    pub(super) const fn reached(&self) -> bool {
        self.unreachable.is_none()
    }

    /// Whether it is active, or says so.
    pub(super) fn is_active(&self) -> bool {
        self.role == "active"
    }

    /// Whether it is one of a pair, or is to be.
    pub(super) fn in_pair(&self) -> bool {
        self.role != "standalone" && self.role != "apart"
    }

    /// Whether it has a stream that is open.
    pub(super) fn is_linked(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.open)
    }
}

/// Puts the age of the other node's view right by the difference of the clocks, which the local node has measured.
pub(super) fn list(views: Vec<pb::NodeView>, now_unix_ms: u64) -> Vec<Node> {
    let skew = views
        .iter()
        .find(|view| view.local)
        .and_then(|view| view.stream.as_ref())
        .map_or(0, |stream| stream.clock_skew_ms);
    let now = |local: bool| {
        if local { now_unix_ms } else { now_unix_ms.saturating_add_signed(skew) }
    };
    views
        .into_iter()
        .map(|view| {
            let now = now(view.local);
            Node::new(view, now)
        })
        .collect()
}

impl From<pb::WitnessView> for Witness {
    fn from(view: pb::WitnessView) -> Self {
        Self {
            promised: epoch(view.promised.as_ref()),
            trouble: told(view.trouble),
            agent: view.agent,
            up: view.up,
            kept: view.kept,
        }
    }
}

impl From<pb::StreamView> for Stream {
    fn from(view: pb::StreamView) -> Self {
        Self {
            open: view.open,
            why: told(view.why),
            since: output::time(view.since_unix_ms),
            rtt_us: view.rtt_us,
            clock_skew_ms: view.clock_skew_ms,
            opened: view.opened,
            refused: view.refused,
            garbled: view.garbled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_the_other_view_is_by_its_own_clock() {
        let stream = Some(pb::StreamView { clock_skew_ms: -5000, ..Default::default() });
        let here = pb::NodeView { local: true, at_unix_ms: 99_990, stream, ..Default::default() };
        let there = pb::NodeView { at_unix_ms: 94_980, ..Default::default() };
        let away = pb::NodeView { unreachable: "no route".into(), ..Default::default() };
        let nodes = list(vec![here.clone(), there], 100_000);
        assert_eq!((nodes[0].age_ms, nodes[1].age_ms), (10, 20));
        let nodes = list(vec![here, away], 100_000);
        assert_eq!((nodes[1].age_ms, nodes[1].reached()), (0, false));
    }

    #[test]
    fn positions_name_the_reign_and_the_number() {
        let epoch = Some(Epoch { nonce: 0, counter: 7, node: "a".into() });
        assert_eq!(position(&Lsn { epoch, seq: 12 }), "7@a/12");
        assert_eq!(position(&Lsn { epoch: None, seq: 0 }), "0");
    }
}
