//! The login flow: the session that the user has, verified with its agent; else a new one on the best agent.
//!
//! Looking up a running session takes no lock and writes nothing. Whatever may make a session runs in a task of its
//! own, one at a time for each user, so that it neither dies with its caller nor races with another login.

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::{
    AgentName, Change, Draft, Rejected, RequestId, Session, SessionId, StartParams, State,
    UnixMillis,
};
use vsm_daemon::clock;
use vsm_sync::ProposeError;

use crate::{
    agents::Verdict,
    broker::Broker,
    error::Refusal,
    placing::{self, reservation},
    reconcile,
    start::{Attempt, attempt},
    unvoted,
    users::Identity,
};

/// Logins and ends under way that may make or end a session; beyond it users are told to come back.
const UNDER_WAY_MAX: usize = 4096;

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
    let timeout = broker.settings().login_timeout;
    let find_or_make = async {
        if let Found::Alive(handed) = find(broker, &who, &want).await? {
            return Ok(handed);
        }
        if broker.tasks.len() >= UNDER_WAY_MAX {
            return Err(Refusal::Busy);
        }
        let worker = Arc::clone(broker);
        let task = broker.tasks.spawn(async move { make(&worker, &who, want).await });
        task.await.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
    };
    let done = tokio::time::timeout(timeout, find_or_make).await;
    done.unwrap_or(Err(Refusal::TooLong(timeout.as_secs())))
}

/// What a node that is not active can still do while nobody is: hand out a session that runs, as its agent says. None =
/// there is none to be had.
pub(crate) async fn existing(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Option<Handed> {
    if !broker.settings().allows(who) {
        return None;
    }
    match find(broker, who, want).await {
        Ok(Found::Alive(handed)) => Some(handed),
        Ok(Found::Nothing | Found::Unreachable { .. }) | Err(_) => None,
    }
}

/// Looks for a running session and asks its agent. A dead one leaves the table here and now (P5).
async fn find(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Result<Found, Refusal> {
    let mut sessions: Vec<_> = broker.table.read(|view| {
        let wanted = |s: &&Arc<Session>| want.only.is_none_or(|id| s.id == id);
        view.table.of_user(&who.user).filter(wanted).cloned().collect()
    });
    let wanted = |s: &Arc<Session>| want.only.is_none_or(|id| s.id == id);
    sessions.extend(broker.unvoted_of(&who.user).into_iter().filter(wanted));
    // P8: a repeated request gets what it has made, whatever else its user has.
    sessions.sort_by_key(|session| session.request != want.request);
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
    if want.only.is_none() {
        if let Some(handed) = resume(broker, who).await? {
            return Ok(handed);
        }
        match create(broker, who, &want).await {
            // Below: what stands in the way is more use to the user than the rule.
            Err(Refusal::AtLimit { .. } | Refusal::Repeated(_))
                if matches!(found, Found::Unreachable { .. }) => {}
            done => return done,
        }
    }
    match (found, want.only) {
        (Found::Unreachable { agent, why, since }, _) => {
            Err(unreachable(broker, agent, why, since))
        }
        (Found::Alive(_) | Found::Nothing, id) => {
            Err(Refusal::NoSession(id.map(|id| id.to_string()).unwrap_or_default()))
        }
    }
}

fn unreachable(broker: &Broker, agent: AgentName, why: String, since: UnixMillis) -> Refusal {
    let silent = clock::unix_millis().0.saturating_sub(since.0) / 1000;
    let later = match broker.settings().unreachable_grace.as_secs().saturating_sub(silent) {
        0 => ", or give it up with `vsm abandon`".to_owned(),
        left => format!(", give it up with `vsm abandon`, or get a new desktop in {left} s"),
    };
    Refusal::Unreachable { agent, why, later }
}

/// A start that was left unfinished, by a crash of this broker or by an answer that was lost: asking again gives the
/// agent's first result.
async fn resume(broker: &Arc<Broker>, who: &Identity) -> Result<Option<Handed>, Refusal> {
    let unfinished = broker.table.read(|view| {
        view.table.of_user(&who.user).find(|session| session.state == State::Starting).cloned()
    });
    let Some(session) = unfinished else { return Ok(None) };
    match attempt(broker, session, true).await? {
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
    let (subcluster, _) = settings.subclusters.of(who)?;
    broker.agents.settle().await;
    let mut tried: Vec<AgentName> = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    while failures.len() < usize::try_from(settings.start_attempts).unwrap_or(usize::MAX) {
        let eligible = broker.agents.fleet.eligible(&subcluster.name, &tried);
        let draft = Draft {
            id: SessionId::new(Uuid::now_v7()),
            user: who.user.clone(),
            request: want.request,
            params: want.params.clone(),
        };
        let rule = settings.rule(clock::unix_millis(), rand::random());
        let proposal = reservation(broker, &settings, draft, Arc::clone(&eligible), rule);
        let session = match broker.table.propose(proposal).await {
            Ok(Change::Reserved(session)) => session,
            Ok(other) => return Err(Refusal::Internal(format!("a reservation became {other:?}"))),
            Err(ProposeError::Rejected(Rejected::NoAgent)) => break,
            Err(ProposeError::NoVotes) if settings.solo_create => {
                return unvoted::create(broker, who, want, &eligible).await;
            }
            Err(error) => return Err(error.into()),
        };
        tried.push(session.agent.clone());
        match attempt(broker, session, false).await? {
            Attempt::Running(handed) => return Ok(handed),
            Attempt::Failed(why) => failures.push(why),
        }
    }
    Err(match failures.last() {
        Some(last) => Refusal::StartFailed(last.clone()),
        None => Refusal::NoAgent(placing::why_none(broker, &subcluster.name)),
    })
}
