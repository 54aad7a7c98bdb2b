//! The agents as administrators see them, with the room that they have.

use std::collections::BTreeMap;

use vsm_core::{AgentName, AgentUse, Measured, Room, Table};
use vsm_daemon::clock;
use vsm_proto::admin::v1 as pb;

use crate::{
    agents::{LinkState, Load},
    broker::Broker,
    settings::Settings,
};

/// All agents of the configuration, and those that still have sessions or a mark, by name.
pub(super) fn list(broker: &Broker) -> Vec<pb::AgentView> {
    let settings = broker.settings();
    let listed: BTreeMap<AgentName, pb::AgentView> = broker.table.read(|view| {
        let names = settings.agents().keys();
        let drained = view.table.drains().map(|(agent, _)| agent);
        let names = names.chain(view.table.agents_in_use()).chain(drained);
        names.map(|agent| (agent.clone(), of_table(&view.table, &settings, agent))).collect()
    });
    let with_link = |(agent, view)| with_link(broker, &settings, &agent, view);
    listed.into_iter().map(with_link).collect()
}

/// What table and configuration have of an agent.
fn of_table(table: &Table, settings: &Settings, agent: &AgentName) -> pb::AgentView {
    let now = clock::unix_millis();
    let configured = settings.agents().get(agent);
    let rule = settings.rule(now, 0);
    let until = table.failed_at(agent).map_or(0, |at| at.0.saturating_add(rule.penalty_ms));
    let drain = table.drain(agent).filter(|drain| drain.holds(now));
    let use_ = table.agent_use(agent);
    pb::AgentView {
        name: agent.to_string(),
        users: use_.map_or(0, AgentUse::users),
        sessions: use_.map_or(0, AgentUse::sessions),
        weight: configured.map_or(0, |agent| agent.weight),
        // One that is in no subcluster any more takes no new sessions either.
        draining: drain.is_some() || configured.is_none_or(|agent| agent.draining),
        drained_by_configuration: configured.is_some_and(|agent| agent.draining),
        drain: drain.map(|drain| drain.as_ref().into()),
        penalised_until_unix_ms: if until > now.0 { until } else { 0 },
        subclusters: configured.map(|agent| agent.subclusters.clone()).unwrap_or_default(),
        max_users: configured.map_or(0, |agent| agent.max_users),
        ..pb::AgentView::default()
    }
}

/// Adds what the link knows, and what follows from all of it.
fn with_link(
    broker: &Broker,
    settings: &Settings,
    agent: &AgentName,
    mut view: pb::AgentView,
) -> pb::AgentView {
    let state = broker.agents.link(agent).map(|link| link.state());
    let measured = state.as_ref().and_then(LinkState::measured);
    match state {
        Some(LinkState::Up(up)) => {
            view.set_state(pb::AgentState::Up);
            view.since_unix_ms = up.since.0;
            view.public_name.clone_from(&up.public_name);
            view.version.clone_from(&up.version);
            if broker.table.state().replica.mute.contains(agent) {
                crate::ha::api::MUTE.clone_into(&mut view.detail);
            }
            view.maintenance = up.maintenance.as_deref().map(str::to_owned);
            if let Some(twin) = broker.agents.twin(agent, &up) {
                view.detail = format!(
                    "error: it is the same host as {twin}, or a copy of it; leave one of both names in the agents lists"
                );
            }
            if let Some(Load { told, at, sessions }) = up.load {
                view.load = Some(told);
                view.load_unix_ms = at.0;
                view.sessions_since_load = view.sessions.saturating_sub(sessions);
            }
        }
        Some(LinkState::Down { why, since }) => {
            view.set_state(pb::AgentState::Down);
            view.since_unix_ms = since.at.0;
            view.detail = why;
        }
        Some(LinkState::Connecting) | None => {
            view.set_state(pb::AgentState::Down);
            view.since_unix_ms = broker.started.at.0;
            "not reached yet".clone_into(&mut view.detail);
        }
    }
    view.room = Some(room(settings, &view, measured.as_ref()));
    view
}

fn room(settings: &Settings, view: &pb::AgentView, measured: Option<&Measured>) -> pb::Room {
    let room = Room::of(measured, settings.need, view.sessions, view.users, view.max_users);
    let takes = view.state() == pb::AgentState::Up && !view.draining && view.maintenance.is_none();
    pb::Room {
        by_memory: room.by_memory,
        by_cap: room.by_cap,
        users: if takes { room.users() } else { Some(0) },
    }
}
