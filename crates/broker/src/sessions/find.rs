//! What a user has: which of their sessions a login means, verified with its agent before it is handed out (P5).
//!
//! It takes no lock and writes nothing, but that one that is dead leaves the table here and now.

use std::{collections::HashSet, sync::Arc};

use vsm_core::{AgentName, Candidate, Choice, Chosen, Session, SessionId, StartParams, State};
use vsm_daemon::clock::Since;

use crate::{
    broker::Broker,
    error::Refusal,
    hosts::{
        agents::{LinkState, Verdict},
        fleet::is_root,
    },
    sessions::{
        gone, limiting,
        login::{Handed, Want, Wish},
    },
    users::Identity,
};

/// What a look at the user's sessions found.
pub(crate) enum Found {
    /// The one that is meant.
    Alive(Handed),
    /// Several, and the user is to say which.
    Several(Vec<Arc<Session>>),
    /// None that could be meant.
    Nothing,
    /// The one that is meant is on an agent that is silent.
    Unreachable(Silent),
}

/// A session's agent that is silent.
pub(crate) struct Silent {
    pub(crate) agent: AgentName,
    pub(crate) why: String,
    pub(crate) since: Since,
}

/// Looks for the running session that is meant.
///
/// # Errors
/// `NO_SESSION` for one that was named and is not the user's.
pub(crate) async fn find(
    broker: &Arc<Broker>,
    who: &Identity,
    want: &Want,
) -> Result<Found, Refusal> {
    let mut passed = HashSet::new();
    let mut silent = None;
    loop {
        let own = sessions(broker, who);
        // P8: a repeated request is about what it has made, whatever else its user has.
        let made = own.iter().find(|session| session.request == want.request).cloned();
        if made.as_ref().is_some_and(|session| session.state == State::Starting) {
            return Ok(Found::Nothing);
        }
        if let Wish::This(id) = want.wish
            && !own.iter().any(|session| session.id == id)
        {
            return Err(Refusal::NoSession(id.to_string()));
        }
        let mut sessions: Vec<_> = own
            .into_iter()
            .filter(|session| is_meant(session, want) && !passed.contains(&session.id))
            .collect();
        settle(broker, &sessions).await;
        // One whose agent is silent is nothing to choose as long as there is another.
        if sessions.iter().any(|session| is_up(broker, session)) {
            sessions.retain(|session| is_up(broker, session));
        } else {
            sessions.truncate(1);
        }
        // Nor is one whose host lets nobody in, who is not root.
        if sessions.iter().any(|session| is_open(broker, session)) {
            sessions.retain(|session| is_open(broker, session));
        }
        let next = match choose(broker, want, &sessions) {
            Chosen::Ask => return Ok(Found::Several(sessions)),
            Chosen::Take(id) => sessions.into_iter().find(|session| session.id == id),
            Chosen::New => None,
        };
        let Some(next) = next else {
            return Ok(silent.map_or(Found::Nothing, Found::Unreachable));
        };
        passed.insert(next.id);
        match verify(broker, &next, who, &want.params).await {
            Ok(Some(handed)) => return Ok(Found::Alive(handed)),
            Ok(None) => {}
            Err((why, since)) => {
                let agent = next.agent.clone();
                if made.is_some_and(|made| made.id == next.id) {
                    return Ok(Found::Unreachable(Silent { agent, why, since }));
                }
                // The others there would only be waited for in vain.
                passed.extend(on_agent(broker, who, &agent));
                silent = Some(Silent { agent, why, since });
            }
        }
    }
}

/// All sessions of a user that this node knows of.
pub(crate) fn sessions(broker: &Broker, who: &Identity) -> Vec<Arc<Session>> {
    let mut own: Vec<_> =
        broker.table.read(|view| view.table.of_user(&who.user).cloned().collect());
    own.extend(broker.unvoted_of(&who.user));
    own
}

fn on_agent(broker: &Broker, who: &Identity, agent: &AgentName) -> Vec<SessionId> {
    let there = sessions(broker, who).into_iter().filter(|session| session.agent == *agent);
    there.map(|session| session.id).collect()
}

/// Whether a login can be about this session: a desktop that was started with a command of its own is another thing
/// than the full desktop.
fn is_meant(session: &Session, want: &Want) -> bool {
    let fits = match want.wish {
        Wish::This(id) => session.id == id,
        Wish::Any(_) => session.params.start_command == want.params.start_command,
    };
    matches!(session.state, State::Running { .. }) && (fits || session.request == want.request)
}

fn choose(broker: &Broker, want: &Want, sessions: &[Arc<Session>]) -> Chosen {
    let made = sessions.iter().find(|session| session.request == want.request);
    let choice = match want.wish {
        Wish::This(id) if sessions.iter().any(|session| session.id == id) => {
            return Chosen::Take(id);
        }
        Wish::This(_) => return Chosen::New,
        Wish::Any(choice) => choice,
    };
    if let Some(made) = made {
        return Chosen::Take(made.id);
    }
    let candidates: Vec<_> = sessions
        .iter()
        .map(|session| Candidate { id: session.id, connected: is_connected(broker, session) })
        .collect();
    choice.among(&candidates, broker.settings().max_sessions_per_user)
}

fn state(broker: &Broker, session: &Session) -> Option<LinkState> {
    broker.agents.link(&session.agent).map(|link| link.state())
}

fn is_up(broker: &Broker, session: &Session) -> bool {
    matches!(state(broker, session), Some(LinkState::Up(_)))
}

/// Whether its host, as far as that is known, lets its user in.
fn is_open(broker: &Broker, session: &Session) -> bool {
    is_root(&session.user)
        || state(broker, session).is_none_or(|state| state.maintenance().is_none())
}

fn is_connected(broker: &Broker, session: &Session) -> bool {
    match state(broker, session) {
        Some(LinkState::Up(up)) => {
            up.seen.get(&session.id).is_some_and(|seen| seen.viewer.is_some())
        }
        Some(LinkState::Connecting | LinkState::Down { .. }) | None => false,
    }
}

/// Where there is something to choose: waits, right after a start of the broker, until it is known which agents answer.
async fn settle(broker: &Broker, sessions: &[Arc<Session>]) {
    if sessions.len() > 1 {
        let agents: HashSet<_> = sessions.iter().map(|session| &session.agent).collect();
        for link in agents.into_iter().filter_map(|agent| broker.agents.link(agent)) {
            link.settled().await;
        }
    }
}

/// Asks the session's agent, and tells it of the client; none = it is dead.
async fn verify(
    broker: &Arc<Broker>,
    session: &Arc<Session>,
    who: &Identity,
    client: &StartParams,
) -> Result<Option<Handed>, (String, Since)> {
    let away = |(why, since): (_, Option<_>)| (why, since.unwrap_or(broker.started));
    let (link, up) = broker.agents.reach(&session.agent).await.map_err(away)?;
    match link.verify(session.id, Some((client, broker.table.fence()))).await {
        Ok(Verdict::Alive) => {
            limiting::came(broker, &link, &up, session, who);
            let host = up.host.public_name.to_string();
            Ok(Some(Handed::new(Arc::clone(session), host, false)))
        }
        Ok(Verdict::Gone(ended)) => {
            gone::gone(broker, session.id, ended).await;
            Ok(None)
        }
        Err(error) => Err((error.why, Since::now())),
    }
}

impl Want {
    /// Whether only something new will do.
    pub(crate) fn is_for_new(&self) -> bool {
        matches!(self.wish, Wish::Any(Choice::New))
    }
}
