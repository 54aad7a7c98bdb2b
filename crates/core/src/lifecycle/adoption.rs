//! Whether a session that only its host knows may be adopted.
//!
//! A host that invents sessions would fill the brokers' memory and disks with them. So what one host may have is
//! bounded, and so is how many of it are adopted within a while; one that goes beyond is not believed any more.

use std::collections::VecDeque;

use crate::{
    SessionId,
    replica::mutant::{self, Mutant},
};

/// What is believed of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most sessions that it can have.
    pub sessions: usize,
    /// Most of its sessions that are adopted within the window.
    pub adoptions: usize,
    /// The window, in milliseconds.
    pub window_ms: u64,
}

/// What becomes of a session that only its host knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayAdopt {
    /// It is adopted.
    Yes,
    /// Not now: what its host has no more is dropped first, and its report is asked for again.
    Later,
    /// It is not: its host has as many as it can have.
    TooMany,
    /// It is not: too many of its host were adopted lately.
    TooOften,
}

/// The adoptions of one host's sessions, lately: when, by a clock that is never set, and which.
#[derive(Debug, Clone, Default)]
pub struct Adoptions(VecDeque<(u64, SessionId)>);

impl Adoptions {
    /// Whether one more may be adopted of a host that has so many rows in the table; it then counts. Of these rows
    /// `missing` are not in the host's report, and go once they were asked about.
    pub fn may_adopt(
        &mut self,
        id: SessionId,
        (rows, missing): (usize, usize),
        now_ms: u64,
        bounds: &Bounds,
    ) -> MayAdopt {
        if mutant::on(Mutant::AdoptionUnlimited) {
            return MayAdopt::Yes;
        }
        if rows >= bounds.sessions {
            let is_less = rows.saturating_sub(missing) < bounds.sessions;
            return if is_less { MayAdopt::Later } else { MayAdopt::TooMany };
        }
        let is_old = |at: u64| now_ms.saturating_sub(at) > bounds.window_ms;
        while self.0.front().is_some_and(|(at, _)| is_old(*at)) {
            self.0.pop_front();
        }
        if self.0.len() >= bounds.adoptions {
            return MayAdopt::TooOften;
        }
        self.0.push_back((now_ms, id));
        MayAdopt::Yes
    }

    /// It was not adopted, through no fault of its host, as there were no votes: its host tells of it again and again.
    pub fn take_back(&mut self, id: SessionId) {
        if let Some(at) = self.0.iter().rposition(|(_, known)| *known == id) {
            self.0.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const BOUNDS: Bounds = Bounds { sessions: 4, adoptions: 2, window_ms: 100 };

    fn id(n: u128) -> SessionId {
        SessionId::new(Uuid::from_u128(n))
    }

    #[test]
    fn a_host_is_believed_within_its_bounds() {
        let mut lately = Adoptions::default();
        assert_eq!(lately.may_adopt(id(1), (4, 0), 0, &BOUNDS), MayAdopt::TooMany);
        for n in [1, 2] {
            assert_eq!(lately.may_adopt(id(n), (3, 0), 7, &BOUNDS), MayAdopt::Yes);
        }
        assert_eq!(lately.may_adopt(id(3), (3, 0), 107, &BOUNDS), MayAdopt::TooOften);
        assert_eq!(
            lately.may_adopt(id(3), (3, 0), 108, &BOUNDS),
            MayAdopt::Yes,
            "that is long ago"
        );
    }

    /// Else a host whose invented sessions are over could never have another one adopted.
    #[test]
    fn what_is_about_to_go_goes_first() {
        let may =
            |rows, missing| Adoptions::default().may_adopt(id(1), (rows, missing), 0, &BOUNDS);
        assert_eq!(may(3, 3), MayAdopt::Yes);
        assert_eq!(may(7, 4), MayAdopt::Later);
        assert_eq!(may(7, 3), MayAdopt::TooMany);
    }

    #[test]
    fn what_could_not_be_recorded_does_not_count_against_its_host() {
        let mut lately = Adoptions::default();
        for n in 0..9 {
            assert_eq!(lately.may_adopt(id(1), (0, 0), n, &BOUNDS), MayAdopt::Yes);
            lately.take_back(id(1));
        }
        lately.may_adopt(id(1), (0, 0), 9, &BOUNDS);
        lately.may_adopt(id(2), (0, 0), 9, &BOUNDS);
        lately.take_back(id(3));
        assert_eq!(lately.may_adopt(id(3), (0, 0), 9, &BOUNDS), MayAdopt::TooOften);
    }
}
