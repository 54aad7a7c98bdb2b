//! The agents as administrators see them, with the room that they have.

use std::collections::BTreeMap;

use vsm_core::{AgentName, AgentUse, IdentityName, Measured, Room, Table};
use vsm_daemon::{cause::Fault, clock, pki, tls::Role, trouble::Kind};
use vsm_proto::{admin::v1 as pb, agent::v1::Trouble};

use crate::{
    api::Edge,
    hosts::agents::{Link, LinkState, Load},
    site::settings::Settings,
};

/// All agents of the configuration, and those that still have sessions or a mark, by name.
pub(super) fn list(edge: &Edge) -> Vec<pb::AgentView> {
    let settings = edge.site.settings();
    let listed: BTreeMap<AgentName, pb::AgentView> = edge.table.read(|view| {
        let names = settings.agents().keys();
        let drained = view.table.drains().map(|(agent, _)| agent);
        let names = names.chain(view.table.agents_in_use()).chain(drained);
        names.map(|agent| (agent.clone(), of_table(&view.table, &settings, agent))).collect()
    });
    let with_link = |(agent, view)| with_link(edge, &settings, &agent, view);
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
    edge: &Edge,
    settings: &Settings,
    agent: &AgentName,
    mut view: pb::AgentView,
) -> pb::AgentView {
    let state = edge.agents.link(agent).map(|link| link.state());
    let measured = state.as_ref().and_then(LinkState::measured);
    // Which trouble the detail is of.
    let mut of = ("down", DOWN);
    match state {
        Some(LinkState::Up(up)) => {
            view.set_state(pb::AgentState::Up);
            view.since_unix_ms = up.since.0;
            view.public_name = up.host.public_name.to_string();
            view.version.clone_from(&up.version);
            if edge.table.state().replica.mute.contains(agent) {
                crate::api::pair::view::MUTE.clone_into(&mut view.detail);
                of = ("unheard", UNHEARD);
            }
            view.maintenance = up.maintenance.as_deref().map(str::to_owned);
            if let Some(twin) = edge.agents.twin(agent, &up) {
                view.detail = format!("error: it is the same host as {twin}, or a copy of it");
                of = ("twin", TWIN);
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
            view.detail = why.to_string();
            if let Some(revoked) = revoked(edge, agent).filter(|name| name.role() == "issuer") {
                let said = if why.fault() == Some(Fault::Revoked) {
                    ""
                } else {
                    "; its certificate was revoked"
                };
                view.detail += &format!("{said} with {revoked}, which had signed it");
            }
        }
        Some(LinkState::Connecting) | None => {
            view.set_state(pb::AgentState::Down);
            view.since_unix_ms = edge.process.started.at.0;
            "not reached yet".clone_into(&mut view.detail);
        }
    }
    view.room = Some(room(settings, &view, measured.as_ref()));
    view.troubles = troubles(edge, agent, &view, of);
    view
}

/// All for which an agent does less than its share: what this broker knows, then what it found out, then what the agent
/// says.
fn troubles(
    edge: &Edge,
    agent: &AgentName,
    view: &pb::AgentView,
    (kind, next): (&str, &str),
) -> Vec<Trouble> {
    let link = edge.agents.link(agent);
    let mut all = Vec::new();
    let mut add = |kind: &str, since: u64, what: String, next: &str| {
        all.push(Trouble { kind: kind.into(), what, since_unix_ms: since, next_step: next.into() });
    };
    let aside = link.as_ref().and_then(|link| link.aside());
    if let Some(aside) = &aside {
        let minutes = aside.left().as_secs().div_ceil(60);
        let what = format!("{}; it is heard again in {minutes} min", aside.words());
        add("put-aside", view.since_unix_ms, what, PUT_ASIDE);
    } else if !view.detail.is_empty() {
        let is_down = view.state() == pb::AgentState::Down;
        let down = if is_down { "down: " } else { "" };
        let enrol = format!("vsmctl agent enrol {agent}, if it is to come back");
        let next = match link.as_ref().and_then(|link| fault(link)) {
            _ if is_down && is_revoked(edge, agent) => &enrol,
            Some(Fault::Revoked) => NOT_TAKEN,
            Some(Fault::Unknown) => &enrol,
            None => next,
        };
        add(kind, view.since_unix_ms, format!("{down}{}", view.detail), next);
    }
    if let Some(text) = &view.maintenance {
        add("maintenance", 0, format!("in maintenance: {text}"), MAINTENANCE);
    }
    if let Some(drain) = &view.drain {
        let why = if drain.why.is_empty() { String::new() } else { format!(": {}", drain.why) };
        let next = format!("vsmctl agent undrain {agent}, when it is to take new sessions again");
        add("drained", drain.since_unix_ms, format!("drained by {}{why}", drain.by), &next);
    }
    if view.drained_by_configuration {
        let what = "drained by the configuration (/vsmserver/agents/draining)".to_owned();
        add(
            "drained",
            0,
            what,
            "take it out there and reload, when it is to take new sessions again",
        );
    }
    if view.subclusters.is_empty() {
        let next = format!(
            "name it in /vsmserver/subclusters, or end what runs there (vsmctl session list --agent {agent})"
        );
        add("no-subcluster", 0, "in no subcluster: it takes no new sessions".to_owned(), &next);
    }
    if view.penalised_until_unix_ms != 0 {
        let known = link.as_ref().and_then(|link| link.troubles.of(Kind::Start, ""));
        let (why, next) = match known {
            Some(trouble) => (trouble.what, Kind::Start.next_step()),
            None => (
                "it failed a start, and has started one since, or why is forgotten".into(),
                PENALISED,
            ),
        };
        let left =
            view.penalised_until_unix_ms.saturating_sub(clock::unix_millis().0).div_ceil(1000);
        let what = format!("last in the queue for {left} s more: {why}");
        let since = edge.table.read(|view| view.table.failed_at(agent).map_or(0, |at| at.0));
        add("penalised", since, what, next);
    }
    if let Some(link) = &link {
        let penalised = view.penalised_until_unix_ms != 0;
        let found = link.troubles.now().into_iter();
        all.extend(found.filter(|t| !(penalised && t.kind == Kind::Start)).map(|t| (&t).into()));
        if let LinkState::Up(up) = link.state() {
            all.extend(up.troubles.iter().cloned());
        }
    }
    all
}

/// What is the matter with the certificate of an agent that is down, if it is that.
fn fault(link: &Link) -> Option<Fault> {
    match link.state() {
        LinkState::Down { why, .. } => why.fault(),
        LinkState::Up(_) | LinkState::Connecting => None,
    }
}

/// Whether its certificate was revoked, and none issued since.
pub(crate) fn is_revoked(edge: &Edge, agent: &AgentName) -> bool {
    revoked(edge, agent).is_some()
}

/// What was revoked so that its certificate counts no more, where none was issued since: itself, or the issuer.
fn revoked(edge: &Edge, agent: &AgentName) -> Option<IdentityName> {
    let name = pki::identity(Role::Agent, agent.as_str())?;
    edge.table.read(|view| {
        let all = view.table.identities();
        let issued = all.get(&name).and_then(|known| known.issued.as_ref());
        let (name, revoked) = vsm_core::revocation(all, &name)?;
        issued.is_none_or(|issued| issued.at < revoked.before).then(|| name.clone())
    })
}

const PUT_ASIDE: &str = "look at that host first: whose is it now, was its disk restored, or the host cloned? A restart of \
                         vsmserver hears it at once";
const DOWN: &str = "mend what it says; if nothing answers, see that vsmagent and vsm-agent-net run there (journalctl -u vsmagent \
                    -u vsm-agent-net), and that the network lets the agent's port through";
const NOT_TAKEN: &str = "nothing: it has a new certificate, which vsm-agent-net there takes within a minute; systemctl restart \
                         vsmagent takes it at once";
const TWIN: &str = "leave one of both names in the agents lists, and reload";
const UNHEARD: &str = "nothing, if both brokers run: it is mended within seconds once they are in sync (vsmctl ha status)";
const PENALISED: &str =
    "nothing, if starts work there: it is over by itself (/vsmserver/agent_failure_penalty)";
const MAINTENANCE: &str = "remove /etc/nologin or /run/nologin there, when users are to come again";

fn room(settings: &Settings, view: &pb::AgentView, measured: Option<&Measured>) -> pb::Room {
    let room = Room::of(measured, settings.need, view.sessions, view.users, view.max_users);
    let takes = view.state() == pb::AgentState::Up && !view.draining && view.maintenance.is_none();
    pb::Room {
        by_memory: room.by_memory,
        by_cap: room.by_cap,
        users: if takes { room.users() } else { Some(0) },
    }
}
