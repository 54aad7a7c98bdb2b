//! `vsmctl ha simulate`: the model on the pair as it is, case by case.

use serde::Serialize;
use vsm_daemon::clock;
use vsm_proto::admin::v1 as pb;

use super::{
    model::{Agent, Broker, Can, Site},
    node::{self, Node, Witness},
};
use crate::{
    admin::{self, AdminOptions},
    exit::Failure,
    output::{self, Cells, Columns, Format},
};

/// What one broker can do in one case; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    node: String,
    standing: &'static str,
    create: &'static str,
    reconnect_agents: usize,
    agents: usize,
    second_vote: Option<&'static str>,
    #[serde(skip)]
    first: bool,
}

impl Columns for Row {
    const HEADINGS: &'static [&'static str] =
        &["AFTER", "NODE", "IS THEN", "NEW DESKTOPS", "RECONNECTS", "SECOND VOTE"];

    fn cells(&self) -> Vec<String> {
        let reconnect = match self.reconnect_agents {
            0 => "no".to_owned(),
            some if some == self.agents => "yes".to_owned(),
            some => format!("on {some} of {} agents", self.agents),
        };
        vec![
            if self.first { self.case.clone() } else { String::new() },
            self.node.clone(),
            self.standing.to_owned(),
            self.create.to_owned(),
            reconnect,
            self.second_vote.unwrap_or("-").to_owned(),
        ]
    }
}

/// Asks for the roster and prints what would become of it.
///
/// # Errors
/// If the broker cannot be asked, or is not one of a pair.
pub(super) async fn run(options: &AdminOptions) -> Result<(), Failure> {
    let nodes = node::list(super::nodes(options).await?, clock::unix_millis().0);
    let agents = admin::agents(options).await?;
    // With --socket alone there may be no configuration here that can be read.
    let solo = options.configuration().map(|config| config.value("/vsmserver/HA/solo_create"));
    let site =
        site(&nodes, &agents, matches!(solo, Ok(Some(choice)) if choice == "allow_and_mark"))?;
    let rows = rows(&site);
    output::list(options.output, &rows)?;
    if options.output == Format::Table && !site.agents.iter().any(|agent| agent.witness) {
        output::say(
            "\nThere are no witnesses: a node that loses the other one makes no new desktops.",
        )?;
    }
    Ok(())
}

/// What would become of the pair, as `vsmctl ha simulate` has it; an error = this broker is not one of a pair.
pub(crate) fn cells(
    views: Vec<pb::NodeView>,
    agents: &[pb::AgentView],
    solo_create: bool,
) -> Result<Cells, Failure> {
    let nodes = node::list(views, clock::unix_millis().0);
    Ok(Cells::of(&rows(&site(&nodes, agents, solo_create)?)))
}

fn rows(site: &Site) -> Vec<Row> {
    let of = |case: super::model::Case| {
        let agents = case.site.agents.len();
        let outcome = case.site.outcome();
        let row = |(number, can): (usize, Can)| Row {
            case: case.name.clone(),
            node: case.site.nodes[number].name.clone(),
            standing: can.standing.word(),
            create: can.create.word(),
            reconnect_agents: can.reconnect,
            agents,
            second_vote: can.second,
            first: number == 0,
        };
        outcome.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    site.cases().into_iter().flat_map(of).collect()
}

/// The site as both nodes see it.
fn site(nodes: &[Node], agents: &[pb::AgentView], solo_create: bool) -> Result<Site, Failure> {
    let [one, other] = nodes else {
        let why = nodes.first().and_then(|node| node.ha_off.as_deref());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        return Err(Failure::new(1, format!("this broker is not one of a pair{why}")));
    };
    let broker = |node: &Node| Broker {
        name: node.name.clone(),
        up: node.reached(),
        active: node.is_active(),
    };
    let sees = |node: &Node, name: &str| -> Option<Witness> {
        node.witnesses.iter().find(|witness| witness.agent == name).cloned()
    };
    let agent = |name: &str, up: bool| {
        let seen = [one, other].map(|node| sees(node, name));
        let witness = seen.iter().any(Option::is_some);
        // Of an agent that is no witness only the node that was asked tells; the other is taken to see the same.
        let reach = seen.clone().map(|seen| seen.map_or(up, |witness| witness.up));
        let mute = seen.map(|seen| seen.is_some_and(|witness| witness.trouble.is_some()));
        Agent { name: name.to_owned(), witness, reach, mute }
    };
    let mut all: Vec<Agent> =
        agents.iter().map(|view| agent(&view.name, view.state() == pb::AgentState::Up)).collect();
    for witness in one.witnesses.iter().chain(&other.witnesses) {
        if !all.iter().any(|agent| agent.name == witness.agent) {
            all.push(agent(&witness.agent, false));
        }
    }
    Ok(Site {
        nodes: [broker(one), broker(other)],
        link: one.is_linked() || other.is_linked(),
        agents: all,
        solo_create,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::todo::tests::good, *};

    fn agent(name: &str, up: bool) -> pb::AgentView {
        let state = if up { pb::AgentState::Up } else { pb::AgentState::Down };
        pb::AgentView { name: name.into(), state: state.into(), ..Default::default() }
    }

    #[test]
    fn the_site_is_what_the_nodes_and_the_agents_say() {
        let mut nodes = good();
        nodes[1].witnesses[2].trouble = Some("its promise is damaged".into());
        let agents = [
            agent("agent1", true),
            agent("agent2", true),
            agent("agent3", true),
            agent("x", false),
        ];
        let site = site(&nodes, &agents, false).unwrap();
        assert!(site.link && site.nodes[0].active && !site.nodes[1].active);
        let of = |name: &str| site.agents.iter().find(|agent| agent.name == name).unwrap();
        assert_eq!((of("agent3").witness, of("agent3").reach), (true, [true, true]));
        assert_eq!(of("agent3").mute, [false, true], "its desktops can be reached");
        assert_eq!((of("x").witness, of("x").reach), (false, [false, false]));
        let rows = rows(&site);
        assert_eq!(rows[0].cells()[..4], ["as it is now", "a", "active", "yes"]);
        assert_eq!(rows[0].cells()[4], "on 3 of 4 agents");
        assert_eq!(rows[1].cells()[0], "", "each case is named once");
    }

    #[test]
    fn a_broker_alone_is_told_why() {
        let alone = Node { ha_off: Some("three entries".into()), ..Node::default() };
        let failure = site(&[alone], &[], false).unwrap_err();
        assert_eq!((failure.code, failure.text.contains("three entries")), (1, true));
    }
}
