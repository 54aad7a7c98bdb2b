//! Draining an agent by an administrator's word, and taking that back.

use std::sync::Arc;

use tonic::Status;
use vsm_core::{AgentName, Drain, Proposal, UnixMillis};
use vsm_daemon::clock;
use vsm_proto::{admin::v1 as pb, convert};

use super::Refused;
use crate::{api::Edge, error::Refusal, hosts::fleet::Member, journal::trail::Note};

/// Longest reason, in bytes: it stands in lists.
const REASON_MAX: usize = 256;

/// What is wanted, checked.
#[derive(Debug)]
pub(super) struct Wanted {
    agent: AgentName,
    why: String,
    until: Option<UnixMillis>,
    force: bool,
}

impl Wanted {
    pub(super) fn parse(request: pb::DrainRequest) -> Result<Self, Status> {
        let pb::DrainRequest { agent, reason, until_unix_ms, force } = request;
        let agent = convert::text("agent", &agent)?;
        if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
            return Err(Status::invalid_argument(format!(
                "reason: it is one line of at most {REASON_MAX} bytes"
            )));
        }
        let until = Some(until_unix_ms).filter(|until| *until != 0).map(UnixMillis);
        if until.is_some_and(|until| until <= clock::unix_millis()) {
            return Err(Status::invalid_argument("until: this time is over already"));
        }
        Ok(Self { agent, why: reason, until, force })
    }
}

pub(super) async fn drain(
    edge: &Edge,
    actor: String,
    wanted: Wanted,
) -> Result<pb::DrainResponse, Status> {
    let Wanted { agent, why, until, force } = wanted;
    let _alone = edge.agents.marks.lock().await;
    let settings = edge.site.settings();
    let Some(configured) = settings.agents().get(&agent) else {
        return Err(Refused::UnknownAgent(agent).into());
    };
    if !force && let Some(subcluster) = left_empty(edge, &agent, &configured.subclusters) {
        return Err(Refused::LastAgent { agent, subcluster }.into());
    }
    let mark = Arc::new(Drain { by: actor.clone(), why, since: clock::unix_millis(), until });
    let proposal = Proposal::Drain { agent: agent.clone(), mark: Some(Arc::clone(&mark)) };
    edge.table.propose(proposal).await.map_err(Refusal::from)?;
    tracing::info!(%agent, by = actor, why = mark.why, "drained: it takes no new sessions");
    edge.journal.note(Note::new(actor, "agent-drained").agent(&agent).detail(&mark.why));
    Ok(pb::DrainResponse { drain: Some(mark.as_ref().into()) })
}

/// The first of these subclusters in which no other agent would take new sessions. Where the agent itself is away,
/// others that are away count too: they may come back before it.
fn left_empty(edge: &Edge, agent: &AgentName, subclusters: &[String]) -> Option<String> {
    let now = clock::unix_millis();
    let members = edge.agents.fleet.members();
    let is_up = members.iter().any(|member| member.agent == *agent && member.is_up());
    let counts = |member: &&Member| {
        let drained = member.settings.draining
            || edge.table.read(|view| view.table.is_drained(&member.agent, now));
        member.agent != *agent && !drained && (member.is_up() || !is_up)
    };
    let others: Vec<&Member> = members.iter().filter(counts).collect();
    let empty = |subcluster: &&String| !others.iter().any(|other| other.settings.is_in(subcluster));
    subclusters.iter().find(empty).cloned()
}

pub(super) async fn undrain(
    edge: &Edge,
    actor: String,
    agent: AgentName,
) -> Result<pb::UndrainResponse, Status> {
    let _alone = edge.agents.marks.lock().await;
    let settings = edge.site.settings();
    let configured = settings.agents().get(&agent);
    let drained_by_configuration = configured.is_some_and(|agent| agent.draining);
    let Some(drain) = edge.table.read(|view| view.table.drain(&agent).cloned()) else {
        return Err(match configured {
            None => Refused::UnknownAgent(agent),
            Some(_) if drained_by_configuration => Refused::ByConfiguration(agent),
            Some(_) => Refused::NotDrained(agent),
        }
        .into());
    };
    let proposal = Proposal::Drain { agent: agent.clone(), mark: None };
    edge.table.propose(proposal).await.map_err(Refusal::from)?;
    tracing::info!(%agent, by = actor, "no longer drained");
    edge.journal.note(Note::new(actor, "agent-undrained").agent(&agent));
    Ok(pb::UndrainResponse { drain: Some(drain.as_ref().into()), drained_by_configuration })
}
