//! The login flow: the session that the user has, verified with its agent; else a new one on the best agent.
//!
//! Looking up a running session takes no lock and writes nothing. Whatever may make a session runs in a task of its
//! own, one at a time for each user, so that it neither dies with its caller nor races with another login.

use std::sync::Arc;

use tracing::Instrument as _;
use uuid::Uuid;
use vsm_core::{
    AgentName, Change, Choice, Draft, Rejected, RequestId, Session, SessionId, SshKey, StartParams,
    State,
};
use vsm_daemon::clock;
use vsm_sync::ProposeError;

use crate::{
    broker::Broker,
    error::Refusal,
    hosts::{agents::LinkState, fleet::is_root},
    sessions::{
        find::{Found, Silent, find},
        hooks::{self, Moment},
        one_login,
        placing::{self, Said, long_unreachable, reservation},
        start::{Attempt, attempt},
        unvoted,
    },
    users::{Identity, LookupError, Source},
};

/// Logins and ends under way that may make or end a session; beyond it users are told to come back.
const UNDER_WAY_MAX: usize = 4096;
/// Sessions that a user is given to choose from: more than a person looks through, and a message of bounded size.
const CHOICES_MAX: usize = 100;

/// What a user wants.
#[derive(Debug, Clone)]
pub struct Want {
    /// The client's id of this wish.
    pub request: RequestId,
    /// What a new session is to be like, and what the client tells of itself.
    pub params: StartParams,
    /// Which session.
    pub wish: Wish,
    /// A key made for this login, by which the client is to be let in at the agent.
    pub key: Option<SshKey>,
}

/// Which session a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// This one, and no other.
    This(SessionId),
    /// One with the start command of the request.
    Any(Choice),
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
    /// The keys of the agent's sshd, where the agent takes the client's own key; none = it takes none.
    pub host_keys: Option<Vec<SshKey>>,
}

impl Handed {
    /// A desktop whose agent has not been told of a client's key.
    pub(crate) const fn new(session: Arc<Session>, host: String, created: bool) -> Self {
        Self { session, host, created, host_keys: None }
    }
}

/// What a login is answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A desktop.
    Desktop(Handed),
    /// The user is to choose.
    Choose {
        /// From these, the newest of those there are, oldest first.
        sessions: Vec<Arc<Session>>,
        /// Whether the limit allows a new one.
        may_create: bool,
    },
}

/// Gives the user their desktop, or asks which one.
///
/// # Errors
/// See [`Refusal`]; nothing is left half done, and the next login works.
pub async fn login(
    broker: &Arc<Broker>,
    who: Arc<Identity>,
    want: Want,
) -> Result<Answer, Refusal> {
    if !broker.settings().allows(&who) {
        return Err(Refusal::NotAllowed(who.user.clone()));
    }
    let timeout = broker.settings().login_timeout;
    let find_or_make = async {
        if let Some(answer) = has(broker, &who, &want).await? {
            return Ok(answer);
        }
        for_new(&who)?;
        if broker.tasks.len() >= UNDER_WAY_MAX {
            return Err(Refusal::Busy);
        }
        let worker = Arc::clone(broker);
        let work = async move {
            let answer = make(&worker, &who, &want).await?;
            after(&worker, answer, &want).await
        }
        .in_current_span();
        let task = broker.tasks.spawn(work);
        task.await.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
    };
    let done = tokio::time::timeout(timeout, find_or_make).await;
    done.unwrap_or(Err(Refusal::TooLong(timeout.as_secs())))
}

/// Whether what is known of the user is enough for a new session.
pub(crate) fn for_new(who: &Identity) -> Result<(), Refusal> {
    if who.source == Source::Nss {
        return Ok(());
    }
    let why = "a new desktop needs its word on you and your groups".to_owned();
    Err(Refusal::UsersDown(LookupError::Down(why)))
}

/// What a node that is not active can still do while nobody is: hand out a session that runs, as its agent says. None =
/// there is none to be had.
pub(crate) async fn existing(
    broker: &Arc<Broker>,
    who: &Identity,
    want: &Want,
) -> Result<Option<Answer>, Refusal> {
    if !broker.settings().allows(who) {
        return Ok(None);
    }
    has(broker, who, want).await
}

/// What the user has that answers the login, with the hooks run; none = nothing.
async fn has(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Result<Option<Answer>, Refusal> {
    let answer = match find(broker, who, want).await? {
        Found::Alive(handed) => Answer::Desktop(handed),
        Found::Several(sessions) => choose(broker, who, sessions),
        Found::Nothing | Found::Unreachable(_) => return Ok(None),
    };
    after(broker, answer, want).await.map(Some)
}

/// Runs the hooks for a desktop that is to be handed out; then the agent lets the client in, for a time that is short.
async fn after(broker: &Arc<Broker>, mut answer: Answer, want: &Want) -> Result<Answer, Refusal> {
    if let Answer::Desktop(handed) = &mut answer {
        open(broker, &handed.session)?;
        let made = handed.session.request == want.request;
        let moment = if made { Moment::Start } else { Moment::Reconnect };
        hooks::run(broker, moment, handed, &want.params).await?;
        handed.host_keys = one_login::announce(broker, handed, want).await;
    }
    Ok(answer)
}

/// That the sshd of a session's host lets its user in.
fn open(broker: &Broker, session: &Session) -> Result<(), Refusal> {
    let state = broker.agents.link(&session.agent).map(|link| link.state());
    match state.as_ref().and_then(LinkState::maintenance) {
        Some(text) if !is_root(&session.user) => {
            Err(Refusal::Maintenance { agent: session.agent.clone(), text: Said(text).to_string() })
        }
        _ => Ok(()),
    }
}

fn choose(broker: &Broker, who: &Identity, mut sessions: Vec<Arc<Session>>) -> Answer {
    let cap = broker.settings().max_sessions_per_user;
    let uncounted = long_unreachable(broker, &who.user);
    let may_create = broker.table.read(|view| view.table.has_room(&who.user, cap, &uncounted));
    let excess = sessions.len().saturating_sub(CHOICES_MAX);
    sessions.drain(..excess);
    Answer::Choose { sessions, may_create }
}

/// The part that may make a session: one at a time for each user.
async fn make(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Result<Answer, Refusal> {
    let lock = broker.logins.of(who.user.clone());
    let _turn = lock.lock().await;
    // What runs on the agents may not be in the table yet.
    broker.agents.settle().await;
    let silent = match find(broker, who, want).await? {
        Found::Alive(handed) => return Ok(Answer::Desktop(handed)),
        Found::Several(sessions) => return Ok(choose(broker, who, sessions)),
        Found::Unreachable(silent) => Some(silent),
        Found::Nothing => None,
    };
    if let Wish::This(id) = want.wish {
        return Err(match silent {
            Some(silent) => unreachable(broker, silent),
            None => Refusal::NoSession(id.to_string()),
        });
    }
    if let Some(handed) = resume(broker, who, want).await? {
        return Ok(Answer::Desktop(handed));
    }
    match (create(broker, who, want).await, silent) {
        // What stands in the way is more use to the user than the rule.
        (Err(Refusal::AtLimit { .. } | Refusal::Repeated(_)), Some(silent)) => {
            Err(unreachable(broker, silent))
        }
        (done, _) => done.map(Answer::Desktop),
    }
}

fn unreachable(broker: &Broker, Silent { agent, why, since }: Silent) -> Refusal {
    let later = match broker
        .settings()
        .unreachable_grace
        .as_secs()
        .saturating_sub(since.elapsed().as_secs())
    {
        0 => ", or give it up with `vsm abandon`".to_owned(),
        left => format!(", give it up with `vsm abandon`, or get a new desktop in {left} s"),
    };
    Refusal::Unreachable { agent, why, later }
}

/// A start that was left unfinished, by a crash of this broker or by an answer that was lost: asking again gives the
/// agent's first result. One of another request is taken up only where it is what is wanted now.
async fn resume(
    broker: &Arc<Broker>,
    who: &Identity,
    want: &Want,
) -> Result<Option<Handed>, Refusal> {
    let fits = |session: &&Arc<Session>| {
        let same = session.params.start_command == want.params.start_command;
        session.state == State::Starting
            && (session.request == want.request || same && !want.is_for_new())
    };
    let unfinished = broker.table.read(|view| view.table.of_user(&who.user).find(fits).cloned());
    let Some(session) = unfinished else { return Ok(None) };
    let bounds = broker.settings().bounds_of(who)?;
    let mark = broker.mark_starting(session.id);
    match attempt(broker, session, &bounds, true, mark).await? {
        Attempt::Running(handed) => Ok(Some(handed)),
        Attempt::Failed(why) | Attempt::NoProfile(why) => {
            tracing::info!(user = %who.user, why, "an unfinished start has failed; starting anew");
            Ok(None)
        }
    }
}

/// A new session on the best agent, else on the next best.
async fn create(broker: &Arc<Broker>, who: &Identity, want: &Want) -> Result<Handed, Refusal> {
    let settings = broker.settings();
    if !want.params.start_command.is_empty() && !settings.allow_start_command {
        return Err(Refusal::NoStartCommand);
    }
    let (subcluster, _) = settings.subclusters.of(who)?;
    let bounds = settings.bounds_of(who)?;
    let mut tried: Vec<AgentName> = Vec::new();
    let mut failures: Vec<Refusal> = Vec::new();
    while failures.len() < usize::try_from(settings.start_attempts).unwrap_or(usize::MAX) {
        let eligible =
            placing::but(broker.agents.fleet.eligible_for(&subcluster.name, &who.user), &tried);
        let draft = Draft {
            id: SessionId::new(Uuid::now_v7()),
            user: who.user.clone(),
            request: want.request,
            params: want.params.clone(),
        };
        // Before it is reserved: what is done for its agent meanwhile would take it for one that was left behind.
        let mark = broker.mark_starting(draft.id);
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
        match attempt(broker, session, &bounds, false, mark).await? {
            Attempt::Running(handed) => return Ok(handed),
            Attempt::Failed(why) => failures.push(Refusal::StartFailed(why)),
            Attempt::NoProfile(why) => failures.push(Refusal::NoProfile(why)),
        }
    }
    let none = || Refusal::NoAgent(placing::why_none(broker, &subcluster.name));
    Err(failures.pop().unwrap_or_else(none))
}
