//! The pair as a picture, the agents by load, and what is to do.

use maud::{Markup, html};
use vsm_cli::views;
use vsm_proto::admin::v1::{self as pb, AgentState, NodeView};

use crate::admin::{
    html::to_do,
    way::{NoWay, Way, now},
    words::Words,
};

/// Agents that the picture has; the page of agents has all.
const AGENTS_MAX: usize = 60;

pub(in crate::admin) async fn body(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let (nodes, agents) = (way.nodes().await?, way.agents().await?);
    let shown = views::pair(nodes.clone(), now());
    let (_, of_agents) = views::agents(agents.clone(), now());
    let lines: Vec<String> = shown.to_do.into_iter().chain(of_agents).collect();
    Ok(html! {
        (to_do(w, &lines))
        section aria-labelledby="pair" {
            h2 #pair { (w.brokers) }
            div.pair {
                @for (place, view) in nodes.iter().enumerate() {
                    @if place > 0 { (link(w, &nodes)) }
                    (node(w, view))
                }
            }
            (witnesses(w, &nodes))
        }
        (busy(w, &agents))
    })
}

fn node(w: &Words, node: &NodeView) -> Markup {
    let health = node.health.clone().unwrap_or_default();
    let (is_here, is_active) = (node.unreachable.is_empty(), node.role == "active");
    let class = if !is_here {
        "bad"
    } else if !health.healthy {
        "warn"
    } else {
        "good"
    };
    html! {
        article.node.(class) {
            h3 {
                (node.name)
                @if node.local { " " span.soft { (w.here) } }
            }
            @if is_here {
                p.role { (w.role(&node.role)) @if is_active && !node.ready { ", " (w.not_ready) } }
                @if node.holds_address { p.badge { (w.has_address) } }
                p { @if health.healthy { (w.healthy) } @else { strong { (w.not_healthy) ": " (health.reason) } } }
                dl {
                    @if let Some(epoch) = &node.epoch { (field(w.epoch, &views::epoch(epoch))) }
                    (field(w.votes, &votes(w, node)))
                    (field(w.sessions, &node.sessions.to_string()))
                    @if node.behind > 0 { (field(w.behind, &node.behind.to_string())) }
                    @if node.backlog > 0 { (field(w.backlog, &node.backlog.to_string())) }
                    (field(w.version, &node.version))
                }
            } @else {
                p.role { (w.unreachable) }
                p { (node.unreachable) }
            }
        }
    }
}

fn field(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// By which two votes an active node goes on.
fn votes(w: &Words, node: &NodeView) -> String {
    match (node.role.as_str(), node.votes, node.second_vote.as_str()) {
        ("active", true, second) => format!("{} + {}", w.own_store, w.vote(second)),
        ("active", false, _) => w.no_second_vote.to_owned(),
        _ => "–".to_owned(),
    }
}

/// The stream between both.
fn link(w: &Words, nodes: &[NodeView]) -> Markup {
    let streams = || nodes.iter().filter_map(|node| node.stream.as_ref());
    let (open, why) =
        (streams().any(|stream| stream.open), streams().find(|one| !one.why.is_empty()));
    let rtt = streams().map(|stream| stream.rtt_us).max().unwrap_or(0);
    html! {
        div.link.(if open { "good" } else { "bad" }) {
            span aria-hidden="true" { @if open { "⟷" } @else { "⇹" } }
            @if open {
                span { (w.in_touch) }
                @if rtt > 0 { span.soft { (rtt / 1000) "." (format!("{:03}", rtt % 1000)) " ms" } }
            } @else {
                strong { (w.not_in_touch) }
                @if let Some(stream) = why { span.soft { (stream.why) } }
            }
        }
    }
}

fn witnesses(w: &Words, nodes: &[NodeView]) -> Markup {
    let mut names: Vec<&str> = nodes
        .iter()
        .flat_map(|node| &node.witnesses)
        .map(|witness| witness.agent.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let votes = |name: &str, node: &NodeView| {
        let seen = node.witnesses.iter().find(|witness| witness.agent == name);
        seen.map(|witness| witness.up && witness.trouble.is_empty())
    };
    html! {
        @if !names.is_empty() {
            h3 { (w.witnesses) }
            ul.chips {
                @for name in &names {
                    @let all: Vec<_> = nodes.iter().filter(|node| node.unreachable.is_empty())
                        .map(|node| (node.name.as_str(), votes(name, node))).collect();
                    @let good = all.iter().all(|(_, vote)| *vote == Some(true));
                    li.(if good { "good" } else { "bad" }) {
                        span aria-hidden="true" { @if good { "✓ " } @else { "✗ " } }
                        (name)
                        @if good { span.hush { " " (w.votes_for_all) } }
                        @else { " " span.soft { @for (node, vote) in &all {
                            @if *vote != Some(true) { (w.no_vote_for(node)) " " }
                        } } }
                    }
                }
            }
        }
    }
}

/// The agents by load, the busiest first.
fn busy(w: &Words, agents: &[pb::AgentView]) -> Markup {
    let mut by_load: Vec<(u32, &pb::AgentView)> =
        agents.iter().map(|agent| (load(agent), agent)).collect();
    by_load.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.name.cmp(&other.1.name)));
    let up = agents.iter().filter(|agent| agent.state() == AgentState::Up).count();
    let sessions: u32 = agents.iter().map(|agent| agent.sessions).sum();
    html! {
        section aria-labelledby="busy" {
            h2 #busy { (w.agents) }
            p { (w.agents_up(up, agents.len(), sessions)) }
            ul.loads {
                @for (load, agent) in by_load.iter().take(AGENTS_MAX) {
                    @let is_up = agent.state() == AgentState::Up;
                    li.(if is_up { "good" } else { "bad" }) {
                        a href=(crate::admin::fields::Fields::one("name", &agent.name).after("/admin/agent")) { (agent.name) }
                        @if is_up {
                            meter min="0" max="100" low="70" high="90" optimum="0" value=(load)
                                aria-label=(w.load_of(&agent.name)) { (load) " %" }
                            span { (load) " %" }
                            span.soft { (w.users_sessions(agent.users, agent.sessions)) }
                            @if agent.draining { span.badge { (w.draining) } }
                            @if agent.maintenance.is_some() { span.badge { (w.maintenance) } }
                        } @else {
                            strong { (w.down) }
                            span.soft { (agent.detail) }
                        }
                    }
                }
            }
            @if by_load.len() > AGENTS_MAX { p { a href="/admin/agents" { (w.all_agents(by_load.len())) } } }
        }
    }
}

/// The larger of the CPUs' and the memory's share, in percent.
fn load(agent: &pb::AgentView) -> u32 {
    let Some(load) = agent.load else { return 0 };
    let used = load.memory_total_mib.saturating_sub(load.memory_available_mib);
    let memory = used.saturating_mul(100).checked_div(load.memory_total_mib).unwrap_or(0);
    (load.cpu_busy_milli / 10).max(memory).min(100)
}

#[cfg(test)]
mod tests {
    use vsm_proto::agent::v1::Load;

    use super::*;

    #[test]
    fn the_load_is_the_larger_share() {
        let of = |cpu_busy_milli, memory_available_mib| {
            let load = Load {
                cpu_busy_milli,
                memory_total_mib: 1000,
                memory_available_mib,
                ..Load::default()
            };
            super::load(&pb::AgentView { load: Some(load), ..Default::default() })
        };
        assert_eq!((of(500, 900), of(100, 200), of(2000, 0)), (50, 80, 100));
        assert_eq!(load(&pb::AgentView::default()), 0);
    }
}
