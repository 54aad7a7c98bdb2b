//! One attempt to have an agent start a reserved session.
//!
//! An outcome that is unknown is asked for again until the grace is over. Only then is the start given up, durably, so
//! that it can never become a second desktop, and the agent is told so before the tombstone may go.

use std::sync::Arc;

use crate::{
    AgentName, Change, Proposal, Rejected, Session, SessionId, State, UnixMillis,
    replica::mutant::{self, Mutant},
};

/// What happens to an attempt.
#[derive(Debug, Clone)]
pub enum Event {
    /// The agent says that the session runs, on this display.
    Ran(u32),
    /// The agent refused, and holds to it.
    Refused {
        /// Whether the fault is the agent's own: it goes to the back of the queue for a while.
        at_fault: bool,
    },
    /// There is no answer that could be understood.
    Unanswered {
        /// Whether the call never left this host.
        unsent: bool,
        /// Whether the agent had all the time that a start may take.
        timed_out: bool,
    },
    /// There is no way to ask the agent: it belongs to this broker no more.
    NoAgent,
    /// What became of the last proposal.
    Proposed(Proposed),
    /// The wait is over.
    Waited,
}

/// What became of a proposal.
#[derive(Debug, Clone)]
pub enum Proposed {
    /// It is committed.
    Committed(Change),
    /// A rule forbids it; with the state of the session as the table has it, if it does.
    Rejected(Rejected, Option<State>),
    /// Another node is active, or none; nothing was done.
    NotActive,
    /// Neither the other broker nor enough witnesses can be reached; nothing was done.
    NoVotes,
    /// It is not known to be committed, or known not to be: the driver has the reason.
    Failed,
}

/// What an attempt wants done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask the agent to start the session; feed its answer. A broker that does not act drops the attempt instead: the
    /// reservation stays, and whoever is active then finishes what was begun.
    Ask,
    /// Propose this; feed what became of it.
    Propose(Proposal),
    /// Propose this; nothing depends on it.
    Note(Proposal),
    /// The session is no more: drop it, with what its agent tells of the reason.
    Drop,
    /// Carry out the end that was asked for meanwhile.
    End,
    /// Have the agent hold to the tombstone, then forget that.
    Bury,
    /// Wait a little, at most for so many milliseconds, then feed [`Event::Waited`].
    Wait(u64),
    /// It is over.
    Over(Outcome),
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It runs, and that is committed.
    Running(u32),
    /// It will never run; another agent may be asked.
    Next,
    /// It started, and its end was asked for meanwhile.
    EndedMeanwhile,
    /// It started, and ended before that could be committed.
    EndedAtOnce,
    /// What came of a proposal decides, and that is not known here.
    Undecided,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The agent is asked, or is to be asked again.
    Asking,
    /// `Running` is proposed.
    Committing(u32),
    /// The end of the attempt is proposed.
    GivingUp(Why),
    Over,
}

/// Why an attempt is given up.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// The agent holds to its refusal, so no tombstone is needed.
    Refused { at_fault: bool },
    /// It never heard of the start.
    Unsent,
    /// It may still be at it.
    Unknown,
    /// It belongs to this broker no more.
    NoAgent,
}

/// The attempt. See the module.
#[derive(Debug, Clone)]
pub struct Start {
    id: SessionId,
    agent: AgentName,
    grace_ms: u64,
    may_be_there: bool,
    stage: Stage,
}

impl Start {
    /// An attempt for this session, whose outcome is asked for again for `grace_ms`. `may_be_there` = an earlier
    /// attempt may have reached the agent. It begins with [`Effect::Ask`].
    #[must_use]
    pub fn new(session: &Arc<Session>, grace_ms: u64, may_be_there: bool) -> Self {
        let (id, agent) = (session.id, session.agent.clone());
        Self { id, agent, grace_ms, may_be_there, stage: Stage::Asking }
    }

    /// Takes an event: `spent_ms` since the attempt began, at this time of day. What does not belong to the stage is of
    /// an earlier question, and changes nothing.
    pub fn handle(&mut self, spent_ms: u64, now: UnixMillis, event: Event) -> Vec<Effect> {
        match (self.stage, event) {
            (Stage::Asking, Event::Ran(display)) => self.commit(display),
            (Stage::Asking, Event::Refused { at_fault }) => {
                self.give_up(now, Why::Refused { at_fault })
            }
            (Stage::Asking, Event::NoAgent) => self.give_up(now, Why::NoAgent),
            (Stage::Asking, Event::Unanswered { unsent: true, .. }) if !self.may_be_there => {
                self.give_up(now, Why::Unsent)
            }
            (Stage::Asking, Event::Unanswered { timed_out, .. })
                if timed_out || spent_ms >= self.grace_ms =>
            {
                self.give_up(now, Why::Unknown)
            }
            (Stage::Asking, Event::Unanswered { .. }) => {
                self.may_be_there = true;
                vec![Effect::Wait(self.grace_ms.saturating_sub(spent_ms))]
            }
            (Stage::Asking, Event::Waited) => vec![Effect::Ask],
            (Stage::Committing(display), Event::Proposed(result)) => {
                let outcome = match result {
                    Proposed::Committed(_) => Outcome::Running(display),
                    Proposed::Rejected(Rejected::AlreadyRunning(_), Some(State::Ending { .. })) => {
                        return self.over([Effect::End], Outcome::EndedMeanwhile);
                    }
                    Proposed::Rejected(Rejected::AlreadyRunning(_), _) => Outcome::Running(display),
                    Proposed::Rejected(Rejected::UnknownSession(_), _) => Outcome::EndedAtOnce,
                    // Somebody else gave it up, so it may not run, and another one may.
                    Proposed::Rejected(Rejected::GivenUp(_), _) => {
                        return self.over([Effect::Bury], Outcome::Next);
                    }
                    Proposed::Rejected(..)
                    | Proposed::NotActive
                    | Proposed::NoVotes
                    | Proposed::Failed => Outcome::Undecided,
                };
                self.over([], outcome)
            }
            (Stage::GivingUp(why), Event::Proposed(result)) => self.given_up(now, why, &result),
            (Stage::Asking, Event::Proposed(_))
            | (Stage::Committing(_) | Stage::GivingUp(_) | Stage::Over, _) => Vec::new(),
        }
    }

    /// The user hears of it when it is committed.
    fn commit(&mut self, display: u32) -> Vec<Effect> {
        let propose = Effect::Propose(Proposal::Running { id: self.id, display });
        if mutant::on(Mutant::HandOutEarly) {
            return self.over([propose], Outcome::Running(display));
        }
        self.stage = Stage::Committing(display);
        vec![propose]
    }

    fn give_up(&mut self, now: UnixMillis, why: Why) -> Vec<Effect> {
        self.stage = Stage::GivingUp(why);
        let proposal = if mutant::on(Mutant::NextWithoutTombstone) {
            Proposal::Gone { id: self.id }
        } else {
            Proposal::GiveUp { id: self.id, now }
        };
        vec![Effect::Propose(proposal)]
    }

    fn given_up(&mut self, now: UnixMillis, why: Why, result: &Proposed) -> Vec<Effect> {
        let mut effects = Vec::new();
        match result {
            // It was given up or ended by somebody else: what was wanted.
            Proposed::Committed(_)
            | Proposed::Rejected(Rejected::GivenUp(_) | Rejected::UnknownSession(_), _) => {}
            // Its end was asked for while it started, and now it does not start: that is its end.
            Proposed::Rejected(Rejected::AlreadyRunning(_), Some(State::Ending { .. })) => {
                effects.push(Effect::Drop);
            }
            // Its agent has reported it meanwhile.
            Proposed::Rejected(Rejected::AlreadyRunning(_), Some(State::Running { display })) => {
                return self.over([], Outcome::Running(*display));
            }
            Proposed::Rejected(..) | Proposed::NotActive | Proposed::NoVotes | Proposed::Failed => {
                return self.over([], Outcome::Undecided);
            }
        }
        let (bury, at_fault) = match why {
            Why::Refused { at_fault } => {
                effects.push(Effect::Note(Proposal::TombstoneDone { id: self.id }));
                (false, at_fault)
            }
            Why::Unsent => (false, true),
            Why::Unknown => (true, true),
            Why::NoAgent => (false, false),
        };
        if bury {
            effects.push(Effect::Bury);
        }
        if at_fault {
            effects
                .push(Effect::Note(Proposal::AgentFailed { agent: self.agent.clone(), at: now }));
        }
        self.over(effects, Outcome::Next)
    }

    fn over(&mut self, effects: impl IntoIterator<Item = Effect>, outcome: Outcome) -> Vec<Effect> {
        self.stage = Stage::Over;
        effects.into_iter().chain([Effect::Over(outcome)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RequestId, StartParams};
    use uuid::Uuid;

    const NOW: UnixMillis = UnixMillis(7);

    fn start(may_be_there: bool) -> Start {
        let session = Session {
            id: SessionId::new(Uuid::from_u128(1)),
            user: "ann".parse().unwrap(),
            agent: "agent1".parse().unwrap(),
            state: State::Starting,
            request: RequestId::new(Uuid::from_u128(2)),
            params: StartParams::default(),
            created: NOW,
        };
        Start::new(&Arc::new(session), 1000, may_be_there)
    }

    /// The effects, each in a word.
    fn words(effects: &[Effect]) -> Vec<String> {
        let word = |effect: &Effect| match effect {
            Effect::Ask => "ask".to_owned(),
            Effect::Propose(Proposal::Running { .. }) => "running?".to_owned(),
            Effect::Propose(Proposal::GiveUp { .. }) => "give up?".to_owned(),
            Effect::Note(Proposal::TombstoneDone { .. }) => "no tombstone".to_owned(),
            Effect::Note(Proposal::AgentFailed { .. }) => "blame".to_owned(),
            Effect::Propose(other) | Effect::Note(other) => format!("{other:?}"),
            Effect::Drop => "drop".to_owned(),
            Effect::End => "end".to_owned(),
            Effect::Bury => "bury".to_owned(),
            Effect::Wait(ms) => format!("wait {ms}"),
            Effect::Over(outcome) => format!("{outcome:?}"),
        };
        effects.iter().map(word).collect()
    }

    fn unanswered(unsent: bool, timed_out: bool) -> Event {
        Event::Unanswered { unsent, timed_out }
    }

    fn rejected(rejected: Rejected, state: Option<State>) -> Event {
        Event::Proposed(Proposed::Rejected(rejected, state))
    }

    fn done() -> Event {
        Event::Proposed(Proposed::Committed(Change::Began { pair: true }))
    }

    #[test]
    fn the_user_hears_of_it_when_it_is_committed() {
        let mut start = start(false);
        assert_eq!(words(&start.handle(5, NOW, Event::Ran(3))), ["running?"]);
        assert_eq!(words(&start.handle(9, NOW, Event::Ran(4))), [""; 0], "of an earlier question");
        assert_eq!(words(&start.handle(9, NOW, done())), ["Running(3)"]);
    }

    #[test]
    fn what_the_table_says_of_one_that_runs_decides() {
        let id = start(false).id;
        let (running, ending) = (State::Running { display: 3 }, State::Ending { display: 3 });
        for (event, expected) in [
            (rejected(Rejected::AlreadyRunning(id), Some(running)), &["Running(3)"][..]),
            (rejected(Rejected::AlreadyRunning(id), Some(ending)), &["end", "EndedMeanwhile"]),
            (rejected(Rejected::UnknownSession(id), None), &["EndedAtOnce"]),
            (rejected(Rejected::GivenUp(id), None), &["bury", "Next"]),
            (Event::Proposed(Proposed::Failed), &["Undecided"]),
        ] {
            let mut start = start(false);
            start.handle(5, NOW, Event::Ran(3));
            assert_eq!(words(&start.handle(9, NOW, event)), expected);
        }
    }

    #[test]
    fn an_unknown_outcome_is_asked_for_again_and_given_up_for_good() {
        let mut start = start(false);
        assert_eq!(words(&start.handle(5, NOW, unanswered(false, false))), ["wait 995"]);
        assert_eq!(words(&start.handle(105, NOW, Event::Waited)), ["ask"]);
        // It may be there by now, so a call that was not sent proves nothing.
        assert_eq!(words(&start.handle(205, NOW, unanswered(true, false))), ["wait 795"]);
        assert_eq!(words(&start.handle(900, NOW, Event::Waited)), ["ask"]);
        assert_eq!(words(&start.handle(1000, NOW, unanswered(false, false))), ["give up?"]);
        assert_eq!(words(&start.handle(1009, NOW, done())), ["bury", "blame", "Next"]);
    }

    #[test]
    fn each_reason_to_give_up_leaves_what_it_must() {
        let refused = |at_fault| Event::Refused { at_fault };
        for (may_be_there, event, expected) in [
            (false, refused(true), &["no tombstone", "blame", "Next"][..]),
            (false, refused(false), &["no tombstone", "Next"]),
            (false, unanswered(true, false), &["blame", "Next"]),
            (false, unanswered(false, true), &["bury", "blame", "Next"]),
            (false, Event::NoAgent, &["Next"]),
            (true, unanswered(true, true), &["bury", "blame", "Next"]),
        ] {
            let mut start = start(may_be_there);
            let what = format!("{event:?}");
            assert_eq!(words(&start.handle(5, NOW, event)), ["give up?"], "{what}");
            assert_eq!(words(&start.handle(9, NOW, done())), expected, "{what}");
        }
    }

    /// While the answer was lost, the agent's report may have told of it: that desktop is the user's, and stays.
    #[test]
    fn one_that_was_reported_meanwhile_is_not_given_up() {
        let id = start(false).id;
        let known = |state| rejected(Rejected::AlreadyRunning(id), Some(state));
        for (event, expected) in [
            (known(State::Running { display: 3 }), &["Running(3)"][..]),
            (known(State::Ending { display: 3 }), &["drop", "bury", "blame", "Next"]),
            (rejected(Rejected::GivenUp(id), None), &["bury", "blame", "Next"]),
            (rejected(Rejected::UnknownSession(id), None), &["bury", "blame", "Next"]),
            (Event::Proposed(Proposed::Failed), &["Undecided"]),
        ] {
            let mut start = start(false);
            assert_eq!(words(&start.handle(1000, NOW, unanswered(false, false))), ["give up?"]);
            assert_eq!(words(&start.handle(1009, NOW, event)), expected);
        }
    }
}
