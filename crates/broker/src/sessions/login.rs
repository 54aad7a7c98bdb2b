//! The login flow: the session that the user has, verified with its agent; else a new one on the best agent.
//!
//! Looking up a running session takes no lock and writes nothing. Whatever may make a session runs in a task of its
//! own, one at a time for each user, so that it neither dies with its caller nor races with another login.

use std::sync::Arc;

use tracing::Instrument as _;
use uuid::Uuid;
use vsm_core::{
    Ended, Session, SessionId, Table,
    lifecycle::{
        Login, Outcome as Started,
        login::{Effect, Event, Outcome, Places, Terms, Wanted},
    },
};
use vsm_daemon::clock;

use crate::{
    error::Refusal,
    hosts::{agents::LinkState, fleet::is_root},
    sessions::{
        Sessions, StartMark,
        drive::{self, Step},
        find::{self, Silent, Verified},
        gone::{self, proposed},
        hooks::{self, Moment},
        one_login,
        placing::{self, Said, long_unreachable},
        start::{Attempt, attempt},
        unvoted,
        want::{Answer, Handed, Want},
    },
    site::settings::Bounds,
    users::{Identity, LookupError, Source},
};

/// Logins and ends under way that may make or end a session; beyond it users are told to come back.
const UNDER_WAY_MAX: usize = 4096;
/// The same of one user, of whom one makes a session at a time.
const OF_USER_MAX: usize = 16;
/// Sessions that a user is given to choose from: more than a person looks through, and a message of bounded size.
const CHOICES_MAX: usize = 100;

/// Gives the user their desktop, or asks which one.
///
/// # Errors
/// See [`Refusal`]; nothing is left half done, and the next login works.
pub async fn login(
    sessions: &Arc<Sessions>,
    who: Arc<Identity>,
    want: Want,
) -> Result<Answer, Refusal> {
    if !sessions.settings().allows(&who) {
        return Err(Refusal::NotAllowed(who.user.clone()));
    }
    let timeout = sessions.settings().login_timeout;
    let find_or_make = async {
        if let Some(answer) = has(sessions, &who, &want).await? {
            return Ok(answer);
        }
        for_new(&who)?;
        if sessions.process.tasks.len() >= UNDER_WAY_MAX {
            return Err(Refusal::Busy);
        }
        let turn = sessions.logins.enter(who.user.clone(), OF_USER_MAX);
        let turn = turn.ok_or(Refusal::BusyWith(OF_USER_MAX))?;
        let worker = Arc::clone(sessions);
        let work = async move {
            let answer = make(&worker, &turn, &who, &want).await?;
            after(&worker, answer, &want).await
        }
        .in_current_span();
        let task = sessions.process.tasks.spawn(work);
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
    sessions: &Arc<Sessions>,
    who: &Identity,
    want: &Want,
) -> Result<Option<Answer>, Refusal> {
    if !sessions.settings().allows(who) {
        return Ok(None);
    }
    has(sessions, who, want).await
}

/// What the user has that answers the login, with the hooks run; none = nothing.
async fn has(
    sessions: &Arc<Sessions>,
    who: &Identity,
    want: &Want,
) -> Result<Option<Answer>, Refusal> {
    let machine = Login::find(wanted(who, want), terms(sessions));
    match drive(sessions, who, want, machine).await? {
        Done::Answer(answer) => after(sessions, answer, want).await.map(Some),
        Done::Nothing | Done::Unreachable(_) => Ok(None),
    }
}

/// Runs the hooks for a desktop that is to be handed out; then the agent lets the client in, for a time that is short.
async fn after(
    sessions: &Arc<Sessions>,
    mut answer: Answer,
    want: &Want,
) -> Result<Answer, Refusal> {
    if let Answer::Desktop(handed) = &mut answer {
        open(sessions, &handed.session)?;
        let made = handed.session.request == want.request;
        let moment = if made { Moment::Start } else { Moment::Reconnect };
        hooks::run(sessions, moment, handed, &want.params).await?;
        handed.host_keys = one_login::announce(sessions, handed, want).await;
    }
    Ok(answer)
}

/// That the sshd of a session's host lets its user in.
fn open(sessions: &Sessions, session: &Session) -> Result<(), Refusal> {
    let state = sessions.agents.link(&session.agent).map(|link| link.state());
    match state.as_ref().and_then(LinkState::maintenance) {
        Some(text) if !is_root(&session.user) => {
            Err(Refusal::Maintenance { agent: session.agent.clone(), text: Said(text).to_string() })
        }
        _ => Ok(()),
    }
}

fn choose(sessions: &Sessions, who: &Identity, mut own: Vec<Arc<Session>>) -> Answer {
    let cap = sessions.settings().max_sessions_per_user;
    let mut uncounted = long_unreachable(sessions, &who.user);
    uncounted.extend(sessions.over(&who.user));
    let unvoted = sessions.unvoted_of(&who.user).len();
    let has_room = |table: &Table| table.has_room_beside(unvoted, &who.user, cap, &uncounted);
    let may_create = sessions.table.read(|view| has_room(&view.table));
    let excess = own.len().saturating_sub(CHOICES_MAX);
    own.drain(..excess);
    Answer::Choose { sessions: own, may_create }
}

/// The part that may make a session: one at a time for each user.
async fn make(
    sessions: &Arc<Sessions>,
    turn: &tokio::sync::Mutex<()>,
    who: &Identity,
    want: &Want,
) -> Result<Answer, Refusal> {
    let _turn = turn.lock().await;
    let machine = Login::find_or_make(wanted(who, want), terms(sessions));
    match drive(sessions, who, want, machine).await? {
        Done::Answer(answer) => Ok(answer),
        Done::Unreachable(silent) => Err(unreachable(sessions, silent)),
        Done::Nothing => Err(Refusal::Internal("a login came to nothing".into())),
    }
}

fn wanted(who: &Identity, want: &Want) -> Wanted {
    let Want { request, params, wish, .. } = want.clone();
    Wanted { user: who.user.clone(), request, params, wish }
}

fn terms(sessions: &Sessions) -> Terms {
    let settings = sessions.settings();
    Terms {
        cap: settings.max_sessions_per_user,
        attempts: settings.start_attempts,
        solo_create: settings.solo_create,
    }
}

fn unreachable(sessions: &Sessions, Silent { agent, why, since }: Silent) -> Refusal {
    let later = match sessions
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

/// What a login came to, with the words.
enum Done {
    Answer(Answer),
    /// There is nothing that it could hand out.
    Nothing,
    /// What it means is on an agent that is silent.
    Unreachable(Silent),
}

/// What agents and the table said last: the machine decides by kinds, people are told the words.
struct Driver<'a> {
    sessions: &'a Arc<Sessions>,
    who: &'a Identity,
    want: &'a Want,
    handed: Option<Handed>,
    ended: Option<Ended>,
    silent: Option<Silent>,
    /// Why the table would not have the last reservation.
    refusal: Option<Refusal>,
    /// Why the last start failed.
    failed: Option<Refusal>,
    /// What the session that is being reserved may use, and what says meanwhile that it is being started.
    placed: Option<(Bounds, StartMark)>,
}

/// Carries out what the machine says, by real calls and commits.
async fn drive(
    sessions: &Arc<Sessions>,
    who: &Identity,
    want: &Want,
    mut machine: Login,
) -> Result<Done, Refusal> {
    let mut driver = Driver {
        sessions,
        who,
        want,
        handed: None,
        ended: None,
        silent: None,
        refusal: None,
        failed: None,
        placed: None,
    };
    let first = machine.begin();
    let outcome = drive::drive(&mut driver, first, |event| machine.handle(event)).await?;
    driver.over(outcome).await
}

impl drive::Driver for Driver<'_> {
    type Effect = Effect;
    type Event = Event;
    type Outcome = Outcome;

    async fn carry_out(&mut self, effect: Effect) -> Result<Step<Event, Outcome>, Refusal> {
        let (sessions, who) = (self.sessions, self.who);
        Ok(Step::Happened(match effect {
            Effect::Settle(agents) => {
                find::settle(sessions, &agents).await;
                Event::Settled
            }
            Effect::Look => Event::Has(find::own(sessions, who).await),
            Effect::Verify(session) => {
                match find::verify(sessions, &session, who, &self.want.params).await {
                    Verified::Alive(handed) => {
                        self.handed = Some(handed);
                        Event::Alive
                    }
                    Verified::Gone(ended) => {
                        self.ended = ended;
                        Event::Gone
                    }
                    Verified::Silent(silent) => {
                        self.silent = Some(silent);
                        Event::Silent
                    }
                }
            }
            Effect::Drop(id) => {
                gone::gone(sessions, id, self.ended.take()).await;
                return Ok(Step::Done);
            }
            Effect::Place => Event::Places(self.places().await?),
            Effect::Propose(proposal) => {
                let result = sessions.table.propose(*proposal).await;
                let event = Event::Proposed(proposed(sessions, None, &result));
                if let Err(error) = result {
                    self.refusal = Some(error.into());
                }
                event
            }
            Effect::Start { session, may_be_there } => {
                Event::Started(self.start(session, may_be_there).await?)
            }
            Effect::Over(outcome) => return Ok(Step::Over(outcome)),
        }))
    }
}

impl Driver<'_> {
    /// On what a new session may be placed, if this user may have one.
    async fn places(&mut self) -> Result<Places, Refusal> {
        let (sessions, who) = (self.sessions, self.who);
        let settings = sessions.settings();
        if !self.want.params.start_command.is_empty() && !settings.allow_start_command {
            return Err(Refusal::NoStartCommand);
        }
        let (subcluster, _) = settings.subclusters.of(who)?;
        let bounds = settings.bounds_of(who)?;
        let id = SessionId::new(Uuid::now_v7());
        // Before it is reserved: what is done for its agent meanwhile would take it for one that was left behind.
        self.placed = Some((bounds, sessions.mark_starting(id)));
        let eligible = placing::eligible(sessions, &subcluster.name, &who.user).await;
        let uncounted = long_unreachable(sessions, &who.user);
        let rule = settings.rule(clock::unix_millis(), rand::random());
        Ok(Places { id, eligible, uncounted, rule })
    }

    async fn start(
        &mut self,
        session: Arc<Session>,
        may_be_there: bool,
    ) -> Result<Started, Refusal> {
        let sessions = self.sessions;
        let (bounds, mark) = match self.placed.take() {
            Some(placed) => placed,
            None => (sessions.settings().bounds_of(self.who)?, sessions.mark_starting(session.id)),
        };
        let why = match attempt(sessions, session, &bounds, may_be_there, mark).await? {
            Attempt::Running(handed, display) => {
                self.handed = Some(handed);
                return Ok(Started::Running(display));
            }
            Attempt::Failed(why) => Refusal::StartFailed(why),
            Attempt::NoProfile(why) => Refusal::NoProfile(why),
        };
        if may_be_there {
            let user = &self.who.user;
            tracing::info!(%user, %why, "an unfinished start has failed; starting anew");
        } else {
            self.failed = Some(why);
        }
        Ok(Started::Next)
    }

    async fn over(self, outcome: Outcome) -> Result<Done, Refusal> {
        let (sessions, who) = (self.sessions, self.who);
        let no_words = || Refusal::Internal("a login came to an end without a word".into());
        match outcome {
            Outcome::Found(_) | Outcome::Started(..) => {
                let handed = self.handed.ok_or_else(no_words)?;
                Ok(Done::Answer(Answer::Desktop(handed)))
            }
            Outcome::Choose(own) => Ok(Done::Answer(choose(sessions, who, own))),
            Outcome::Nothing => Ok(Done::Nothing),
            Outcome::NoSuch(id) => Err(Refusal::NoSession(id.to_string())),
            Outcome::Unreachable(_) => self.silent.map(Done::Unreachable).ok_or_else(no_words),
            Outcome::NoHost => {
                let settings = sessions.settings();
                let (subcluster, _) = settings.subclusters.of(who)?;
                let none = || Refusal::NoAgent(placing::why_none(sessions, &subcluster.name));
                Err(self.failed.unwrap_or_else(none))
            }
            Outcome::Unvoted(machine) => {
                match (unvoted::create(sessions, who, self.want, machine).await, self.silent) {
                    (Ok(handed), _) => Ok(Done::Answer(Answer::Desktop(handed))),
                    // What stands in the way is more use to the user than the rule.
                    (Err(Refusal::AtLimit { .. }), Some(silent)) => Ok(Done::Unreachable(silent)),
                    (Err(refusal), _) => Err(refusal),
                }
            }
            Outcome::Refused => Err(self.refusal.unwrap_or_else(no_words)),
        }
    }
}
