//! A session that is made without votes, where the administrator allows that (`solo_create`).
//!
//! It is in no log, so there is no tombstone to give a start up by: once an agent may be at it, no other is asked.

use crate::{AgentName, Eligible, Placement, Rule, Table, UserName, lifecycle::Event, place};

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
#[derive(Debug, Clone)]
pub struct Unvoted {
    user: UserName,
    left: Vec<Eligible>,
}

impl Unvoted {
    /// For this user, on one of these agents.
    #[must_use]
    pub fn new(user: UserName, eligible: &[Eligible]) -> Self {
        Self { user, left: eligible.to_vec() }
    }

    /// The agent to be asked next: the best that was not asked yet; none = there is none left.
    pub fn next(&mut self, table: &Table, rule: Rule) -> Option<AgentName> {
        let agent = place(table, &self.left, Placement { user: &self.user, rule })?.clone();
        self.left.retain(|other| other.agent != agent);
        Some(agent)
    }

    /// What the answer to a start means.
    #[must_use]
    pub const fn answered(answer: &Event) -> Answered {
        match answer {
            Event::Ran(display) => Answered::Runs(*display),
            Event::Refused { .. } | Event::NoAgent | Event::Unanswered { unsent: true, .. } => {
                Answered::Next
            }
            Event::Unanswered { unsent: false, .. } | Event::Proposed(_) | Event::Waited => {
                Answered::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Strategy, UnixMillis};

    const RULE: Rule =
        Rule { strategy: Strategy::Users, now: UnixMillis(7), penalty_ms: 0, tie: 0 };

    #[test]
    fn each_agent_is_asked_once() {
        let eligible = |name: &str, weight| Eligible {
            agent: name.parse().unwrap(),
            weight,
            max_users: 0,
            measured: None,
        };
        let both = [eligible("small", 1), eligible("large", 9)];
        let mut unvoted = Unvoted::new("ann".parse().unwrap(), &both);
        let mut next = || unvoted.next(&Table::default(), RULE).map(|agent| agent.to_string());
        assert_eq!(next().as_deref(), Some("large"));
        assert_eq!(next().as_deref(), Some("small"));
        assert_eq!(next(), None);
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
