//! The nine steps of setting a pair up, as a preflight: each is looked at, and what is wrong comes with what to do.

use std::sync::Arc;

use vsm_proto::admin::v1::{Finding, NodeView};

use super::{Ha, api};
use crate::{agents::LinkState, broker::Broker};

/// Goes through the steps.
pub(crate) async fn check(broker: &Arc<Broker>) -> Vec<Finding> {
    let mut steps = Steps::default();
    let own = api::own_view(broker);
    let Ha::On(pair) = &broker.ha else {
        let why = if own.r#unsafe.is_empty() {
            "HA is off (/vsmserver/HA/enabled is false)".to_owned()
        } else {
            format!("HA could not be turned on: {}", own.r#unsafe)
        };
        steps.bad(7, why, "set /vsmserver/HA/enabled, /vsmserver/HA/nodes and /vsmserver/HA/resource_address on both nodes, restart vsmserver");
        return steps.findings;
    };
    let peer = api::peer_view(pair).await;
    software(&mut steps, &own, &peer);
    host_keys(&mut steps, &own, &peer);
    let one = own.holds_address != peer.holds_address;
    match (pair.resource.is_empty(), peer.unreachable.is_empty()) {
        (true, _) => steps.bad(
            3,
            "there is no resource address".to_owned(),
            "set /vsmserver/HA/resource_address to the address that your HA software moves",
        ),
        (false, false) => steps.bad(
            3,
            format!("where {} is, {} does not tell", pair.resource, pair.peer),
            "see step 1",
        ),
        (false, true) if one => steps.ok(3, format!("{} is on one node", pair.resource)),
        (false, true) => {
            let where_ = if own.holds_address { "both nodes" } else { "neither node" };
            steps.bad(3, format!("{} is on {where_}", pair.resource), "look at your HA software: keepalived or Pacemaker on both nodes, and its health check (vsmctl ha health)");
        }
    }
    let health = own.health.clone().unwrap_or_default();
    steps.note(
        4,
        health.healthy,
        format!("{}: {}", own.name, health.reason),
        "vsmctl ha status tells more",
    );
    if let Some(health) = &peer.health {
        steps.note(
            4,
            health.healthy,
            format!("{}: {}", peer.name, health.reason),
            "vsmctl ha status tells more",
        );
    }
    configuration(&mut steps, &own);
    agents(&mut steps, broker);
    steps.ok(7, format!("HA is on, role source {}", own.role_source));
    steps.ok(8, format!("this node is {}, the other one is {}", pair.own, pair.peer));
    works(&mut steps, &own, &peer);
    steps.findings
}

#[derive(Default)]
struct Steps {
    findings: Vec<Finding>,
}

impl Steps {
    fn note(&mut self, step: u32, ok: bool, text: String, remedy: &str) {
        let remedy = if ok { String::new() } else { remedy.to_owned() };
        self.findings.push(Finding { step, ok, text, remedy });
    }

    fn ok(&mut self, step: u32, text: String) {
        self.note(step, true, text, "");
    }

    fn bad(&mut self, step: u32, text: String, remedy: &str) {
        self.note(step, false, text, remedy);
    }
}

fn software(steps: &mut Steps, own: &NodeView, peer: &NodeView) {
    if peer.unreachable.is_empty() {
        let same = own.version == peer.version;
        let text =
            format!("{} runs {}, {} runs {}", own.name, own.version, peer.name, peer.version);
        steps.note(1, same, text, "bring both nodes to the same version, the standby first");
    } else {
        let text = format!("{} cannot be asked: {}", peer.name, peer.unreachable);
        steps.bad(1, text, "start vsmserver there; let port 9000 through between the nodes; give it a certificate with vsmctl pki issue --role broker");
    }
}

fn host_keys(steps: &mut Steps, own: &NodeView, peer: &NodeView) {
    if peer.unreachable.is_empty() {
        let same = own.host_keys == peer.host_keys && !own.host_keys.is_empty();
        let text = if same {
            "the SSH host keys are the same on both nodes"
        } else {
            "the SSH host keys differ"
        };
        steps.note(2, same, text.to_owned(), "copy /etc/ssh/ssh_host_* of one node to the other and reload its sshd: users see one host");
    } else {
        steps.bad(2, "the other node's SSH host keys are not known".to_owned(), "see step 1");
    }
}

fn configuration(steps: &mut Steps, own: &NodeView) {
    if own.parameters_differ.is_empty() {
        let open = own.stream.as_ref().is_some_and(|stream| stream.open);
        steps.note(
            5,
            open,
            "both configurations are the same".to_owned(),
            "not compared: see step 1",
        );
    } else {
        let text = format!("these parameters differ: {}", own.parameters_differ.join(", "));
        steps.bad(
            5,
            text,
            "make them the same with vsm-config on both nodes, then vsmctl reload or restart",
        );
    }
}

fn agents(steps: &mut Steps, broker: &Broker) {
    let links = broker.agents.all();
    if links.is_empty() {
        steps.bad(
            6,
            "there are no agents".to_owned(),
            "vsm-config /vsmserver/subclusters/NAME/agents=HOST",
        );
    }
    for link in links {
        match link.state() {
            LinkState::Up(_) => steps.ok(6, format!("agent {} answers this node", link.name)),
            LinkState::Down { why, .. } => steps.bad(6, format!("agent {}: {why}", link.name), "list both nodes in /vsmagent/allowed_clients there, let port 904 through, start vsmagent"),
            LinkState::Connecting => steps.bad(6, format!("agent {} is not reached yet", link.name), "wait a moment"),
        }
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
        steps.bad(9, "there are no witnesses: without the other node no new desktop can be made".to_owned(), "add an agent that is not on a broker's machine, or use role_source = cluster with fencing");
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
        skew.abs() < 2000,
        format!("the clocks differ by {skew} ms"),
        "let both nodes keep time with NTP; service goes on meanwhile",
    );
}
