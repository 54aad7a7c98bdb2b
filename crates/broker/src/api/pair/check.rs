//! The nine steps of setting a pair up, as a preflight: each is looked at, and what is wrong comes with the command
//! that mends it. The numbers are those of the guide (docs/ha.md).
//!
//! Each node finds by itself what it can (`local`); the one that is asked adds what the other one found, and compares
//! the two. So whatever is wrong is found from either node.

mod agents;
mod compare;
mod steps;

use std::{sync::Arc, time::Duration};

use vsm_daemon::trouble::Kind;
use vsm_proto::admin::v1::{self as pb, Finding, NodeView, ha_client::HaClient};

use self::steps::Steps;
use super::view::{own_view, peer_view};
use crate::{
    api::{Edge, caller},
    hosts::agents::CallError,
    pair::{Ha, Pair},
};

/// How long the other node may take to look at itself.
const PEER_DEADLINE: Duration = Duration::from_secs(5);

/// Goes through all steps.
pub(crate) async fn check(edge: &Arc<Edge>) -> Vec<Finding> {
    let own = own_view(edge);
    let mut steps = look(edge, &own).await;
    if let Ha::On(pair) = &edge.side.ha {
        let peer = peer_view(pair).await;
        if peer.unreachable.is_empty() {
            match found_there(pair).await {
                Ok(findings) => steps.merge(findings),
                Err(why) => steps.bad(
                    1,
                    format!("{} does not look at itself: {why}", pair.peer),
                    format!("run vsmctl ha check on {}", pair.peer),
                ),
            }
        }
        compare::nodes(&mut steps, edge, pair, &own, &peer);
    }
    steps.sorted()
}

/// What this node finds without the other one.
pub(crate) async fn local(edge: &Arc<Edge>) -> Vec<Finding> {
    look(edge, &own_view(edge)).await.sorted()
}

/// `own` is asked for once, as it has a digest of the whole table.
async fn look(edge: &Arc<Edge>, own: &NodeView) -> Steps {
    let mut steps = Steps::default();
    agents::look(&mut steps, edge).await;
    configuration(&mut steps, edge);
    helper_and_trail(&mut steps, edge);
    empty_subclusters(&mut steps, edge);
    match &edge.side.ha {
        Ha::On(pair) => {
            let health = own.health.clone().unwrap_or_default();
            steps.note(
                4,
                health.healthy,
                format!("{}: {}", own.name, health.reason),
                "vsmctl ha status tells more",
            );
            let source = &own.role_source;
            steps.ok(7, format!("{}: HA is on, role source {source}", own.name));
            steps.ok(8, format!("{} knows that it is {} of the pair", own.name, pair.own));
        }
        Ha::Apart(apart) if apart.switched_off => steps.bad(
            7,
            format!("{} stands apart: {}", own.name, apart.why),
            "vsm-config /vsmserver/HA/enabled=true; systemctl restart vsmserver",
        ),
        Ha::Apart(apart) => off(&mut steps, own, Some(&apart.why)),
        Ha::Off { unsafe_because } => off(&mut steps, own, unsafe_because.as_deref()),
    }
    steps
}

fn off(steps: &mut Steps, own: &NodeView, unsafe_because: Option<&str>) {
    match unsafe_because {
        Some(why) => steps.bad(
            8,
            format!("{}: HA could not be turned on: {why}", own.name),
            "vsm-config '/vsmserver/HA/nodes=NODE1 NODE2' with the names of both nodes, each of which must resolve to that \
             node's own address or be what uname -n prints there; then systemctl restart vsmserver",
        ),
        None => steps.bad(
            7,
            format!("{}: HA is off (/vsmserver/HA/enabled is false)", own.name),
            "on both nodes: vsm-config /vsmserver/HA/enabled=true '/vsmserver/HA/nodes=NODE1 NODE2' \
             /vsmserver/HA/resource_address=NAME; systemctl restart vsmserver",
        ),
    }
}

/// A configuration that was refused is not in force, and after the next start nothing would be.
fn configuration(steps: &mut Steps, edge: &Edge) {
    let node = &edge.process.node;
    match edge.process.troubles.of(Kind::Configuration, "").map(|trouble| trouble.what) {
        None => steps.ok(6, format!("{node}: the configuration is in force")),
        Some(why) => steps.bad(
            6,
            format!("{node}: {why}"),
            format!("mend it on {node} with vsm-config, then systemctl reload vsmserver"),
        ),
    }
}

/// Hooks are not run without the helper, and nobody looks into a trail every day.
fn helper_and_trail(steps: &mut Steps, edge: &Edge) {
    let troubles = edge.process.troubles.now().into_iter();
    for trouble in troubles.filter(|one| matches!(one.kind, Kind::RootHelper | Kind::Trail)) {
        let text = format!("{}: {}", edge.process.node, trouble.what);
        steps.bad(6, text, trouble.kind.next_step());
    }
}

/// It may be meant for a while: said, and nothing that is wrong.
fn empty_subclusters(steps: &mut Steps, edge: &Edge) {
    let settings = edge.site.settings();
    let all = settings.subclusters.all().iter();
    for subcluster in all.filter(|subcluster| subcluster.agents.is_empty()) {
        let name = &subcluster.name;
        steps.ok(
            6,
            format!("warning: subcluster {name} has no agents: its users get no new desktop"),
        );
    }
}

async fn found_there(pair: &Pair) -> Result<Vec<Finding>, CallError> {
    let mut client = HaClient::new(pair.channel.clone());
    let request = caller::forwarded(pb::CheckRequest { local_only: true }, None);
    match tokio::time::timeout(PEER_DEADLINE, client.check(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner().findings),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(CallError::timed_out(PEER_DEADLINE)),
    }
}
