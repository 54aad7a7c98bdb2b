//! This node and the other one, as each tells of itself.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use tonic::Code;
use vsm_core::{
    AgentName, Epoch,
    replica::{Second, Standing, Status as Replica},
};
use vsm_daemon::{clock, trouble::Kind};
use vsm_proto::{
    admin::v1::{self as pb, ha_client::HaClient},
    replica::epoch_message,
};
use vsm_sync::peer::Stream;

use super::verify;
use crate::{
    api::{Edge, caller},
    hosts::agents::{CallError, Link, LinkState, Up},
    pair::{Ha, Pair, card, fenced, health::preference},
};

/// How long the other node may take for its own view.
const PEER_DEADLINE: Duration = Duration::from_secs(3);

/// This node as it sees itself.
pub(crate) fn own_view(edge: &Edge) -> pb::NodeView {
    let state = edge.table.state();
    let replica = &state.replica;
    let (sessions, digest, lineage) = edge
        .table
        .read(|view| (view.table.sessions().len(), verify::digest(&view.table), view.lineage));
    let mut view = pb::NodeView {
        name: edge.process.node.to_string(),
        local: true,
        at_unix_ms: clock::unix_millis().0,
        promised: epoch_message(&replica.promised),
        last: Some((&replica.last).into()),
        commit: replica.commit,
        behind: replica.behind,
        wanted: replica.want,
        failed_claims: replica.attempts,
        health: Some(health(edge)),
        witnesses: witnesses(edge, replica),
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        table_digest: digest,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        lineage: lineage.to_string(),
        peer_fenced: replica.peer_off,
        former_life: replica.foreign.is_some(),
        troubles: edge.process.troubles.messages(),
        store_fault: state.fault.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..pb::NodeView::default()
    };
    set_standing(&mut view, replica);
    match &edge.side.ha {
        Ha::Off { unsafe_because } => {
            "standalone".clone_into(&mut view.role);
            "own".clone_into(&mut view.second_vote);
            "-".clone_into(&mut view.role_source);
            view.r#unsafe = unsafe_because.clone().unwrap_or_default();
            view.host_keys = card::host_keys();
        }
        Ha::Apart(apart) => {
            "apart".clone_into(&mut view.role);
            "none".clone_into(&mut view.second_vote);
            "-".clone_into(&mut view.role_source);
            view.r#unsafe.clone_from(&apart.why);
            view.host_keys = card::host_keys();
        }
        Ha::On(pair) => set_pair(&mut view, edge, pair),
    }
    view
}

/// What this node is, in one word.
pub(crate) fn role(edge: &Edge) -> &'static str {
    match (&edge.side.ha, &edge.table.state().replica.standing) {
        (Ha::Off { .. }, _) => "standalone",
        (Ha::Apart(_), _) => "apart",
        (Ha::On(_), Standing::Active { .. }) => "active",
        (Ha::On(_), Standing::Standby { .. }) => "standby",
        (Ha::On(_), Standing::Claiming(_)) => "claiming",
    }
}

/// Whether the resource address may be here, as it is answered to who asks for it.
pub(crate) fn health(edge: &Edge) -> pb::HealthResponse {
    let role = role(edge).to_owned();
    match &edge.side.ha {
        Ha::On(pair) => {
            let health = pair.health.borrow().clone();
            let state = edge.table.state();
            pb::HealthResponse {
                healthy: health.healthy,
                reason: health.reason,
                role,
                ready: state.serving().is_some(),
                // One that handed over is told again and again that it is to be active, until it is not.
                wanted: state.replica.want || state.replica.relieved,
                preference: preference(&state, health.healthy),
                peer: pair.peer.to_string(),
                fencing_counts: fenced::matters(&state),
            }
        }
        Ha::Apart(apart) => pb::HealthResponse {
            healthy: false,
            reason: apart.why.clone(),
            role,
            ..pb::HealthResponse::default()
        },
        Ha::Off { unsafe_because: Some(why) } => pb::HealthResponse {
            healthy: false,
            reason: format!("HA is configured and could not be turned on: {why}"),
            role,
            ..pb::HealthResponse::default()
        },
        Ha::Off { unsafe_because: None } => pb::HealthResponse {
            healthy: true,
            reason: "HA is off".to_owned(),
            role,
            ready: true,
            wanted: true,
            preference: 100,
            ..pb::HealthResponse::default()
        },
    }
}

fn set_standing(view: &mut pb::NodeView, replica: &Replica) {
    let (role, epoch): (&str, Option<&Epoch>) = match &replica.standing {
        Standing::Standby { leader } => ("standby", leader.as_ref()),
        Standing::Claiming(epoch) => ("claiming", Some(epoch)),
        Standing::Active { epoch, ready, votes, .. } => {
            (view.ready, view.votes) = (*ready, *votes);
            ("active", Some(epoch))
        }
    };
    role.clone_into(&mut view.role);
    view.epoch = epoch.map(Into::into);
    if let Some(peer) = &replica.peer {
        view.backlog = replica.last.seq.saturating_sub(peer.acked);
        let second = match peer.second {
            _ if replica.peer_off => "fenced peer",
            Second::Peer => "peer",
            Second::PeerSoon => "peer soon",
            Second::Witnesses => "witnesses",
        };
        second.clone_into(&mut view.second_vote);
    }
}

fn set_pair(view: &mut pb::NodeView, edge: &Edge, pair: &Pair) {
    view.role_source = pair.source.to_string();
    view.holds_address = pair.holds_address.load(Ordering::Relaxed);
    let ours = edge.side.card();
    let counters = pair.stream.counters();
    let mut stream = pb::StreamView {
        opened: counters.opened.load(Ordering::Relaxed),
        refused: counters.refused.load(Ordering::Relaxed),
        garbled: counters.garbled.load(Ordering::Relaxed),
        ..pb::StreamView::default()
    };
    match pair.stream.state() {
        Stream::Open(met) => {
            stream.open = true;
            stream.since_unix_ms = met.since.0;
            stream.rtt_us = met.rtt_us;
            stream.clock_skew_ms = met.skew_ms;
            view.parameters_differ = card::differing(&ours, &met.card);
            view.host_keys_differ = ours.host_keys != met.card.host_keys;
        }
        Stream::Closed { why, since } => {
            stream.why = why.to_string();
            stream.apart = why.is_apart();
            stream.since_unix_ms = since.0;
        }
    }
    view.stream = Some(stream);
    view.host_keys = card::host_keys();
}

fn witnesses(edge: &Edge, replica: &Replica) -> Vec<pb::WitnessView> {
    let kept: BTreeMap<&AgentName, u64> =
        replica.witnesses.iter().map(|witness| (&witness.agent, witness.acked)).collect();
    let view = |agent: &AgentName| {
        let link = edge.agents.link(agent);
        let (up, trouble) = match link.as_ref().map(|link| link.state()) {
            Some(LinkState::Up(_)) if replica.mute.contains(agent) => (true, MUTE.to_owned()),
            Some(LinkState::Up(up)) => (true, no_vote(link.as_deref(), &up)),
            Some(LinkState::Down { why, .. }) => (false, why.to_string()),
            Some(LinkState::Connecting) => (false, "not reached yet".to_owned()),
            None => (false, "it is in no subcluster".to_owned()),
        };
        pb::WitnessView {
            agent: agent.to_string(),
            up,
            promised: link.and_then(|link| link.promised()).as_ref().map(Into::into),
            kept: kept.get(agent).copied().unwrap_or(0),
            trouble,
        }
    };
    replica.roster.iter().flat_map(|roster| roster.iter()).map(view).collect()
}

/// Why the vote of a witness that is there is not to be had, as it says itself or as it was when it was last asked.
fn no_vote(link: Option<&Link>, up: &Up) -> String {
    let own = up.troubles.iter().find(|trouble| trouble.kind == Kind::Promise.word());
    let asked = link.and_then(|link| link.troubles.of(Kind::Witness, ""));
    own.map(|trouble| trouble.what.clone())
        .or_else(|| asked.map(|trouble| trouble.what))
        .unwrap_or_default()
}

/// What is said of an agent that gives no vote, and of an agent that acts for nobody, until it is greeted.
pub(crate) const MUTE: &str = "it is new, or lost what it had promised: it counts again within seconds once both brokers are in sync";

/// Why a node that is there is not to be asked: one that is by itself says so by the code.
pub(crate) const HA_IS_OFF: &str = "HA is off there, or could not be turned on";

pub(crate) async fn peer_view(pair: &Pair) -> pb::NodeView {
    let mut client = HaClient::new(pair.channel.clone());
    let request = caller::forwarded(pb::ListNodesRequest { local_only: true }, None);
    let unreachable = match tokio::time::timeout(PEER_DEADLINE, client.list_nodes(request)).await {
        Ok(Ok(response)) => match response.into_inner().nodes.into_iter().next() {
            Some(view) => return pb::NodeView { local: false, ..view },
            None => "it told nothing of itself".to_owned(),
        },
        Ok(Err(status)) if status.code() == Code::FailedPrecondition => HA_IS_OFF.to_owned(),
        Ok(Err(status)) => CallError::from(status).why,
        Err(_) => format!("no answer within {} s", PEER_DEADLINE.as_secs()),
    };
    pb::NodeView { name: pair.peer.to_string(), unreachable, ..pb::NodeView::default() }
}
