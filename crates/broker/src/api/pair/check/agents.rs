//! Steps 5 and 6: whether the agents let both nodes in, and know where the brokers are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{net::lookup_host, task::JoinSet};
use vsm_core::{AgentName, NodeName};
use vsm_daemon::cause::Fault;

use super::steps::Steps;
use crate::{
    api::{Edge, admin::is_revoked},
    hosts::agents::{Link, LinkState, Up},
    pair::{Ha, Pair},
};

/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(2);
/// Names that are resolved at the same time, each on a blocking thread.
const RESOLVE_TOGETHER: usize = 64;
/// Names of agents that are resolved, the others stand for themselves: two rounds, so that the node which asked still
/// waits.
const RESOLVE_MAX: usize = 2 * RESOLVE_TOGETHER;

/// A name and the addresses that it stands for.
struct Named {
    name: String,
    addresses: Vec<IpAddr>,
}

impl Named {
    async fn new(name: &str) -> Self {
        let found = tokio::time::timeout(RESOLVE, lookup_host((name, 0))).await;
        let addresses = match found {
            Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
            // Then the name alone has to do.
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        Self { name: name.to_owned(), addresses }
    }

    /// Whether an agent's list, which is compared as it is written, has it.
    fn is_among(&self, list: &[String]) -> bool {
        list.iter().any(|entry| {
            entry.eq_ignore_ascii_case(&self.name)
                || entry.parse().is_ok_and(|address: IpAddr| self.addresses.contains(&address))
        })
    }

    fn shares_an_address(&self, other: &Self) -> bool {
        self.addresses.iter().any(|address| other.addresses.contains(address))
    }
}

/// What the agents are to know of the pair.
struct Wanted {
    nodes: [Named; 2],
    resource: Option<Named>,
}

impl Wanted {
    async fn of(pair: &Pair) -> Self {
        // In one order on both nodes, so that both say the same.
        let (first, second) = (pair.own.as_str(), pair.peer.as_str());
        let (first, second) = if first < second { (first, second) } else { (second, first) };
        let resource = (!pair.resource.is_empty()).then_some(pair.resource.as_str());
        Self {
            nodes: [Named::new(first).await, Named::new(second).await],
            resource: match resource {
                Some(resource) => Some(Named::new(resource).await),
                None => None,
            },
        }
    }

    fn allow(&self, agent: &AgentName) -> String {
        let [first, second] = &self.nodes;
        // A name that is none would be carried on to every agent.
        if let Some(unknown) = self.nodes.iter().find(|node| node.addresses.is_empty()) {
            return format!(
                "{} of /vsmserver/HA/nodes cannot be looked up: see step 8 first",
                unknown.name
            );
        }
        format!(
            "on {agent}: vsm-config '/vsmagent/allowed_clients={} {}'; systemctl reload vsmagent",
            first.name, second.name
        )
    }
}

pub(super) async fn look(steps: &mut Steps, edge: &Arc<Edge>) {
    let links = edge.agents.all();
    if links.is_empty() {
        steps.bad(
            6,
            format!("{}: there are no agents", edge.process.node),
            "on both nodes: vsm-config /vsmserver/subclusters/NAME/agents=HOST; systemctl reload vsmserver",
        );
    }
    let wanted = match &edge.side.ha {
        Ha::On(pair) => Some(Wanted::of(pair).await),
        Ha::Off { .. } | Ha::Apart(_) => None,
    };
    if let Some(wanted) = &wanted {
        names(steps, &edge.process.node, wanted);
    }
    let masters = match &wanted {
        Some(wanted) => masters(&links, wanted).await,
        None => BTreeMap::new(),
    };
    for link in links {
        let (node, agent) = (&edge.process.node, &link.name);
        match link.state() {
            LinkState::Up(up) => {
                steps.ok(6, format!("{node} reaches agent {agent}"));
                if let Some(twin) = edge.agents.twin(agent, &up) {
                    steps.bad(
                        6,
                        format!("agents {agent} and {twin} are one host, or one is a copy of the other's disk"),
                        "on both nodes: leave one of both names in /vsmserver/subclusters/NAME/agents; systemctl reload vsmserver \
                         (of a copy: stop vsmagent there, remove /var/lib/vsm-agent, start it)",
                    );
                }
                if let Some(wanted) = &wanted {
                    knows(steps, agent, &up, wanted, &masters);
                }
            }
            LinkState::Down { why, .. } => {
                let text = format!("{node} does not reach agent {agent}: {why}");
                match &wanted {
                    Some(wanted) if why.is_not_allowed() => {
                        steps.bad(5, text, wanted.allow(agent));
                    }
                    _ if is_revoked(edge, agent) || why.fault() == Some(Fault::Unknown) => steps.bad(
                        6,
                        text,
                        format!("vsmctl agent enrol {agent}, if it is to come back"),
                    ),
                    Some(_) | None => steps.bad(
                        6,
                        text,
                        format!(
                            "let port {} through from {node}; journalctl -u vsmagent -u vsm-agent-net there says why it does not serve; on \
                             {agent}: systemctl restart vsmagent",
                            edge.site.settings().agent_port
                        ),
                    ),
                }
            }
            LinkState::Connecting => {
                steps.bad(6, format!("{node} has not reached agent {agent} yet"), "wait a moment");
            }
        }
    }
}

/// Steps 3 and 8: names that stand for nothing on this node. What hangs on them looks like another fault.
fn names(steps: &mut Steps, node: &NodeName, wanted: &Wanted) {
    for unknown in wanted.nodes.iter().filter(|named| named.addresses.is_empty()) {
        let name = &unknown.name;
        steps.bad(
            8,
            format!("{node} cannot look up {name}, which is in /vsmserver/HA/nodes"),
            format!(
                "give {name} an address in DNS or /etc/hosts on {node}; if it is misspelt, on both nodes: vsm-config \
                 '/vsmserver/HA/nodes=NODE1 NODE2'; systemctl restart vsmserver"
            ),
        );
    }
    if let Some(resource) = wanted.resource.as_ref().filter(|named| named.addresses.is_empty()) {
        let name = &resource.name;
        steps.bad(
            3,
            format!("{node} cannot look up the resource address {name}, and so never sees it on itself"),
            format!(
                "give {name} an address in DNS or /etc/hosts on {node}; if it is misspelt, on both nodes: vsm-config \
                 /vsmserver/HA/resource_address=NAME; systemctl restart vsmserver"
            ),
        );
    }
}

/// Where agents have another name than that of the resource address: what it stands for, each name once.
async fn masters(links: &[Arc<Link>], wanted: &Wanted) -> BTreeMap<String, Named> {
    let Some(resource) = &wanted.resource else { return BTreeMap::new() };
    let names: BTreeSet<String> = links
        .iter()
        .filter_map(|link| match link.state() {
            LinkState::Up(up) => Some(up.master_hostname.clone()),
            LinkState::Down { .. } | LinkState::Connecting => None,
        })
        .filter(|name| !name.is_empty() && !resource.name.eq_ignore_ascii_case(name))
        .collect();
    let (mut names, mut found) = (names.into_iter().take(RESOLVE_MAX), BTreeMap::new());
    loop {
        let mut lookups = JoinSet::new();
        for name in names.by_ref().take(RESOLVE_TOGETHER) {
            lookups.spawn(async move { Named::new(&name).await });
        }
        if lookups.is_empty() {
            return found;
        }
        found.extend(lookups.join_all().await.into_iter().map(|named| (named.name.clone(), named)));
    }
}

/// Step 5, as far as the agent tells.
fn knows(
    steps: &mut Steps,
    agent: &AgentName,
    up: &Up,
    wanted: &Wanted,
    masters: &BTreeMap<String, Named>,
) {
    if !up.allowed_brokers.is_empty() {
        let lacks: Vec<&str> = wanted
            .nodes
            .iter()
            .filter(|node| !node.is_among(&up.allowed_brokers))
            .map(|node| node.name.as_str())
            .collect();
        let text = if lacks.is_empty() {
            format!("agent {agent} lets both nodes in")
        } else {
            format!("/vsmagent/allowed_clients of agent {agent} lacks {}", lacks.join(" and "))
        };
        steps.note(5, lacks.is_empty(), text, wanted.allow(agent));
    }
    let Some(resource) = wanted.resource.as_ref().filter(|_| !up.master_hostname.is_empty()) else {
        return;
    };
    let same = resource.name.eq_ignore_ascii_case(&up.master_hostname)
        || masters.get(&up.master_hostname).is_some_and(|named| resource.shares_an_address(named));
    let text = format!(
        "/vsmagent/master_hostname of agent {agent} is {}{}",
        up.master_hostname,
        if same { "" } else { ", which is not the resource address" }
    );
    let remedy = format!(
        "on {agent}: vsm-config /vsmagent/master_hostname={}; systemctl reload vsmagent",
        resource.name
    );
    steps.note(5, same, text, remedy);
}
