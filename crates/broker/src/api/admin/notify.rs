//! Showing a text on desktops.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;
use tonic::Status;
use vsm_core::{AgentName, Session, State};
use vsm_proto::admin::v1 as pb;

use super::select::Selector;
use crate::{api::Edge, journal::trail::Note};

/// Longest text, in bytes: a notification, not a letter.
const TEXT_MAX: usize = 2048;

/// Has each agent show the text on those of its desktops that match.
pub(super) async fn show(
    edge: &Arc<Edge>,
    request: pb::NotifyRequest,
    actor: String,
) -> Result<pb::NotifyResponse, Status> {
    let text = checked(request.text)?;
    let selector = Selector::parse(request.selector.unwrap_or_default(), edge).await?;
    let mut by_agent: BTreeMap<AgentName, Vec<Arc<Session>>> = BTreeMap::new();
    for session in selector.running(edge) {
        by_agent.entry(session.agent.clone()).or_default().push(session);
    }
    let wanted: usize = by_agent.values().map(Vec::len).sum();
    let mut under_way = JoinSet::new();
    for (agent, sessions) in by_agent {
        let (edge, text) = (Arc::clone(edge), text.clone());
        under_way.spawn(async move { on_agent(&edge, &agent, &sessions, &text).await });
    }
    let not_shown: Vec<pb::NotShown> = under_way.join_all().await.into_iter().flatten().collect();
    let shown = wanted - not_shown.len();
    tracing::info!(actor, shown, not_shown = not_shown.len(), "an administrator sends a text");
    edge.journal
        .note(Note::new(actor, "text-sent").detail(format!("to {shown} desktop(s): {text}")));
    Ok(pb::NotifyResponse { shown: u32::try_from(shown).unwrap_or(u32::MAX), not_shown })
}

fn checked(text: String) -> Result<String, Status> {
    let bad = |why: &str| Err(Status::invalid_argument(format!("text: {why}")));
    if text.trim().is_empty() {
        return bad("is empty");
    }
    if text.len() > TEXT_MAX {
        return bad("is longer than 2048 bytes");
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return bad("holds control characters");
    }
    Ok(text)
}

/// The desktops of one agent on which the text could not be shown.
async fn on_agent(
    edge: &Edge,
    agent: &AgentName,
    sessions: &[Arc<Session>],
    text: &str,
) -> Vec<pb::NotShown> {
    let told = match edge.agents.link(agent) {
        None => Err("it is in no subcluster".to_owned()),
        Some(link) => match link.up().await {
            Err((why, _)) => Err(format!("{agent} cannot be reached ({why})")),
            Ok(_) => {
                let ids = sessions.iter().map(|session| session.id);
                link.notify(edge.table.fence(), ids, text)
                    .await
                    .map_err(|error| format!("{agent}: {}", error.why))
            }
        },
    };
    let why_not = |session: &Session| match &told {
        Err(why) => Some(why.clone()),
        Ok(failed) => failed.get(&session.id.to_string()).cloned(),
    };
    let not_shown = |session: &Arc<Session>| {
        let detail = why_not(session)?;
        Some(pb::NotShown { session: Some(session.as_ref().into()), detail })
    };
    sessions.iter().filter_map(not_shown).collect()
}

impl Selector {
    /// The desktops that match and run.
    fn running(&self, edge: &Edge) -> impl Iterator<Item = Arc<Session>> {
        let mut viewer = crate::api::view::Viewer::new(edge);
        self.records(edge).into_iter().filter(move |session| {
            matches!(session.state, State::Running { .. })
                && self.shown(&mut viewer, session).is_some()
        })
    }
}
