//! What takes both nodes to find.

use vsm_proto::admin::v1::NodeView;

use super::steps::Steps;
use crate::ha::Pair;

/// Clocks that differ by more are said.
const SKEW_MS: i64 = 2000;

pub(super) fn nodes(steps: &mut Steps, pair: &Pair, own: &NodeView, peer: &NodeView) {
    software(steps, own, peer);
    host_keys(steps, own, peer);
    address(steps, pair, own, peer);
    parameters(steps, own);
    works(steps, own, peer);
}

fn software(steps: &mut Steps, own: &NodeView, peer: &NodeView) {
    if peer.unreachable.is_empty() {
        let same = own.version == peer.version;
        let text =
            format!("{} runs {}, {} runs {}", own.name, own.version, peer.name, peer.version);
        steps.note(1, same, text, "bring both nodes to the same version, the standby first");
    } else {
        let text = format!("{} cannot be asked: {}", peer.name, peer.unreachable);
        let remedy = format!(
            "on {}: systemctl start vsmserver; if it does not start, vsmctl ha check there says why. Let port 9000 through \
             between the nodes; a certificate comes from vsmctl pki issue {} --role broker",
            peer.name, peer.name
        );
        steps.bad(1, text, remedy);
    }
}

fn host_keys(steps: &mut Steps, own: &NodeView, peer: &NodeView) {
    if !peer.unreachable.is_empty() {
        return steps.bad(
            2,
            format!("the SSH host keys of {} are not known", peer.name),
            "see step 1",
        );
    }
    let same = own.host_keys == peer.host_keys && !own.host_keys.is_empty();
    let text = if same {
        "the SSH host keys are the same on both nodes"
    } else {
        "the SSH host keys differ"
    };
    // Users have seen those of the node that is active.
    let (from, to) = if peer.role == "active" { (peer, own) } else { (own, peer) };
    let remedy = format!(
        "on {}: scp -p 'root@{}:/etc/ssh/ssh_host_*' /etc/ssh/ && systemctl restart ssh && systemctl reload vsmserver",
        to.name, from.name
    );
    steps.note(2, same, text.to_owned(), remedy);
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
        let text = format!("whether {resource} is on {} too is not known", peer.name);
        return steps.bad(4, text, "see step 1");
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

/// Which agents there are belongs to step 6, all else to step 7.
fn parameters(steps: &mut Steps, own: &NodeView) {
    let open = own.stream.as_ref().is_some_and(|stream| stream.open);
    if !open {
        return steps.bad(
            7,
            "the configurations were not compared: the nodes have no connection".to_owned(),
            "see step 1",
        );
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

fn works(steps: &mut Steps, own: &NodeView, peer: &NodeView) {
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
