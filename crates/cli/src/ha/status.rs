//! `vsmctl ha status`: both nodes side by side, the witnesses below, and last what is to do.

use serde::Serialize;
use vsm_daemon::clock;
use vsm_proto::admin::v1 as pb;

use super::{
    node::{self, Node, Witness},
    todo,
};
use crate::{
    admin::AdminOptions,
    exit::Failure,
    output::{self, Cells},
    trouble,
};

/// What it prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Report {
    nodes: Vec<Node>,
    to_do: Vec<String>,
}

/// Asks and prints.
///
/// # Errors
/// If the broker cannot be asked; with `exit_code` also if something is to do.
pub(super) async fn run(options: &AdminOptions, exit_code: bool) -> Result<(), Failure> {
    let nodes = node::list(super::nodes(options).await?, clock::unix_millis().0);
    let to_do = todo::troubles(&nodes);
    let is_something = !to_do.is_empty();
    output::report(options.output, &Report { nodes, to_do }, render)?;
    trouble::end(exit_code, is_something)
}

/// The pair as `vsmctl ha status` has it.
#[derive(Debug, Clone)]
pub struct PairShown {
    /// Both nodes, side by side.
    pub nodes: Cells,
    /// The witnesses as each node sees them; no rows = there are none.
    pub witnesses: Cells,
    /// What is to do; empty = nothing.
    pub to_do: Vec<String>,
}

impl PairShown {
    /// By what both nodes say; `now_unix_ms` is by the clock here.
    pub(crate) fn new(views: Vec<pb::NodeView>, now_unix_ms: u64) -> Self {
        let nodes = node::list(views, now_unix_ms);
        let (first, rows) = side_by_side(&nodes);
        Self {
            nodes: Cells::new(first, rows),
            witnesses: Cells::new(witness_headings(&nodes), witnesses(&nodes)),
            to_do: todo::troubles(&nodes),
        }
    }
}

fn side_by_side(nodes: &[Node]) -> (Vec<String>, Vec<Vec<String>>) {
    let heading = |node: &Node| {
        if node.local { format!("{} (here)", node.name) } else { node.name.clone() }
    };
    let first = std::iter::once(String::new()).chain(nodes.iter().map(heading)).collect();
    let rows = ROWS.iter().filter_map(|(label, cell)| {
        let cells: Vec<String> = nodes.iter().map(|node| of(node, *cell)).collect();
        // What nobody has is left out.
        let told = cells.iter().any(|cell| cell != NOTHING);
        told.then(|| std::iter::once((*label).to_owned()).chain(cells).collect())
    });
    (first, rows.collect())
}

fn witness_headings(nodes: &[Node]) -> Vec<String> {
    let by = nodes.iter().map(|node| format!("by {}", node.name));
    std::iter::once("witness".to_owned()).chain(by).collect()
}

fn render(report: &Report) -> String {
    let (first, rows) = side_by_side(&report.nodes);
    let mut text = output::columns(first, rows);
    let witnesses = witnesses(&report.nodes);
    if !witnesses.is_empty() {
        text.push('\n');
        text.push_str(&output::columns(witness_headings(&report.nodes), witnesses));
    }
    text.push_str("\nto do\n");
    if report.to_do.is_empty() {
        text.push_str("  nothing\n");
    }
    for line in &report.to_do {
        text.push_str(&format!("  - {line}\n"));
    }
    text
}

const NOTHING: &str = "-";

type Cell = fn(&Node) -> Option<String>;

/// What is shown of a node, in this order.
const ROWS: [(&str, Cell); 24] = [
    ("cannot be asked", |node| node.unreachable.clone()),
    ("HA", |node| node.ha_off.as_ref().map(|why| format!("OFF: {why}"))),
    ("seen", |node| node.reached().then(|| ago(node.age_ms))),
    ("role", |node| Some(node.role.clone())),
    ("serves", |node| node.is_active().then(|| yes(node.ready))),
    ("epoch", |node| node.epoch.clone()),
    ("promised", |node| node.promised.clone()),
    ("last position", |node| node.last.clone()),
    ("committed", |node| node.reached().then(|| node.commit.to_string())),
    ("behind", |node| (node.role == "standby").then(|| format!("{} change(s)", node.behind))),
    ("backlog", |node| node.is_active().then(|| format!("{} change(s)", node.backlog))),
    ("second vote", |node| {
        let vote = if node.votes { node.second_vote.as_str() } else { "none" };
        node.is_active().then(|| vote.to_owned())
    }),
    ("to be active", |node| {
        let wanted = || format!("{} (by {})", yes(node.wanted), node.role_source);
        (node.reached() && node.in_pair()).then(wanted)
    }),
    ("failed claims", |node| (node.failed_claims > 0).then(|| node.failed_claims.to_string())),
    ("has the address", |node| (node.reached() && node.in_pair()).then(|| yes(node.holds_address))),
    ("healthy", |node| {
        let no = || format!("NO: {}", node.health_reason);
        node.reached().then(|| if node.healthy { "yes".to_owned() } else { no() })
    }),
    ("sessions", |node| node.reached().then(|| node.sessions.to_string())),
    ("table digest", |node| node.reached().then(|| node.table_digest.clone())),
    ("store", |node| node.store_fault.as_ref().map(|why| format!("FAULT: {why}"))),
    ("stream", |node| {
        node.stream.as_ref().map(|stream| match (&stream.why, stream.open) {
            (_, true) => "open".to_owned(),
            (Some(why), false) => format!("CLOSED: {why}"),
            (None, false) => "CLOSED".to_owned(),
        })
    }),
    ("round trip", |node| {
        let stream = node.stream.as_ref().filter(|stream| stream.rtt_us > 0)?;
        Some(format!("{}.{:03} ms", stream.rtt_us / 1000, stream.rtt_us % 1000))
    }),
    ("clock of the other", |node| {
        let stream = node.stream.as_ref().filter(|stream| stream.open)?;
        Some(format!("{:+} ms", stream.clock_skew_ms))
    }),
    ("version", |node| node.reached().then(|| node.version.clone())),
    ("lineage", |node| node.reached().then(|| node.lineage.clone())),
];

fn of(node: &Node, cell: Cell) -> String {
    cell(node).filter(|text| !text.is_empty()).unwrap_or_else(|| NOTHING.to_owned())
}

fn yes(is: bool) -> String {
    if is { "yes".to_owned() } else { "no".to_owned() }
}

fn ago(age_ms: u64) -> String {
    if age_ms < 1000 { "just now".to_owned() } else { format!("{} s ago", age_ms / 1000) }
}

/// One line per witness, one cell per node.
fn witnesses(nodes: &[Node]) -> Vec<Vec<String>> {
    let mut agents: Vec<&str> = nodes
        .iter()
        .flat_map(|node| &node.witnesses)
        .map(|witness| witness.agent.as_str())
        .collect();
    agents.sort_unstable();
    agents.dedup();
    let line = |agent: &str| {
        let cell = |node: &Node| {
            let witness = node.witnesses.iter().find(|witness| witness.agent == agent);
            witness.map_or_else(|| NOTHING.to_owned(), vote)
        };
        std::iter::once(agent.to_owned()).chain(nodes.iter().map(cell)).collect()
    };
    agents.into_iter().map(line).collect()
}

fn vote(witness: &Witness) -> String {
    let promised = witness.promised.as_deref().map(|epoch| format!(", promised {epoch}"));
    let kept = (witness.kept > 0).then(|| format!(", keeps up to {}", witness.kept));
    let word = match (&witness.trouble, witness.up) {
        (Some(why), _) => format!("NO VOTE: {why}"),
        (None, true) => "up".to_owned(),
        (None, false) => "DOWN".to_owned(),
    };
    [Some(word), promised, kept].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{super::todo::tests::good, *};

    #[test]
    fn both_nodes_stand_side_by_side_and_troubles_last() {
        let mut nodes = good();
        nodes[0].epoch = Some("7@a".into());
        nodes[1].witnesses[0].up = false;
        let to_do = todo::troubles(&nodes);
        let text = render(&Report { nodes, to_do });
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        assert_eq!(
            line("role").split_whitespace().collect::<Vec<_>>(),
            ["role", "active", "standby"]
        );
        assert_eq!(line("epoch").split_whitespace().collect::<Vec<_>>(), ["epoch", "7@a", "-"]);
        assert_eq!(line("agent1").split_whitespace().collect::<Vec<_>>(), ["agent1", "up", "DOWN"]);
        assert!(!text.contains("cannot be asked"), "{text}");
        assert!(
            text.ends_with("witness agent1 does not vote for b: it is not connected\n"),
            "{text}"
        );
    }

    #[test]
    fn a_node_that_cannot_be_asked_shows_why_and_no_zeros() {
        let mut nodes = good();
        nodes[1] = Node {
            name: "b".into(),
            unreachable: Some("no route to host".into()),
            ..Node::default()
        };
        let text = render(&Report { nodes, to_do: Vec::new() });
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(line("cannot be asked").ends_with("no route to host"));
        assert!(line("committed").trim_end().ends_with(" -"), "{text}");
        assert!(text.ends_with("to do\n  nothing\n"));
    }
}
