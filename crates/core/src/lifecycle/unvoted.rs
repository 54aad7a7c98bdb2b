//! A session that is made without votes, where the administrator allows that (`solo_create`).
//!
//! It is in no log, so there is no tombstone to give a start up by: once an agent may be at it, no other is asked. Its
//! user may have another one where this node cannot look; those that it knows of count against the limit all the same.

use crate::{
    AgentName, Eligible, Placement, Rule, SessionId, Table, UserName,
    lifecycle::Event,
    place,
    replica::mutant::{self, Mutant},
};

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask this agent.
    Ask(AgentName),
    /// Nothing: its user has as many as they may have.
    AtLimit,
    /// Nothing: there is no agent left.
    NoHost,
}

/// What an agent's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It runs, on this display.
    Runs(u32),
    /// It never will there; another agent may be asked.
    Next,
    /// Whether it runs is not known: another one would be a second desktop for sure.
    Unknown,
}

/// One attempt to make such a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unvoted {
    user: UserName,
    cap: u32,
    uncounted: Vec<SessionId>,
    left: Vec<Eligible>,
}

impl Unvoted {
    /// For this user, on one of these agents. They may have `cap` sessions, 0 = any number, beside the uncounted ones.
    #[must_use]
    pub fn new(user: UserName, cap: u32, uncounted: Vec<SessionId>, eligible: &[Eligible]) -> Self {
        Self { user, cap, uncounted, left: eligible.to_vec() }
    }

    /// These sessions are over, though the table cannot be told so without votes.
    pub fn are_over(&mut self, sessions: impl IntoIterator<Item = SessionId>) {
        self.uncounted.extend(sessions);
    }

    /// What is to be done next: the best agent that was not asked yet is asked, as long as there is room. `beside` =
    /// how many of the user's sessions this node knows of that are in no table.
    pub fn next(&mut self, table: &Table, beside: usize, rule: Rule) -> Next {
        let has_room = table.has_room_beside(beside, &self.user, self.cap, &self.uncounted);
        if !has_room && !mutant::on(Mutant::UnvotedUnlimited) {
            return Next::AtLimit;
        }
        let Some(agent) = place(table, &self.left, Placement { user: &self.user, rule }) else {
            return Next::NoHost;
        };
        let agent = agent.clone();
        self.left.retain(|other| other.agent != agent);
        Next::Ask(agent)
    }

    /// What the answer to a start means.
    #[must_use]
    pub fn answered(answer: &Event) -> Answered {
        match answer {
            Event::Ran(display) => Answered::Runs(*display),
            Event::Refused { .. } | Event::NoAgent | Event::Unanswered { unsent: true, .. } => {
                Answered::Next
            }
            Event::Unanswered { .. } if mutant::on(Mutant::UnvotedTwice) => Answered::Next,
            Event::Unanswered { unsent: false, .. } | Event::Proposed(_) | Event::Waited => {
                Answered::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{Change, RequestId, Session, StartParams, State, Strategy, UnixMillis};

    const RULE: Rule =
        Rule { strategy: Strategy::Users, now: UnixMillis(7), penalty_ms: 0, tie: 0 };

    fn eligible(name: &str, weight: u32) -> Eligible {
        Eligible { agent: name.parse().unwrap(), weight, max_users: 0, measured: None }
    }

    fn session(n: u128) -> Session {
        Session {
            id: SessionId::new(Uuid::from_u128(n)),
            user: "ann".parse().unwrap(),
            agent: "small".parse().unwrap(),
            state: State::Running { display: 3 },
            request: RequestId::new(Uuid::from_u128(n)),
            params: StartParams::default(),
            created: UnixMillis(7),
        }
    }

    #[test]
    fn each_agent_is_asked_once() {
        let both = [eligible("small", 1), eligible("large", 9)];
        let mut unvoted = Unvoted::new("ann".parse().unwrap(), 1, Vec::new(), &both);
        let mut next = || unvoted.next(&Table::default(), 0, RULE);
        assert_eq!(next(), Next::Ask("large".parse().unwrap()));
        assert_eq!(next(), Next::Ask("small".parse().unwrap()));
        assert_eq!(next(), Next::NoHost);
    }

    /// Nobody can say what a user has where this node cannot look; what it knows counts.
    #[test]
    fn what_the_node_knows_counts_against_the_limit() {
        let mut table = Table::default();
        for n in [1, 2] {
            table.apply(&Change::Adopted(Arc::new(session(n))));
        }
        table.apply(&Change::Ending { id: session(2).id });
        let next = |cap, uncounted: &[SessionId], beside| {
            let uncounted = uncounted.to_vec();
            let host = [eligible("large", 9)];
            Unvoted::new("ann".parse().unwrap(), cap, uncounted, &host).next(&table, beside, RULE)
        };
        let ask = Next::Ask("large".parse().unwrap());
        assert_eq!(next(1, &[], 0), Next::AtLimit);
        assert_eq!(next(2, &[], 0), ask, "one that is to end does not count");
        assert_eq!(next(2, &[], 1), Next::AtLimit, "one that is in no table counts");
        assert_eq!(next(1, &[session(1).id], 0), ask, "one that is known to be gone does not");
        assert_eq!(next(0, &[], 9), ask, "there is no limit");
        let host = [eligible("large", 9)];
        let mut unvoted = Unvoted::new("ann".parse().unwrap(), 1, Vec::new(), &host);
        unvoted.are_over([session(1).id]);
        assert_eq!(unvoted.next(&table, 0, RULE), ask, "nor one whose host said that it is over");
    }

    #[test]
    fn no_other_is_asked_once_one_may_be_at_it() {
        let unanswered = |unsent| Event::Unanswered { unsent, timed_out: false };
        for (answer, expected) in [
            (Event::Ran(3), Answered::Runs(3)),
            (Event::Refused { at_fault: true }, Answered::Next),
            (Event::NoAgent, Answered::Next),
            (unanswered(true), Answered::Next),
            (unanswered(false), Answered::Unknown),
        ] {
            assert_eq!(Unvoted::answered(&answer), expected, "{answer:?}");
        }
    }
}
