//! What is wrong with the pair, one line for each trouble, with what to do: read off what both nodes say.

use std::collections::BTreeMap;

use super::node::Node;
use crate::trouble;

/// Clocks that differ by more make logs of both nodes hard to read side by side.
const SKEW_MAX_MS: u64 = 1000;

/// One line for each trouble; empty = all is well.
pub(super) fn troubles(nodes: &[Node]) -> Vec<String> {
    let mut lines = Vec::new();
    for node in nodes {
        alone(node, &mut lines);
        lines.extend(trouble::lines(std::iter::once((node.name.as_str(), &node.troubles[..]))));
    }
    if nodes.iter().any(Node::in_pair) {
        roles(nodes, &mut lines);
        address(nodes, &mut lines);
        differences(nodes, &mut lines);
        witnesses(nodes, &mut lines);
    }
    lines
}

/// What one node says of itself.
fn alone(node: &Node, lines: &mut Vec<String>) {
    let name = &node.name;
    if let Some(why) = &node.unreachable {
        lines.push(format!(
            "{name} cannot be asked ({why}): mend what it says; if nothing answers, see that vsmserver runs there, and the network between"
        ));
        return;
    }
    if let Some(why) = &node.ha_off {
        lines.push(format!("HA is off on {name}: {why}"));
    }
    if let Some(why) = &node.store_fault {
        lines
            .push(format!("{name} cannot write its table ({why}): make room, or replace the disk"));
    }
    if !node.in_pair() {
        return;
    }
    if node.former_life {
        lines.push(format!(
            "{name} has a table of a former life of the pair (a copy that was put back, or of before the other node left the \
             pair): the other node replaces it when both meet; \
             if that one is gone for good, move the table away there (vsm.db* in /vsmserver/state_dir) and restart vsmserver"
        ));
    }
    if !node.healthy {
        lines.push(format!("{name} is not healthy: {}", node.health_reason));
    }
    if node.is_active() && !node.votes {
        lines.push(format!(
            "{name} cannot record changes, as it has no second vote: until the other node or most witnesses are back, new desktops \
             are refused or marked, as /vsmserver/HA/solo_create says"
        ));
    } else if node.is_active() && !node.ready {
        lines.push(format!("{name} is active and does not serve yet"));
    }
    if node.failed_claims > 0 {
        lines.push(format!("{name} tried {} time(s) in vain to become active", node.failed_claims));
    }
    if node.behind > 0 {
        lines.push(format!("{name} lacks {} change(s): wait until it has caught up", node.behind));
    }
    if let Some(stream) = node.stream.as_ref().filter(|stream| !stream.open) {
        let why = stream.why.as_deref().unwrap_or("no reason known");
        lines.push(format!("{name} has no stream to the other node: {why}"));
    }
}

fn roles(nodes: &[Node], lines: &mut Vec<String>) {
    let active: Vec<&Node> = nodes.iter().filter(|node| node.is_active()).collect();
    match active.as_slice() {
        [] if nodes.iter().all(Node::reached) => {
            lines.push("no node is active: the resource address has to be on one, or vsmctl ha takeover".into());
        }
        [one, other] => lines.push(format!(
            "{} and {} both take themselves for active; only the one with the higher epoch can change anything",
            one.name, other.name
        )),
        [one] if one.votes && one.second_vote != "peer" && nodes.iter().all(Node::reached) => {
            lines.push(format!(
                "the second vote of {} is: {}; another loss may stop new desktops",
                one.name,
                if one.second_vote.is_empty() { "unknown" } else { &one.second_vote }
            ));
        }
        _ => {}
    }
}

/// Only where the address tells who is to be active.
fn address(nodes: &[Node], lines: &mut Vec<String>) {
    if !nodes.iter().any(|node| node.role_source == "address") {
        return;
    }
    let holders: Vec<&Node> = nodes.iter().filter(|node| node.holds_address).collect();
    match holders.as_slice() {
        // Nobody is given it while no node is healthy, and then that is told.
        [] if !nodes.iter().any(|node| node.reached() && node.healthy) => {}
        [] => {
            let who = if nodes.iter().all(Node::reached) {
                "no node"
            } else {
                "no node that can be asked"
            };
            lines.push(format!(
                "{who} has the resource address, so users do not reach the service by it: see keepalived, or Pacemaker, on both"
            ));
        }
        [one, other] => lines.push(format!(
            "{} and {} both have the resource address: see keepalived, or Pacemaker, on both",
            one.name, other.name
        )),
        [holder] if !holder.is_active() => {
            if let Some(active) = nodes.iter().find(|node| node.is_active()) {
                lines.push(format!(
                    "the resource address is on {} while {} is active: users are forwarded until it moves",
                    holder.name, active.name
                ));
            }
        }
        _ => {}
    }
}

fn differences(nodes: &[Node], lines: &mut Vec<String>) {
    let mut paths: Vec<&String> = nodes.iter().flat_map(|node| &node.parameters_differ).collect();
    paths.sort();
    paths.dedup();
    lines.extend(paths.iter().map(|path| {
        let push = if path.starts_with("/vsmserver/HA/") {
            // One by whose files it would be no node of the pair refuses to.
            "vsmctl config push on the node that has it right gives it to the other one"
        } else {
            "vsmctl config push gives the other node this one's"
        };
        format!("{path} differs: vsmctl config diff shows how, {push}")
    }));
    if nodes.iter().any(|node| node.host_keys_differ) {
        lines.push(
            "the SSH host keys differ: copy /etc/ssh/ssh_host_* from one node to the other".into(),
        );
    }
    // What differs by more than seconds they say themselves.
    let is_told = nodes.iter().flat_map(|node| &node.troubles).any(|it| it.kind == "clock");
    let skew =
        nodes.iter().filter_map(|node| node.stream.as_ref()).map(|stream| stream.clock_skew_ms);
    if let Some(skew) = skew.max_by_key(|skew| skew.unsigned_abs()).map(i64::unsigned_abs)
        && skew > SKEW_MAX_MS
        && !is_told
    {
        lines
            .push(format!("the clocks of both nodes differ by {} s: see NTP on both", skew / 1000));
    }
    let [one, other] = nodes else { return };
    if !(one.reached() && other.reached()) {
        return;
    }
    if one.version != other.version {
        lines.push(format!(
            "{} runs version {} and {} version {}: finish the upgrade",
            one.name, one.version, other.name, other.version
        ));
    }
    if one.lineage != other.lineage {
        lines.push(format!(
            "the tables are of different lineages ({} and {}): one node was set up by itself",
            one.lineage, other.lineage
        ));
    } else if one.commit == other.commit && one.table_digest != other.table_digest {
        lines.push(format!("the tables differ at change {}: vsmctl ha verify", one.commit));
    }
}

/// Each witness once, whichever node has the trouble with it.
fn witnesses(nodes: &[Node], lines: &mut Vec<String>) {
    let mut bad: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for node in nodes {
        for witness in node.witnesses.iter().filter(|witness| !witness.votes()) {
            let why = witness.trouble.as_deref().unwrap_or("it is not connected");
            bad.entry(&witness.agent).or_default().entry(why).or_default().push(&node.name);
        }
        let votes = node.witnesses.iter().filter(|witness| witness.votes()).count();
        if !node.reached() || !node.in_pair() {
            continue;
        }
        if !node.witnesses.is_empty() {
            if votes * 2 <= node.witnesses.len() {
                lines.push(format!("{} does not reach most of the witnesses", node.name));
            }
        } else if node.role_source != "cluster" {
            // With fencing there is another way.
            lines.push(format!(
                "{} has no witnesses: when the other node is away it can make no new desktops",
                node.name
            ));
        }
    }
    for (agent, reasons) in bad {
        for (why, names) in reasons {
            lines.push(format!("witness {agent} does not vote for {}: {why}", names.join(" and ")));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::node::{Stream, Witness},
        *,
    };

    /// Two nodes with which all is well.
    pub(crate) fn good() -> Vec<Node> {
        let witness = |agent: &str| Witness { agent: agent.into(), up: true, ..Witness::default() };
        let node = |name: &str, role: &str| Node {
            name: name.into(),
            role: role.into(),
            votes: role == "active",
            ready: role == "active",
            second_vote: if role == "active" { "peer".into() } else { String::new() },
            role_source: "address".into(),
            holds_address: role == "active",
            healthy: true,
            version: "1".into(),
            stream: Some(Stream { open: true, ..Stream::default() }),
            witnesses: ["agent1", "agent2", "agent3"].map(witness).into(),
            local: role == "active",
            ..Node::default()
        };
        vec![node("a", "active"), node("b", "standby")]
    }

    fn of(change: impl FnOnce(&mut Vec<Node>)) -> Vec<String> {
        let mut nodes = good();
        change(&mut nodes);
        troubles(&nodes)
    }

    fn names(lines: &[String], words: &[&str]) -> bool {
        words.iter().all(|word| lines.iter().any(|line| line.contains(word)))
    }

    #[test]
    fn nothing_is_to_do_where_all_is_well() {
        assert_eq!(troubles(&good()), Vec::<String>::new());
        let alone = Node { role: "standalone".into(), ..Node::default() };
        assert_eq!(troubles(&[alone]), Vec::<String>::new(), "HA that nobody wants is no trouble");
    }

    #[test]
    fn each_trouble_is_named() {
        let off = of(|nodes| nodes[0].ha_off = Some("no entry of HA/nodes is local".into()));
        assert_eq!(off, ["HA is off on a: no entry of HA/nodes is local"]);
        let both = of(|nodes| nodes[1].holds_address = true);
        assert!(names(&both, &["a and b both have the resource address"]), "{both:?}");
        let moved = of(|nodes| {
            nodes[0].holds_address = false;
            nodes[1].holds_address = true;
        });
        assert!(names(&moved, &["is on b while a is active"]), "{moved:?}");
        let none = of(|nodes| nodes[0].role = "standby".into());
        assert!(names(&none, &["no node is active"]), "{none:?}");
        let two = of(|nodes| nodes[1].role = "active".into());
        assert!(names(&two, &["both take themselves for active"]), "{two:?}");
        let path = "/vsmserver/max_sessions_per_user".to_owned();
        let other = of(|nodes| {
            for node in nodes {
                node.parameters_differ.push(path.clone());
                node.host_keys_differ = true;
            }
        });
        assert_eq!(other.iter().filter(|line| line.contains(&path)).count(), 1, "{other:?}");
        assert!(names(&other, &["SSH host keys differ", "the other node this one's"]), "{other:?}");
        let ours = of(|nodes| nodes[0].parameters_differ.push("/vsmserver/HA/enabled".into()));
        assert!(names(&ours, &["push on the node that has it right"]), "{ours:?}");
    }

    #[test]
    fn lost_votes_clocks_and_tables_are_named() {
        let votes = of(|nodes| nodes[0].votes = false);
        assert!(names(&votes, &["no second vote"]), "{votes:?}");
        let dark = of(|nodes| {
            for witness in &mut nodes[0].witnesses[..2] {
                witness.up = false;
            }
        });
        assert!(names(&dark, &["a does not reach most", "witness agent2 does not vote for a"]));
        let gone = of(|nodes| {
            nodes[1] =
                Node { name: "b".into(), unreachable: Some("refused".into()), ..Node::default() };
            nodes[0].second_vote = "witnesses".into();
        });
        assert!(gone.len() == 1 && names(&gone, &["b cannot be asked (refused)"]), "{gone:?}");
        let clock = of(|nodes| {
            nodes[0].stream.as_mut().unwrap().clock_skew_ms = -3_600_000;
        });
        assert!(names(&clock, &["differ by 3600 s"]), "{clock:?}");
        let table = of(|nodes| nodes[1].table_digest = "1".into());
        assert!(names(&table, &["vsmctl ha verify"]), "{table:?}");
    }
}
