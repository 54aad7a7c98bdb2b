//! The login flow: the session that the user has, verified with its agent; else a new one on the best agent.
//!
//! Looking up a running session takes no lock and writes nothing. Whatever may make a session runs in a task of its
//! own, one at a time for each user, so that it neither dies with its caller nor races with another login.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use vsm_core::{
    AgentName, Change, Draft, Proposal, Rejected, RequestId, Session, SessionId, StartParams,
    State, UnixMillis,
};
use vsm_daemon::clock;
use vsm_proto::agent::v1::StartRefusal;
use vsm_sync::ProposeError;

use crate::{
    agents::{CallError, Link, LinkState, Started, Verdict},
    broker::Broker,
    error::Refusal,
    reconcile,
    users::Identity,
};

/// Between two attempts to learn the outcome of a start.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// What a user wants.
#[derive(Debug, Clone)]
pub struct Want {
    /// The client's id of this wish.
    pub request: RequestId,
    /// What a new session is to be like.
    pub params: StartParams,
    /// Only this session.
    pub only: Option<SessionId>,
}

/// Where the desktop is.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The session, running.
    pub session: Arc<Session>,
    /// Where the user reaches its agent.
    pub host: String,
    /// Whether it was made for this request.
    pub created: bool,
}

/// What a look at the user's sessions found.
enum Found {
    Alive(Handed),
    Nothing,
    Unreachable { agent: AgentName, why: String, since: UnixMillis },
}

/// What became of one attempt to start a session.
enum Attempt {
    Running(Handed),
    Failed(String),
}

/// Gives the user their desktop.
///
/// # Errors
/// See [`Refusal`]; nothing is left half done, and the next login works.
pub async fn login(
    broker: &Arc<Broker>,
    who: Arc<Identity>,
    want: Want,
) -> Result<Handed, Refusal> {
    if !broker.settings().allows(&who) {
        return Err(Refusal::NotAllowed(who.user.clone()));
    }
    if let Found::Alive(handed) = find(broker, &who, &want).await? {
        return Ok(handed);
    }
    let timeout = broker.settings().login_timeout;
    let task = {
        let broker = Arc::clone(broker);
        broker.clone().tasks.spawn(async move { make(&broker, &who, want).await })
    };
    match tokio::time::timeout(timeout, task).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(Refusal::Internal(error.to_string())),
        Err(_) => Err(Refusal::TooLong(timeout.as_secs())),
    }
}

/// Looks for a running session and asks its agent. A dead one leaves the table here and now (P5).
async fn find(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Result<Found, Refusal> {
    let sessions: Vec<_> = broker.table.read(|view| {
        let wanted = |s: &&Arc<Session>| want.only.is_none_or(|id| s.id == id);
        view.table.of_user(&who.user).filter(wanted).cloned().collect()
    });
    if let (Some(id), true) = (want.only, sessions.is_empty()) {
        return Err(Refusal::NoSession(id.to_string()));
    }
    let mut unreachable = Found::Nothing;
    for session in sessions {
        if !matches!(session.state, State::Running { .. }) {
            continue;
        }
        match verify(broker, &session).await {
            Ok(Some(handed)) => return Ok(Found::Alive(handed)),
            Ok(None) => {}
            Err((why, since)) => {
                unreachable = Found::Unreachable { agent: session.agent.clone(), why, since }
            }
        }
    }
    Ok(unreachable)
}

/// Asks the session's agent; none = it is dead.
async fn verify(
    broker: &Broker,
    session: &Arc<Session>,
) -> Result<Option<Handed>, (String, UnixMillis)> {
    let away = || ("it is in no subcluster".to_owned(), broker.started);
    let link = broker.agents.link(&session.agent).ok_or_else(away)?;
    let up = link.up().await?;
    match link.verify(session.id).await {
        Ok(Verdict::Alive) => {
            let host = up.public_name.clone();
            Ok(Some(Handed { session: Arc::clone(session), host, created: false }))
        }
        Ok(Verdict::Gone(ended)) => {
            reconcile::gone(broker, session.id, ended).await;
            Ok(None)
        }
        Err(error) => Err((error.why, clock::unix_millis())),
    }
}

/// The part that may make a session: one at a time for each user.
async fn make(broker: &Arc<Broker>, who: &Identity, want: Want) -> Result<Handed, Refusal> {
    let lock = broker.login_lock(&who.user);
    let _turn = lock.lock().await;
    let found = find(broker, who, &want).await?;
    if let Found::Alive(handed) = found {
        return Ok(handed);
    }
    if let Some(handed) = resume(broker, who).await? {
        return Ok(handed);
    }
    if let Some(id) = want.only {
        return Err(Refusal::NoSession(id.to_string()));
    }
    match create(broker, who, &want).await {
        Err(Refusal::AtLimit { user, cap }) => Err(match found {
            Found::Unreachable { agent, why, since } => {
                too_many_unreachable(broker, agent, why, since)
            }
            Found::Alive(_) | Found::Nothing => Refusal::AtLimit { user, cap },
        }),
        done => done,
    }
}

fn too_many_unreachable(
    broker: &Broker,
    agent: AgentName,
    why: String,
    since: UnixMillis,
) -> Refusal {
    let silent = clock::unix_millis().0.saturating_sub(since.0) / 1000;
    let left = broker.settings().unreachable_grace.as_secs().saturating_sub(silent);
    Refusal::Unreachable { agent, why, later: format!(", or get a new desktop in {left} s") }
}

/// A start that was left unfinished, by a crash of this broker or by an answer that was lost: asking again gives the
/// agent's first result.
async fn resume(broker: &Arc<Broker>, who: &Identity) -> Result<Option<Handed>, Refusal> {
    let unfinished = broker.table.read(|view| {
        view.table.of_user(&who.user).find(|session| session.state == State::Starting).cloned()
    });
    let Some(session) = unfinished else { return Ok(None) };
    match attempt(broker, session).await? {
        Attempt::Running(handed) => Ok(Some(handed)),
        Attempt::Failed(why) => {
            tracing::info!(user = %who.user, why, "an unfinished start has failed; starting anew");
            Ok(None)
        }
    }
}

/// A new session on the best agent, else on the next best.
async fn create(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Result<Handed, Refusal> {
    let settings = broker.settings();
    let subcluster =
        settings.subcluster(who).ok_or_else(|| Refusal::NoSubcluster(who.user.clone()))?;
    broker.agents.settle().await;
    let mut tried: Vec<AgentName> = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    while failures.len() < usize::try_from(settings.start_attempts).unwrap_or(usize::MAX) {
        let usable = |agent: &AgentName| {
            !tried.contains(agent) && broker.agents.link(agent).is_some_and(|link| link.is_up())
        };
        let eligible = settings.eligible(subcluster, usable);
        let now = clock::unix_millis();
        let proposal = Proposal::Reserve {
            draft: Draft {
                id: SessionId::new(Uuid::now_v7()),
                user: who.user.clone(),
                request: want.request,
                params: want.params.clone(),
            },
            cap: settings.max_sessions_per_user,
            uncounted: long_unreachable(broker, who),
            eligible: eligible.into(),
            tie: rand::random(),
            now,
            penalty_ms: u64::try_from(settings.agent_failure_penalty.as_millis())
                .unwrap_or(u64::MAX),
        };
        let session = match broker.table.propose(proposal).await {
            Ok(Change::Reserved(session)) => session,
            Ok(other) => return Err(Refusal::Internal(format!("a reservation became {other:?}"))),
            Err(ProposeError::Rejected(Rejected::NoAgent)) => break,
            Err(error) => return Err(error.into()),
        };
        tried.push(session.agent.clone());
        match attempt(broker, session).await? {
            Attempt::Running(handed) => return Ok(handed),
            Attempt::Failed(why) => failures.push(why),
        }
    }
    Err(match failures.last() {
        Some(last) => Refusal::StartFailed(last.clone()),
        None => Refusal::NoAgent(why_none(broker, &subcluster.agents)),
    })
}

/// Sessions on agents that have been silent for longer than the grace (decisions.md 24).
fn long_unreachable(broker: &Broker, who: &Identity) -> Vec<SessionId> {
    let grace = broker.settings().unreachable_grace.as_millis();
    let now = clock::unix_millis();
    let long_down = |agent: &AgentName| match broker.agents.link(agent).map(|link| link.state()) {
        Some(LinkState::Down { since, .. }) => u128::from(now.0.saturating_sub(since.0)) >= grace,
        Some(LinkState::Up(_) | LinkState::Connecting) | None => false,
    };
    broker.table.read(|view| {
        view.table
            .of_user(&who.user)
            .filter(|session| long_down(&session.agent))
            .map(|session| session.id)
            .collect()
    })
}

/// What is the matter with each agent of a subcluster.
fn why_none(broker: &Broker, agents: &[String]) -> String {
    let settings = broker.settings();
    let state = |name: &String| {
        let agent = name.parse::<AgentName>().ok()?;
        let why = match broker.agents.link(&agent)?.state() {
            LinkState::Down { why, .. } => format!("down, {why}"),
            LinkState::Connecting => "not reached yet".to_owned(),
            LinkState::Up(_) if settings.agents().get(&agent)?.draining => "draining".to_owned(),
            LinkState::Up(_) => "full".to_owned(),
        };
        Some(format!("{name} is {why}"))
    };
    let states: Vec<_> = agents.iter().filter_map(state).collect();
    if states.is_empty() { "there are none".to_owned() } else { states.join("; ") }
}

/// Has the agent of a reserved session start it, and commits what came of it. An outcome that is unknown is asked
/// for again until the grace is over; only then is the start given up, durably, so that it can never become a second
/// desktop (decisions.md 42).
async fn attempt(broker: &Arc<Broker>, session: Arc<Session>) -> Result<Attempt, Refusal> {
    let _mark = broker.mark_starting(session.id);
    let began = clock::now();
    let grace = broker.settings().start_unknown_grace;
    let unknown =
        |why: &str| format!("{} did not say what became of the start: {why}", session.agent);
    let Some(link) = broker.agents.link(&session.agent) else {
        give_up(broker, &session).await?;
        return Ok(Attempt::Failed(unknown("it is in no subcluster")));
    };
    loop {
        match start(broker, &link, &session).await {
            Ok(Started::Running(display)) => {
                return running(broker, &link, &session, display).await;
            }
            Ok(Started::Refused(reason, detail)) => {
                return refused(broker, &session, reason, detail).await;
            }
            Err(error) if error.timed_out || clock::now().duration_since(began) >= grace => {
                tracing::warn!(session = %session.id, agent = %session.agent, %error, "giving up a start without an answer");
                give_up(broker, &session).await?;
                reconcile::bury(broker, &link, session.id).await;
                mark_failed(broker, &session.agent).await;
                return Ok(Attempt::Failed(unknown(&error.why)));
            }
            Err(_) => {
                let left = grace.saturating_sub(clock::now().duration_since(began));
                tokio::time::sleep(RETRY_EVERY.min(left)).await;
                drop(link.up_within(left).await);
            }
        }
    }
}

async fn start(broker: &Broker, link: &Link, session: &Session) -> Result<Started, CallError> {
    let deadline = broker.settings().start_timeout;
    broker.fenced(|fence| link.start(fence, session, deadline)).await
}

/// Commits `running` before the user hears of it.
async fn running(
    broker: &Arc<Broker>,
    link: &Link,
    session: &Arc<Session>,
    number: u32,
) -> Result<Attempt, Refusal> {
    let id = session.id;
    match broker.table.propose(Proposal::Running { id, display: number }).await {
        Ok(_) | Err(ProposeError::Rejected(Rejected::AlreadyRunning(_))) => {}
        Err(ProposeError::Rejected(Rejected::UnknownSession(_))) => {
            let ended = broker.ended_of(&session.user).into_iter().find(|ended| ended.id == id);
            return Err(Refusal::EndedAtOnce(
                ended.map_or_else(|| "no reason is known".into(), |e| e.detail),
            ));
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(session = %id, user = %session.user, agent = %session.agent, display = number, request = %session.request, "session started");
    let host =
        link.up().await.map_or_else(|_| session.agent.to_string(), |up| up.public_name.clone());
    let session =
        Arc::new(Session { state: State::Running { display: number }, ..Session::clone(session) });
    Ok(Attempt::Running(Handed { session, host, created: true }))
}

/// The agent refused and will hold to it: the reservation goes, and the agent is marked where the fault is its own.
async fn refused(
    broker: &Broker,
    session: &Session,
    reason: StartRefusal,
    detail: String,
) -> Result<Attempt, Refusal> {
    tracing::warn!(user = %session.user, agent = %session.agent, session = %session.id, request = %session.request, ?reason, detail, "an agent refused to start a session");
    give_up(broker, session).await?;
    broker.table.propose(Proposal::TombstoneDone { id: session.id }).await?;
    let users_own = matches!(
        reason,
        StartRefusal::UnknownUser
            | StartRefusal::Account
            | StartRefusal::Home
            | StartRefusal::Cancelled
    );
    if !users_own {
        mark_failed(broker, &session.agent).await;
    }
    Ok(Attempt::Failed(format!("{detail} ({})", session.agent)))
}

async fn give_up(broker: &Broker, session: &Session) -> Result<(), Refusal> {
    match broker.table.propose(Proposal::GiveUp { id: session.id, now: clock::unix_millis() }).await
    {
        // It was given up or ended by somebody else: what was wanted.
        Ok(_) | Err(ProposeError::Rejected(Rejected::GivenUp(_) | Rejected::UnknownSession(_))) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn mark_failed(broker: &Broker, agent: &AgentName) {
    let proposal = Proposal::AgentFailed { agent: agent.clone(), at: clock::unix_millis() };
    if let Err(error) = broker.table.propose(proposal).await {
        tracing::error!(%agent, %error, "cannot record that this agent failed");
    }
}
