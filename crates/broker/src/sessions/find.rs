//! What a user has, and whether one of these sessions runs, as its agent says (P5). Which of them a login means is for
//! [`vsm_core::lifecycle::Login`] to say.

use std::sync::Arc;

use vsm_core::{
    AgentName, Ended, Proposal, Session, StartParams,
    lifecycle::login::{Host, Own},
};
use vsm_daemon::clock::Since;

use crate::{
    hosts::{
        agents::{LinkState, Verdict},
        fleet::is_root,
    },
    sessions::{Sessions, limiting, want::Handed},
    users::Identity,
};

/// A session's agent that is silent.
pub(crate) struct Silent {
    pub(crate) agent: AgentName,
    pub(crate) why: String,
    pub(crate) since: Since,
}

/// What an agent says of a session.
pub(crate) enum Verified {
    Alive(Handed),
    Gone(Option<Ended>),
    Silent(Silent),
}

/// A user's sessions with what is known of their agents. What could not be recorded as over when its host said so is
/// tried once more: with votes nothing of it stays in the table.
pub(crate) async fn own(sessions: &Sessions, who: &Identity) -> Vec<Own> {
    for id in sessions.over(&who.user) {
        if sessions.table.read(|view| view.table.session(id).is_some()) {
            // Else it is left out below.
            let _ = sessions.table.propose(Proposal::Gone { id }).await;
        }
    }
    let host = |session: &Session| {
        let state = sessions.agents.link(&session.agent).map(|link| link.state());
        match &state {
            Some(LinkState::Up(up)) => Host::Up {
                connected: up.seen.get(&session.id).is_some_and(|seen| seen.viewer.is_some()),
                open: is_root(&session.user) || up.maintenance.is_none(),
            },
            Some(LinkState::Connecting) => Host::Connecting,
            Some(LinkState::Down { .. }) | None => Host::Silent,
        }
    };
    let with_host = |session: Arc<Session>| Own { host: host(&session), session };
    sessions.of_user(&who.user).into_iter().map(with_host).collect()
}

/// Waits, for a bounded time, until it is known which of these agents answer; of all where there are none.
pub(crate) async fn settle(sessions: &Sessions, agents: &[AgentName]) {
    if agents.is_empty() {
        return sessions.agents.settle().await;
    }
    for link in agents.iter().filter_map(|agent| sessions.agents.link(agent)) {
        link.settled().await;
    }
}

/// Asks the session's agent, and tells it of the client.
pub(crate) async fn verify(
    sessions: &Arc<Sessions>,
    session: &Arc<Session>,
    who: &Identity,
    client: &StartParams,
) -> Verified {
    let silent = |why, since| Verified::Silent(Silent { agent: session.agent.clone(), why, since });
    let (link, up) = match sessions.agents.reach(&session.agent).await {
        Ok(reached) => reached,
        Err((why, since)) => {
            return silent(why.to_string(), since.unwrap_or(sessions.process.started));
        }
    };
    match link.verify(session.id, Some((client, sessions.table.fence()))).await {
        Ok(Verdict::Alive) => {
            limiting::came(sessions, &link, &up, session, who);
            let host = up.host.public_name.to_string();
            Verified::Alive(Handed::new(Arc::clone(session), host, false))
        }
        Ok(Verdict::Gone(ended)) => Verified::Gone(ended),
        Err(error) => silent(error.why, Since::now()),
    }
}
