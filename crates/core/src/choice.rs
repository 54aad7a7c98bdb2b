//! Which of a user's sessions a login means, where it names none.

use crate::SessionId;

/// What a user wants of several sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The only one that is disconnected, else the only one there is; a new one where there is none.
    #[default]
    SingleDisconnected,
    /// To be asked, unless no more than one is allowed; a new one where there is none.
    Ask,
    /// A new one.
    New,
}

/// A session that the user could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: SessionId,
    /// Whether a viewer is connected.
    pub connected: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// Hand this one out.
    Take(SessionId),
    /// Let the user say which.
    Ask,
    /// Make a new one.
    New,
}

impl Choice {
    /// Decides among the sessions that a login may get: those with its start command. `cap` is the most sessions that a
    /// user may have; 0 = no limit.
    ///
    /// A user who has one session, connected, takes it over: its viewer may be a terminal that is dead.
    #[must_use]
    pub fn among(self, candidates: &[Candidate], cap: u32) -> Chosen {
        let mut disconnected = candidates.iter().filter(|candidate| !candidate.connected);
        match (self, candidates, disconnected.next(), disconnected.next()) {
            (Self::New, ..) | (_, [], ..) => Chosen::New,
            (Self::SingleDisconnected, _, Some(only), None) => Chosen::Take(only.id),
            (Self::SingleDisconnected, [only], ..) => Chosen::Take(only.id),
            (Self::Ask, [only], ..) if cap == 1 => Chosen::Take(only.id),
            (Self::SingleDisconnected | Self::Ask, ..) => Chosen::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const fn id(n: u128) -> SessionId {
        SessionId::new(Uuid::from_u128(n))
    }

    /// Sessions 1, 2, …: `d` = disconnected, `c` = connected.
    fn sessions(states: &str) -> Vec<Candidate> {
        let one = |(n, state)| Candidate { id: id(n), connected: state == 'c' };
        (1..).zip(states.chars()).map(one).collect()
    }

    #[test]
    fn every_policy_decides() {
        use Choice::{Ask, New, SingleDisconnected};
        let cases = [
            (SingleDisconnected, "", Chosen::New),
            (SingleDisconnected, "d", Chosen::Take(id(1))),
            (SingleDisconnected, "c", Chosen::Take(id(1))),
            (SingleDisconnected, "cdc", Chosen::Take(id(2))),
            (SingleDisconnected, "cc", Chosen::Ask),
            (SingleDisconnected, "dcd", Chosen::Ask),
            (Ask, "", Chosen::New),
            (Ask, "d", Chosen::Ask),
            (Ask, "cd", Chosen::Ask),
            (New, "", Chosen::New),
            (New, "d", Chosen::New),
        ];
        for (choice, states, wanted) in cases {
            assert_eq!(choice.among(&sessions(states), 0), wanted, "{choice:?} {states:?}");
        }
        assert_eq!(Ask.among(&sessions("c"), 1), Chosen::Take(id(1)), "nothing to be asked");
        assert_eq!(Ask.among(&sessions("c"), 2), Chosen::Ask);
        assert_eq!(New.among(&sessions("c"), 1), Chosen::New, "the limit is checked elsewhere");
    }
}
