//! What takes both nodes to find.

use std::cmp::Ordering;

use vsm_core::AgentName;
use vsm_proto::admin::v1::NodeView;

use super::steps::Steps;
use crate::{
    api::{Edge, pair::view::HA_IS_OFF},
    pair::{Pair, roster},
};

/// Clocks that differ by more are said.
const SKEW_MS: i64 = 2000;

pub(super) fn nodes(steps: &mut Steps, edge: &Edge, pair: &Pair, own: &NodeView, peer: &NodeView) {
    software(steps, pair, own, peer);
    host_keys(steps, pair, own, peer);
    address(steps, pair, own, peer);
    tables(steps, pair, own, peer);
    parameters(steps, own, peer);
    works(steps, edge, pair, own, peer);
}

fn software(steps: &mut Steps, pair: &Pair, own: &NodeView, peer: &NodeView) {
    if peer.unreachable.is_empty() {
        let same = own.version == peer.version;
        let text =
            format!("{} runs {}, {} runs {}", own.name, own.version, peer.name, peer.version);
        steps.note(1, same, text, "bring both nodes to the same version, the standby first");
    } else if peer.unreachable == HA_IS_OFF {
        let remedy = format!(
            "on {}: vsm-config /vsmserver/HA/enabled=true '/vsmserver/HA/nodes={}' /vsmserver/HA/resource_address={}; \
             systemctl restart vsmserver",
            peer.name,
            pair.nodes.join(" "),
            pair.resource
        );
        steps.bad(7, format!("{}: {}", peer.name, peer.unreachable), remedy);
    } else {
        let text = format!("{} cannot be asked: {}", peer.name, peer.unreachable);
        let remedy = format!(
            "let port 9000 through between the nodes; a certificate comes from {}, on the authority's host; vsmctl ha check \
             there says why it does not start; on {}: systemctl start vsmserver",
            pair.issue_command(&peer.name),
            peer.name
        );
        steps.bad(1, text, remedy);
    }
}

/// The step in which what was not compared is told to be mended first.
fn see(peer: &NodeView) -> &'static str {
    if peer.unreachable == HA_IS_OFF { "see step 7" } else { "see step 1" }
}

fn host_keys(steps: &mut Steps, pair: &Pair, own: &NodeView, peer: &NodeView) {
    if !peer.unreachable.is_empty() {
        return steps.bad(
            2,
            format!("the SSH host keys of {} are not known", peer.name),
            see(peer),
        );
    }
    let same = own.host_keys == peer.host_keys && !own.host_keys.is_empty();
    let text = if same {
        "the SSH host keys are the same on both nodes"
    } else {
        "the SSH host keys differ"
    };
    steps.note(2, same, text.to_owned(), same_keys(pair, own, peer));
}

/// How both get the keys that users know: those of the node that is active, or of the first while none is. It is typed
/// on the first node in any case, from where the guide has root go to the others.
fn same_keys(pair: &Pair, own: &NodeView, peer: &NodeView) -> String {
    let (first, second) = if is_first(pair, own) { (own, peer) } else { (peer, own) };
    let (first, there) = (&first.name, &second.name);
    let anew = "systemctl restart ssh && systemctl reload vsmserver";
    if second.role == "active" {
        format!("on {first}: scp -p 'root@{there}:/etc/ssh/ssh_host_*' /etc/ssh/ && {anew}")
    } else {
        format!(
            "on {first}: scp -p /etc/ssh/ssh_host_* root@{there}:/etc/ssh/ && ssh root@{there} '{anew}'; ssh-keygen -R {there}"
        )
    }
}

/// Whether a node is the first in `/vsmserver/HA/nodes`, so that both nodes say the same.
fn is_first(pair: &Pair, node: &NodeView) -> bool {
    pair.nodes.first().is_some_and(|first| *first == node.name)
}

fn address(steps: &mut Steps, pair: &Pair, own: &NodeView, peer: &NodeView) {
    let resource = &pair.resource;
    if resource.is_empty() {
        return steps.bad(
            3,
            "there is no resource address".to_owned(),
            "on both nodes: vsm-config /vsmserver/HA/resource_address=NAME, the name or address that your HA software \
             moves; systemctl restart vsmserver",
        );
    }
    steps.ok(3, format!("the resource address is {resource}"));
    if !peer.unreachable.is_empty() {
        let text = if own.holds_address {
            format!(
                "{resource} is on {}; whether it is on {} too is not known",
                own.name, peer.name
            )
        } else {
            format!(
                "{resource} is not on {}; whether it is on {} is not known",
                own.name, peer.name
            )
        };
        return steps.bad(4, text, see(peer));
    }
    let remedy = "systemctl status keepalived on both nodes (or crm_mon -1 with Pacemaker); vsmctl ha health on both says \
                  whether the address may be there";
    match (own.holds_address, peer.holds_address) {
        (true, false) => steps.ok(4, format!("{resource} is on {} alone", own.name)),
        (false, true) => steps.ok(4, format!("{resource} is on {} alone", peer.name)),
        (true, true) => steps.bad(4, format!("{resource} is on both nodes"), remedy),
        (false, false) => steps.bad(4, format!("{resource} is on neither node"), remedy),
    }
}

/// Two tables with sessions, of nodes that were servers apart: one has to make room.
fn tables(steps: &mut Steps, pair: &Pair, own: &NodeView, peer: &NodeView) {
    let apart = |node: &NodeView| node.stream.as_ref().is_some_and(|it| it.apart);
    if !(apart(own) || apart(peer)) {
        return;
    }
    let to_go = match own.sessions.cmp(&peer.sessions) {
        Ordering::Less => own,
        Ordering::Greater => peer,
        Ordering::Equal if is_first(pair, own) => peer,
        Ordering::Equal => own,
    };
    let text = format!(
        "both nodes have a table of their own, {} with {} session(s), {} with {}; what {} has comes back from the agents",
        own.name, own.sessions, peer.name, peer.sessions, to_go.name
    );
    let dir = pair.state_dir.display();
    let remedy = format!(
        "on {}: systemctl stop vsmserver; mv {dir} {dir}.old; systemctl start vsmserver",
        to_go.name
    );
    steps.bad(7, text, remedy);
}

/// Which agents there are belongs to step 6, all else to step 7.
fn parameters(steps: &mut Steps, own: &NodeView, peer: &NodeView) {
    let stream = own.stream.clone().unwrap_or_default();
    if !stream.open {
        let text = "the configurations were not compared: the nodes have no connection";
        let (text, remedy) = match peer.unreachable.is_empty() {
            true => (format!("{text}: {}", stream.why), "what is wrong above comes first"),
            false => (text.to_owned(), see(peer)),
        };
        return steps.bad(7, text, remedy);
    }
    let (places, others): (Vec<&str>, Vec<&str>) =
        own.parameters_differ.iter().map(String::as_str).partition(|path| {
            path.starts_with("/vsmserver/subclusters") || path.starts_with("/vsmserver/agents")
        });
    for (step, paths) in [(6, places), (7, others)] {
        if paths.is_empty() {
            continue;
        }
        let text = format!("these parameters differ between the nodes: {}", paths.join(", "));
        let remedy = format!(
            "compare with vsm-config {} on both nodes, set the same on both, then systemctl reload vsmserver",
            paths.join(" ")
        );
        steps.bad(step, text, remedy);
    }
    if own.parameters_differ.is_empty() {
        steps.ok(7, "both configurations are the same".to_owned());
    }
}

/// The witnesses that this node's settings would give.
fn chosen(edge: &Edge, pair: &Pair) -> Vec<AgentName> {
    roster::choose(&edge.site.settings(), [pair.own.as_str(), pair.peer.as_str()])
}

fn works(steps: &mut Steps, edge: &Edge, pair: &Pair, own: &NodeView, peer: &NodeView) {
    let active = [own, peer].into_iter().filter(|node| node.role == "active").count();
    steps.note(
        9,
        active == 1,
        format!("{active} of the nodes is active"),
        "vsmctl ha status tells why not",
    );
    let votes = own.witnesses.iter().filter(|witness| witness.up).count();
    let all = own.witnesses.len();
    if all == 0 && own.role_source == "cluster" {
        steps.ok(
            9,
            "there are no witnesses: a node acts alone once the other one's power was cut"
                .to_owned(),
        );
    } else if all == 0 && !chosen(edge, pair).is_empty() {
        // There are agents that could be; both nodes choose them together.
        let stream = own.stream.clone().unwrap_or_default();
        let remedy = match (stream.open, peer.unreachable.is_empty()) {
            (true, _) => "wait a moment; vsmctl ha status tells how far the nodes are",
            (false, true) => "what is wrong above comes first",
            (false, false) => see(peer),
        };
        let text = format!(
            "there are no witnesses yet: they are chosen when {} and {} meet for the first time, and till then no new desktop \
             can be made",
            own.name, peer.name
        );
        steps.bad(9, text, remedy);
    } else if all == 0 {
        steps.bad(
            9,
            "there are no witnesses: without the other node no new desktop can be made".to_owned(),
            "add an agent that is not on a broker's machine, or use role_source = cluster with fencing",
        );
    } else {
        steps.note(
            9,
            votes * 2 > all,
            format!("{votes} of {all} witnesses answer"),
            "bring the others back: one more loss stops new desktops when a node is lost too",
        );
    }
    let skew = own.stream.as_ref().map_or(0, |stream| stream.clock_skew_ms);
    steps.note(
        9,
        skew.abs() < SKEW_MS,
        format!("the clocks differ by {skew} ms"),
        "let both nodes keep time with NTP; service goes on meanwhile",
    );
}
