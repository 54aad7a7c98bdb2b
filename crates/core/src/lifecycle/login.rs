//! One login: the session that its user has, verified with its agent; else a new one on the best agent.
//!
//! A session that runs is handed out as its agent says, not as the table says. What may make one runs one at a time for
//! each user: whoever drives it sees to that.

use std::sync::Arc;

use crate::{
    AgentName, Candidate, Change, Choice, Chosen, Draft, Eligible, Proposal, Rejected, RequestId,
    Rule, Session, SessionId, StartParams, State, Table, UserName,
    lifecycle::{Outcome as Attempt, Proposed, Unvoted},
    replica::mutant::{self, Mutant},
};

/// Which session a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// This one, and no other.
    This(SessionId),
    /// One with the start command of the request.
    Any(Choice),
}

/// What a login asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose login it is.
    pub user: UserName,
    /// The client's id of this wish.
    pub request: RequestId,
    /// What a new session is to be like.
    pub params: StartParams,
    /// Which session.
    pub wish: Wish,
}

/// What the configuration says of logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Most sessions that a user may have; 0 = no limit.
    pub cap: u32,
    /// Agents that are asked to start a session, one after the other, before the login fails.
    pub attempts: u32,
    /// Whether a session may be made while the pair has no votes.
    pub solo_create: bool,
}

/// What is known of a session's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// It is heard.
    Up {
        /// Whether a viewer is connected to the session.
        connected: bool,
        /// Whether it lets this user in.
        open: bool,
    },
    /// It is not known yet whether it answers.
    Connecting,
    /// It is not heard.
    Silent,
}

/// A session of the user, and what is known of its agent.
#[derive(Debug, Clone)]
pub struct Own {
    /// The session.
    pub session: Arc<Session>,
    /// Its agent.
    pub host: Host,
}

/// What a new session may be placed on.
#[derive(Debug, Clone)]
pub struct Places {
    /// Its id if it comes to be.
    pub id: SessionId,
    /// The agents of its user's subcluster that take one.
    pub eligible: Arc<[Eligible]>,
    /// Sessions of the user that do not count; see [`uncounted`].
    pub uncounted: Vec<SessionId>,
    /// How one of the agents is chosen.
    pub rule: Rule,
}

/// What happens to a login.
#[derive(Debug, Clone)]
pub enum Event {
    /// It is known which agents answer, or has been waited for long enough.
    Settled,
    /// What the user has, the oldest first; what was made without votes last.
    Has(Vec<Own>),
    /// The agent says that the session runs.
    Alive,
    /// The agent says that it does not.
    Gone,
    /// There is no answer.
    Silent,
    /// What a new session may be placed on.
    Places(Places),
    /// What became of the reservation.
    Proposed(Proposed),
    /// What came of the start.
    Started(Attempt),
}

/// What a login wants done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Wait, for a bounded time, until it is known which agents answer: what runs there may not be in the table yet. Of
    /// these, or of all where there are none. Feed [`Event::Settled`].
    Settle(Vec<AgentName>),
    /// Look at what the user has; feed [`Event::Has`].
    Look,
    /// Ask the session's agent whether it still runs, and feed its answer.
    Verify(Arc<Session>),
    /// Its agent says that it is no more: drop it, with what the agent tells of the reason.
    Drop(SessionId),
    /// See what a new session may be placed on; feed [`Event::Places`]. A broker that may not give this user one drops
    /// the login instead.
    Place,
    /// Propose this reservation; feed what became of it. From before that until the start is over, nobody else may take
    /// it for one that was left behind.
    Propose(Box<Proposal>),
    /// Drive a [`super::Start`]; feed what came of it.
    Start {
        /// The session, reserved.
        session: Arc<Session>,
        /// Whether an earlier attempt may have reached its agent.
        may_be_there: bool,
    },
    /// It is over.
    Over(Outcome),
}

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This one runs, as its agent says.
    Found(Arc<Session>),
    /// This one was started, and runs on this display.
    Started(Arc<Session>, u32),
    /// The user is to choose among these, the oldest first.
    Choose(Vec<Arc<Session>>),
    /// There is none, and this login makes none.
    Nothing,
    /// The one that was named is none that the user could have.
    NoSuch(SessionId),
    /// The one that is meant is on this agent, which is silent.
    Unreachable(AgentName),
    /// No agent takes a new one, or those that were asked have failed.
    NoHost,
    /// There are no votes, and one may be made without them, in this way.
    Unvoted(Unvoted),
    /// What came of the last proposal or start decides, and the driver has the reason.
    Refused,
}

#[derive(Debug, Clone)]
enum Stage {
    Settling,
    Looking { settled: bool },
    Verifying(Arc<Session>),
    Placing,
    Reserving { eligible: Arc<[Eligible]>, uncounted: Vec<SessionId> },
    Starting { session: Arc<Session>, resumed: bool },
    Over,
}

/// The login. See the module.
#[derive(Debug, Clone)]
pub struct Login {
    want: Wanted,
    terms: Terms,
    /// Whether it may make a session.
    makes: bool,
    /// Sessions that were found not to run.
    passed: Vec<SessionId>,
    /// Agents that did not answer, the latest last.
    silent: Vec<AgentName>,
    /// Agents that were asked to start one.
    tried: Vec<AgentName>,
    /// What the user had when that was looked at last.
    had: Vec<SessionId>,
    /// It looked again as they had more when a new one was to be made.
    looked_again: bool,
    stage: Stage,
}

impl Login {
    /// One that only hands out what runs.
    #[must_use]
    pub fn find(want: Wanted, terms: Terms) -> Self {
        Self::new(want, terms, false)
    }

    /// One that makes a session where there is none.
    #[must_use]
    pub fn find_or_make(want: Wanted, terms: Terms) -> Self {
        Self::new(want, terms, true)
    }

    fn new(want: Wanted, terms: Terms, makes: bool) -> Self {
        let stage = if makes { Stage::Settling } else { Stage::Looking { settled: false } };
        let (passed, silent, tried, had) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { want, terms, makes, passed, silent, tried, had, looked_again: false, stage }
    }

    /// What it begins with.
    #[must_use]
    pub fn begin(&self) -> Vec<Effect> {
        vec![if self.makes { Effect::Settle(Vec::new()) } else { Effect::Look }]
    }

    /// Takes an event. What does not belong to the stage is of an earlier question, and changes nothing.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match (self.stage.clone(), event) {
            (Stage::Settling, Event::Settled) => self.look([], false),
            (Stage::Looking { .. }, Event::Settled) => vec![Effect::Look],
            (Stage::Looking { settled }, Event::Has(own)) => self.has(&own, settled),
            (Stage::Verifying(session), Event::Alive) => self.over(Outcome::Found(session)),
            (Stage::Verifying(session), Event::Gone) => {
                self.passed.push(session.id);
                self.look([Effect::Drop(session.id)], false)
            }
            (Stage::Verifying(session), Event::Silent) => {
                // The others there would only be waited for in vain.
                self.silent.push(session.agent.clone());
                let dead = mutant::on(Mutant::SilenceIsDeath).then(|| Effect::Drop(session.id));
                self.look(dead, false)
            }
            (Stage::Placing, Event::Places(places)) => self.reserve(places),
            (Stage::Reserving { eligible, uncounted }, Event::Proposed(result)) => {
                self.reserved(result, &eligible, uncounted)
            }
            (Stage::Starting { session, resumed }, Event::Started(attempt)) => match attempt {
                Attempt::Running(display) => self.over(Outcome::Started(session, display)),
                Attempt::Next if resumed => self.place(),
                Attempt::Next => {
                    self.tried.push(session.agent.clone());
                    self.place()
                }
                Attempt::EndedMeanwhile | Attempt::EndedAtOnce | Attempt::Undecided => {
                    self.over(Outcome::Refused)
                }
            },
            _ => Vec::new(),
        }
    }

    fn look(&mut self, before: impl IntoIterator<Item = Effect>, settled: bool) -> Vec<Effect> {
        self.stage = Stage::Looking { settled };
        before.into_iter().chain([Effect::Look]).collect()
    }

    fn has(&mut self, own: &[Own], settled: bool) -> Vec<Effect> {
        self.had = own.iter().map(|own| own.session.id).collect();
        // P8: a repeated request is about what it has made, whatever else its user has.
        let made = own.iter().find(|own| own.session.request == self.want.request);
        let made = made.map(|own| &own.session).filter(|_| !mutant::on(Mutant::RequestForgotten));
        let is_out = |session: &Session| match session.state {
            State::Starting => true,
            State::Running { .. } => self.silent.contains(&session.agent),
            State::Ending { .. } => false,
        };
        if let Some(made) = made.filter(|made| is_out(made)) {
            return self.made_is_out(&Arc::clone(made));
        }
        if let Wish::This(id) = self.want.wish
            && !own.iter().any(|own| own.session.id == id)
        {
            return self.over(Outcome::NoSuch(id));
        }
        if let (Wish::Any(_), Some(made)) = (self.want.wish, made)
            && self.is_meant(made)
        {
            return self.verify(Arc::clone(made));
        }
        let mut meant: Vec<&Own> = own.iter().filter(|own| self.is_meant(&own.session)).collect();
        let waits = meant.iter().any(|own| own.host == Host::Connecting);
        if meant.len() > 1 && waits && !settled {
            // Right after a start of the broker it is not known which agents answer.
            self.stage = Stage::Looking { settled: true };
            let agents = meant.iter().map(|own| own.session.agent.clone()).collect();
            return vec![Effect::Settle(agents)];
        }
        // One whose agent is silent is nothing to choose as long as there is another.
        let is_up = |own: &&Own| matches!(own.host, Host::Up { .. });
        if meant.iter().any(is_up) {
            meant.retain(is_up);
        } else {
            meant.truncate(1);
        }
        // Nor is one whose host does not let its user in.
        let is_open = |own: &&Own| !matches!(own.host, Host::Up { open: false, .. });
        if meant.iter().any(is_open) {
            meant.retain(is_open);
        }
        match self.choose(&meant) {
            Chosen::New => self.nothing(own),
            Chosen::Ask => {
                self.over(Outcome::Choose(meant.iter().map(|own| own.session.clone()).collect()))
            }
            Chosen::Take(id) => match meant.iter().find(|own| own.session.id == id) {
                Some(own) => self.verify(Arc::clone(&own.session)),
                None => self.nothing(own),
            },
        }
    }

    /// Whether it can be about this session: a desktop that was started with a command of its own is another thing than
    /// the full desktop.
    fn is_meant(&self, session: &Session) -> bool {
        let fits = match self.want.wish {
            Wish::This(id) => session.id == id,
            Wish::Any(_) => session.params.start_command == self.want.params.start_command,
        };
        matches!(session.state, State::Running { .. })
            && (fits || session.request == self.want.request)
            && !self.passed.contains(&session.id)
            && !self.silent.contains(&session.agent)
    }

    fn choose(&self, meant: &[&Own]) -> Chosen {
        match self.want.wish {
            Wish::This(id) => Chosen::Take(id),
            Wish::Any(choice) => {
                let candidate = |own: &&Own| Candidate {
                    id: own.session.id,
                    connected: matches!(own.host, Host::Up { connected: true, .. }),
                };
                choice.among(&meant.iter().map(candidate).collect::<Vec<_>>(), self.terms.cap)
            }
        }
    }

    fn verify(&mut self, session: Arc<Session>) -> Vec<Effect> {
        if mutant::on(Mutant::NotVerified) {
            return self.over(Outcome::Found(session));
        }
        self.stage = Stage::Verifying(Arc::clone(&session));
        vec![Effect::Verify(session)]
    }

    /// What this request has made before cannot be handed out as it is.
    fn made_is_out(&mut self, made: &Arc<Session>) -> Vec<Effect> {
        if made.state == State::Starting && self.makes {
            return self.start(Arc::clone(made), true);
        }
        match self.silent.last().cloned() {
            Some(silent) => self.over(Outcome::Unreachable(silent)),
            None => self.over(Outcome::Nothing),
        }
    }

    /// None of what the user has can be handed out.
    fn nothing(&mut self, own: &[Own]) -> Vec<Effect> {
        match (self.silent.last().cloned(), self.want.wish) {
            (Some(silent), Wish::This(_)) => self.over(Outcome::Unreachable(silent)),
            (Some(silent), Wish::Any(_)) if !self.makes => self.over(Outcome::Unreachable(silent)),
            (None, _) if !self.makes => self.over(Outcome::Nothing),
            (None, Wish::This(id)) => self.over(Outcome::NoSuch(id)),
            (_, Wish::Any(choice)) => match own.iter().find(|own| self.resumes(own, choice)) {
                Some(own) => self.start(Arc::clone(&own.session), true),
                None => self.place(),
            },
        }
    }

    /// Whether this is a start of another request that was left unfinished, by a crash of the broker or by an answer
    /// that was lost: asking again gives the agent's first result. It is taken up only where it is what is wanted now.
    fn resumes(&self, Own { session, .. }: &Own, choice: Choice) -> bool {
        let same = session.params.start_command == self.want.params.start_command;
        session.state == State::Starting && same && choice != Choice::New
    }

    fn start(&mut self, session: Arc<Session>, resumed: bool) -> Vec<Effect> {
        self.stage = Stage::Starting { session: Arc::clone(&session), resumed };
        vec![Effect::Start { session, may_be_there: resumed }]
    }

    fn place(&mut self) -> Vec<Effect> {
        if self.tried.len() >= usize::try_from(self.terms.attempts).unwrap_or(usize::MAX) {
            return self.over(Outcome::NoHost);
        }
        self.stage = Stage::Placing;
        vec![Effect::Place]
    }

    fn reserve(&mut self, places: Places) -> Vec<Effect> {
        let Places { id, mut eligible, uncounted, rule } = places;
        if !self.tried.is_empty() {
            let left = eligible.iter().filter(|eligible| !self.tried.contains(&eligible.agent));
            eligible = left.cloned().collect();
        }
        self.stage =
            Stage::Reserving { eligible: Arc::clone(&eligible), uncounted: uncounted.clone() };
        let Wanted { user, request, params, .. } = self.want.clone();
        let draft = Draft { id, user, request, params };
        let cap = if mutant::on(Mutant::CapUnchecked) { 0 } else { self.terms.cap };
        let proposal = Proposal::Reserve { draft, cap, uncounted, eligible, rule };
        vec![Effect::Propose(Box::new(proposal))]
    }

    fn reserved(
        &mut self,
        result: Proposed,
        eligible: &[Eligible],
        mut uncounted: Vec<SessionId>,
    ) -> Vec<Effect> {
        match (result, self.silent.last()) {
            (Proposed::Committed(Change::Reserved(session)), _) => self.start(session, false),
            (Proposed::Rejected(Rejected::NoAgent, _), _) => self.over(Outcome::NoHost),
            // An agent has told of one since it was looked: right after a take-over with a new table, say.
            (Proposed::Rejected(Rejected::AtLimit { .. } | Rejected::Repeated(_), _), None)
                if !self.looked_again && self.has_room() =>
            {
                self.looked_again = true;
                self.look([], false)
            }
            // What stands in the way is more use to the user than the rule.
            (
                Proposed::Rejected(Rejected::AtLimit { .. } | Rejected::Repeated(_), _),
                Some(silent),
            ) => {
                let silent = silent.clone();
                self.over(Outcome::Unreachable(silent))
            }
            (Proposed::NoVotes, _) if self.terms.solo_create => {
                // Without votes those that are gone cannot be dropped either.
                uncounted.extend_from_slice(&self.passed);
                let (user, cap) = (self.want.user.clone(), self.terms.cap);
                self.over(Outcome::Unvoted(Unvoted::new(user, cap, uncounted, eligible)))
            }
            _ => self.over(Outcome::Refused),
        }
    }

    /// Whether the user could have one more by what was seen last.
    fn has_room(&self) -> bool {
        self.had.len() < usize::try_from(self.terms.cap).unwrap_or(usize::MAX)
    }

    fn over(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.stage = Stage::Over;
        vec![Effect::Over(outcome)]
    }
}

/// The user's sessions that do not count against the limit: those on agents that have been silent for `grace_ms`.
/// `silent_ms` = how long an agent has been so; none = it is heard, or not known to be away.
#[must_use]
pub fn uncounted(
    table: &Table,
    user: &UserName,
    grace_ms: u64,
    silent_ms: impl Fn(&AgentName) -> Option<u64>,
) -> Vec<SessionId> {
    let grace_ms = if mutant::on(Mutant::GraceForgotten) { 0 } else { grace_ms };
    let is_long_silent = |agent| silent_ms(agent).is_some_and(|silent| silent >= grace_ms);
    let own = table.of_user(user).filter(|session| is_long_silent(&session.agent));
    own.map(|session| session.id).collect()
}

#[cfg(test)]
mod tests;
