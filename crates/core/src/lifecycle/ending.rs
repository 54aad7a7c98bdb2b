//! The end of a session, and of a start that is given up.
//!
//! The wish is durable first, so that it is carried out even if the agent goes away or the broker dies in between; a
//! session leaves the table when its agent says that it is gone, and not before.

use crate::{
    Proposal, Rejected, SessionId, State, UnixMillis,
    lifecycle::Proposed,
    replica::mutant::{self, Mutant},
};

/// What is to become of a session whose agent is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfSilent {
    /// Nothing: it stays as it is.
    Leave,
    /// It is given up: its end is recorded, and carried out when its agent is back.
    Abandon,
}

/// What happens to an end.
#[derive(Debug, Clone)]
pub enum Event {
    /// Whether the session's agent can be reached.
    Reached(bool),
    /// What became of the last proposal.
    Proposed(Proposed),
    /// The agent says that nothing is left of it.
    Ended,
    /// The agent refused, or there is no answer.
    NotNow,
}

/// What an end wants done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// See whether the session's agent can be reached; feed [`Event::Reached`].
    Reach,
    /// Propose the wish; feed what became of it.
    Record(SessionId),
    /// Tell the trail that it was asked for: the wish is kept, or its agent is about to be asked.
    Note,
    /// Have the agent end it; feed [`Event::Ended`] or [`Event::NotNow`].
    Terminate,
    /// The same by the right of this node's last reign, as the wish is not recorded: an agent that has promised to
    /// another broker since then refuses, and no promise is asked of it.
    TerminateUnrecorded,
    /// Drop it, with what its agent tells of the reason.
    Drop,
    /// It is over.
    Over(Outcome),
}

/// What became of a session that was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left of it.
    Ended,
    /// Its end is recorded, and carried out as soon as its agent can.
    Later,
    /// It was given up: its end is recorded, and its agent is silent.
    Abandoned,
    /// Nothing was done, as its agent is silent.
    Silent,
    /// The wish is not kept, and nobody would try it again: what came of the proposal says why.
    Refused,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Reaching(IfSilent),
    Recording { up: bool },
    Ending { recorded: bool },
    Over,
}

/// The end of one session. See the module.
#[derive(Debug, Clone)]
pub struct End {
    id: SessionId,
    stage: Stage,
}

impl End {
    /// Its user or an administrator wants the end of a session that is in this state.
    #[must_use]
    pub const fn wanted(id: SessionId, state: State, if_silent: IfSilent) -> Self {
        match state {
            State::Ending { .. } => Self::recorded(id),
            State::Starting | State::Running { .. } => {
                Self { id, stage: Stage::Reaching(if_silent) }
            }
        }
    }

    /// The end of a session whose wish is recorded is to be carried out.
    #[must_use]
    pub const fn recorded(id: SessionId) -> Self {
        Self { id, stage: Stage::Ending { recorded: true } }
    }

    /// What it begins with.
    #[must_use]
    pub fn begin(&self) -> Vec<Effect> {
        match self.stage {
            Stage::Reaching(_) => vec![Effect::Reach],
            Stage::Recording { .. } | Stage::Ending { .. } | Stage::Over => vec![Effect::Terminate],
        }
    }

    /// Takes an event. What does not belong to the stage is of an earlier question, and changes nothing.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match (self.stage, event) {
            (Stage::Reaching(IfSilent::Leave), Event::Reached(false)) => {
                self.over([], Outcome::Silent)
            }
            (Stage::Reaching(_), Event::Reached(up)) => {
                self.stage = Stage::Recording { up };
                vec![Effect::Record(self.id)]
            }
            (Stage::Recording { up }, Event::Proposed(result)) => match result {
                Proposed::Committed(_) if up => self.terminate(true),
                Proposed::Committed(_) => self.over([Effect::Note], Outcome::Abandoned),
                // Without votes, or where no node has become active for want of them, the wish cannot be kept, but an
                // agent that is there can be asked: it fences by itself.
                Proposed::NoVotes | Proposed::NotActive if up => self.terminate(false),
                Proposed::NoVotes
                | Proposed::NotActive
                | Proposed::Rejected(..)
                | Proposed::Failed => self.over([], Outcome::Refused),
            },
            (Stage::Ending { .. }, Event::Ended) => self.over([Effect::Drop], Outcome::Ended),
            (Stage::Ending { .. }, Event::NotNow) if mutant::on(Mutant::EndTakenForGranted) => {
                self.over([Effect::Drop], Outcome::Ended)
            }
            (Stage::Ending { recorded: true }, Event::NotNow) => self.over([], Outcome::Later),
            (Stage::Ending { recorded: false }, Event::NotNow) => self.over([], Outcome::Refused),
            _ => Vec::new(),
        }
    }

    fn terminate(&mut self, recorded: bool) -> Vec<Effect> {
        self.stage = Stage::Ending { recorded };
        let ask = if recorded { Effect::Terminate } else { Effect::TerminateUnrecorded };
        vec![Effect::Note, ask]
    }

    fn over(&mut self, effects: impl IntoIterator<Item = Effect>, outcome: Outcome) -> Vec<Effect> {
        self.stage = Stage::Over;
        effects.into_iter().chain([Effect::Over(outcome)]).collect()
    }
}

/// What happens to a burial.
#[derive(Debug, Clone)]
pub enum Dug {
    /// What became of the last proposal.
    Proposed(Proposed),
    /// The agent holds to the tombstone.
    Cancelled,
    /// The agent refused, or there is no answer.
    NotNow,
}

/// What a burial wants done. After the last of these that can lead to an event it is over.
#[derive(Debug, Clone)]
pub enum Dig {
    /// Propose this; feed what became of it.
    Propose(Proposal),
    /// Have the agent hold to the tombstone: the session never starts there, and ends if it has. Feed its answer.
    Cancel,
    /// Propose this; nothing depends on it.
    Note(Proposal),
}

/// A start that nobody waits for any more: given up for good, then buried on its agent, then forgotten.
#[derive(Debug, Clone)]
pub struct Burial {
    id: SessionId,
    /// Whether the start has still to be given up.
    gives_up: bool,
}

impl Burial {
    /// Of a start that was given up.
    #[must_use]
    pub const fn of(id: SessionId) -> Self {
        Self { id, gives_up: false }
    }

    /// Of a start that is to be given up before.
    #[must_use]
    pub const fn giving_up(id: SessionId) -> Self {
        Self { id, gives_up: true }
    }

    /// What it begins with, at this time of day.
    #[must_use]
    pub fn begin(&self, now: UnixMillis) -> Vec<Dig> {
        if self.gives_up {
            return vec![Dig::Propose(Proposal::GiveUp { id: self.id, now })];
        }
        if mutant::on(Mutant::TombstoneDropped) {
            return self.forget();
        }
        vec![Dig::Cancel]
    }

    /// Takes an event.
    #[must_use]
    pub fn handle(&self, event: &Dug) -> Vec<Dig> {
        match event {
            Dug::Proposed(Proposed::Committed(_))
            | Dug::Proposed(Proposed::Rejected(
                Rejected::GivenUp(_) | Rejected::UnknownSession(_),
                _,
            )) => vec![Dig::Cancel],
            Dug::Proposed(_) if mutant::on(Mutant::RunningBuried) => vec![Dig::Cancel],
            // Its agent has reported meanwhile that it runs, and it may have been handed out: it stays. Or it is not
            // known whether it is given up, and whoever is active then looks again.
            Dug::Proposed(_) => Vec::new(),
            Dug::Cancelled => self.forget(),
            Dug::NotNow => Vec::new(),
        }
    }

    fn forget(&self) -> Vec<Dig> {
        vec![Dig::Note(Proposal::TombstoneDone { id: self.id })]
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Change;

    const ID: SessionId = SessionId::new(Uuid::from_u128(1));
    const RUNS: State = State::Running { display: 3 };
    const ENDS: State = State::Ending { display: 3 };

    /// The effects, each in a word.
    fn words(effects: &[Effect]) -> String {
        let word = |effect: &Effect| match effect {
            Effect::Record(_) => "record".to_owned(),
            Effect::Over(outcome) => format!("{outcome:?}"),
            Effect::Reach
            | Effect::Note
            | Effect::Terminate
            | Effect::TerminateUnrecorded
            | Effect::Drop => format!("{effect:?}"),
        };
        effects.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn committed() -> Proposed {
        Proposed::Committed(Change::Ending { id: ID })
    }

    fn running() -> Proposed {
        Proposed::Rejected(Rejected::AlreadyRunning(ID), Some(RUNS))
    }

    #[test]
    fn the_wish_is_durable_first() {
        use IfSilent::{Abandon, Leave};
        for (up, if_silent, result, expected) in [
            (true, Leave, committed(), "Note, Terminate"),
            (true, Abandon, committed(), "Note, Terminate"),
            (false, Abandon, committed(), "Note, Abandoned"),
            (true, Leave, Proposed::NoVotes, "Note, TerminateUnrecorded"),
            (true, Leave, Proposed::NotActive, "Note, TerminateUnrecorded"),
            (false, Abandon, Proposed::NoVotes, "Refused"),
            (true, Leave, Proposed::Rejected(Rejected::UnknownSession(ID), None), "Refused"),
            (true, Leave, Proposed::Failed, "Refused"),
        ] {
            let mut end = End::wanted(ID, RUNS, if_silent);
            assert_eq!(words(&end.begin()), "Reach");
            assert_eq!(words(&end.handle(Event::Reached(up))), "record");
            let what = format!("{up} {if_silent:?} {result:?}");
            assert_eq!(words(&end.handle(Event::Proposed(result))), expected, "{what}");
        }
        let mut end = End::wanted(ID, RUNS, Leave);
        assert_eq!(words(&end.handle(Event::Reached(false))), "Silent");
        assert_eq!(words(&end.handle(Event::Reached(true))), "", "it is over");
    }

    #[test]
    fn a_session_is_dropped_when_its_agent_says_so() {
        for (recorded, event, expected) in [
            (committed(), Event::Ended, "Drop, Ended"),
            (committed(), Event::NotNow, "Later"),
            (Proposed::NoVotes, Event::Ended, "Drop, Ended"),
            (Proposed::NoVotes, Event::NotNow, "Refused"),
        ] {
            let mut end = End::wanted(ID, RUNS, IfSilent::Leave);
            end.handle(Event::Reached(true));
            end.handle(Event::Proposed(recorded));
            assert_eq!(words(&end.handle(event)), expected);
        }
    }

    #[test]
    fn what_was_asked_for_before_is_carried_out() {
        for end in [End::wanted(ID, ENDS, IfSilent::Leave), End::recorded(ID)] {
            assert_eq!(words(&end.begin()), "Terminate");
            assert_eq!(words(&end.clone().handle(Event::Ended)), "Drop, Ended");
            assert_eq!(words(&end.clone().handle(Event::NotNow)), "Later");
        }
    }

    fn digs(digs: &[Dig]) -> &str {
        match digs {
            [] => "",
            [Dig::Propose(Proposal::GiveUp { .. })] => "give up",
            [Dig::Cancel] => "cancel",
            [Dig::Note(Proposal::TombstoneDone { .. })] => "forget",
            _ => "something else",
        }
    }

    #[test]
    fn a_tombstone_is_forgotten_when_its_agent_holds_to_it() {
        let burial = Burial::of(ID);
        assert_eq!(digs(&burial.begin(UnixMillis(7))), "cancel");
        assert_eq!(digs(&burial.handle(&Dug::NotNow)), "");
        assert_eq!(digs(&burial.handle(&Dug::Cancelled)), "forget");
    }

    /// P9: to cancel the start of a session is to end it.
    #[test]
    fn one_that_runs_by_now_is_not_buried() {
        let burial = Burial::giving_up(ID);
        assert_eq!(digs(&burial.begin(UnixMillis(7))), "give up");
        let rejected = |why| Proposed::Rejected(why, None);
        for (result, expected) in [
            (committed(), "cancel"),
            (rejected(Rejected::GivenUp(ID)), "cancel"),
            (rejected(Rejected::UnknownSession(ID)), "cancel"),
            (running(), ""),
            (Proposed::Failed, ""),
            (Proposed::NotActive, ""),
            (Proposed::NoVotes, ""),
        ] {
            let what = format!("{result:?}");
            assert_eq!(digs(&burial.handle(&Dug::Proposed(result))), expected, "{what}");
        }
    }
}
