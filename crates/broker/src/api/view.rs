//! A session as it is shown to users and administrators.

use std::collections::HashMap;

use vsm_core::{AgentName, Session, State};
use vsm_proto::broker::v1::{SessionCondition, SessionView};

use crate::{api::Edge, hosts::agents::LinkState};

/// Adds to records what the links know; looks at each link once.
#[derive(Debug)]
pub(crate) struct Viewer<'a> {
    edge: &'a Edge,
    states: HashMap<AgentName, Option<LinkState>>,
}

impl<'a> Viewer<'a> {
    pub(crate) fn new(edge: &'a Edge) -> Self {
        Self { edge, states: HashMap::new() }
    }

    pub(crate) fn view(&mut self, session: &Session) -> SessionView {
        let edge = self.edge;
        let state = self
            .states
            .entry(session.agent.clone())
            .or_insert_with(|| edge.agents.link(&session.agent).map(|link| link.state()));
        let mut last_client = String::from(session.params.client_name.clone());
        let mut standing = None;
        let (viewer, unreachable_since) = match state {
            Some(LinkState::Up(up)) => {
                let seen = up.seen.get(&session.id);
                if let Some(name) = seen.and_then(|seen| seen.client.as_ref()) {
                    last_client = name.as_ref().to_owned();
                }
                standing = seen.and_then(|seen| Some(seen.standing.as_deref()?.into()));
                (seen.and_then(|seen| seen.viewer.as_ref()).map(Into::into), 0)
            }
            Some(LinkState::Down { since, .. }) => (None, since.at.0),
            Some(LinkState::Connecting) | None => (None, edge.process.started.at.0),
        };
        let condition = match (session.state, unreachable_since, &viewer) {
            (State::Starting, ..) => SessionCondition::Starting,
            (State::Ending { .. }, 0, _) => SessionCondition::Ending,
            (State::Ending { .. }, ..) => SessionCondition::Abandoned,
            (State::Running { .. }, 0, Some(_)) => SessionCondition::Connected,
            (State::Running { .. }, 0, None) => SessionCondition::Disconnected,
            (State::Running { .. }, ..) => SessionCondition::Unreachable,
        };
        SessionView {
            session: Some(session.into()),
            viewer,
            unreachable_since_unix_ms: unreachable_since,
            condition: condition.into(),
            last_client,
            standing,
        }
    }
}
