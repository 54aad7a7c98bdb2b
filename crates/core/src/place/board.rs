//! The counts of a list of agents side by side, kept with every change of the table: a placement walks one short array
//! instead of asking the table for each agent by its name.
//!
//! It decides nothing by itself. What an agent is compared by is what [`consider`](super::consider) says of it, and a
//! test compares the two for any table.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Eligible, Marks, Placement, Rank, Strategy, mix, per_weight};
use crate::{AgentName, AgentUse, Table};

/// Lists that are kept: subclusters in which logins make desktops at a time. With more the oldest is made anew.
const BOARDS_MAX: usize = 32;

/// All that are kept. A copy begins without any: they are made when they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Boards(Mutex<Vec<Board>>);

impl Clone for Boards {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Boards {
    /// Notes how an agent is used now.
    pub(crate) fn note(&mut self, agent: &AgentName, used: Option<&AgentUse>) {
        for board in self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if let Some(index) = board.find(agent) {
                board.seats[index] = Seat::used(&board.list[index], used, board.strategy);
            }
        }
    }

    /// The best agent of a list, and what it is compared by.
    pub(crate) fn best<'a>(
        &self,
        table: &Table,
        list: &'a Arc<[Eligible]>,
        want: Placement<'_>,
    ) -> Option<Rank<'a>> {
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let strategy = want.rule.strategy;
        let is = |board: &Board| board.strategy == strategy && Arc::ptr_eq(&board.list, list);
        if !boards.iter().any(is) {
            let same = |board: &Board| board.strategy == strategy && board.has_agents_of(list);
            let board = match boards.iter().position(same) {
                Some(index) => boards.remove(index).renewed(Arc::clone(list)),
                None => Board::new(table, Arc::clone(list), strategy),
            };
            if boards.len() == BOARDS_MAX {
                boards.remove(0);
            }
            boards.push(board);
        }
        boards.iter().find(|board| is(board))?.best(list, &Marks::new(table, want))
    }
}

/// One list, and how its agents are used.
#[derive(Debug)]
struct Board {
    list: Arc<[Eligible]>,
    strategy: Strategy,
    /// In the order of the list.
    seats: Vec<Seat>,
    /// Where they are in it, by name.
    by_name: Vec<usize>,
}

impl Board {
    fn new(table: &Table, list: Arc<[Eligible]>, strategy: Strategy) -> Self {
        let seat = |one: &Eligible| Seat::used(one, table.agent_use(&one.agent), strategy);
        let mut by_name: Vec<usize> = (0..list.len()).collect();
        by_name.sort_by(|one, other| list[*one].agent.cmp(&list[*other].agent));
        Self { seats: list.iter().map(seat).collect(), by_name, list, strategy }
    }

    /// Whether a list has the same agents in the same order, whatever else is new of them.
    fn has_agents_of(&self, list: &[Eligible]) -> bool {
        self.list.len() == list.len()
            && self.list.iter().zip(list).all(|(one, other)| one.agent == other.agent)
    }

    /// For such a list: who is where has not changed. Under load each figure that an agent tells makes a new list.
    fn renewed(self, list: Arc<[Eligible]>) -> Self {
        let Self { strategy, seats, by_name, .. } = self;
        let seat =
            |(one, was): (&Eligible, &Seat)| Seat::new(one, was.users, was.sessions, strategy);
        let seats = list.iter().zip(&seats).map(seat).collect();
        Self { list, strategy, seats, by_name }
    }

    fn find(&self, agent: &AgentName) -> Option<usize> {
        let place = self.by_name.binary_search_by(|index| self.list[*index].agent.cmp(agent));
        Some(self.by_name[place.ok()?])
    }

    /// Few agents have a mark or a session of the user: they are looked at one by one, all others by their seats.
    fn best<'a>(&self, list: &'a [Eligible], marks: &Marks<'_>) -> Option<Rank<'a>> {
        let mut apart: Vec<usize> = marks.agents().filter_map(|agent| self.find(agent)).collect();
        apart.sort_unstable();
        apart.dedup();
        let rank = |index: usize| marks.rank(&list[index], index as u64).ok();
        let seated = self.best_seat(&apart, marks.rule.tie).and_then(rank);
        let others = apart.iter().filter_map(|index| rank(*index));
        others.chain(seated).min_by(Rank::order)
    }

    /// The best of the agents that are not apart. None of them has a mark, and the user is a stranger to all.
    fn best_seat(&self, apart: &[usize], tie: u64) -> Option<usize> {
        let mut apart = apart.iter().copied().peekable();
        let chance = |index: usize| mix(tie ^ index as u64);
        let mut best: Option<(usize, Seat)> = None;
        for (index, seat) in self.seats.iter().enumerate() {
            if apart.next_if_eq(&index).is_some() || seat.is_full() {
                continue;
            }
            let order = best.as_ref().map(|(other, than)| {
                seat.order(than).then_with(|| chance(index).cmp(&chance(*other)))
            });
            if order.is_none_or(Ordering::is_lt) {
                best = Some((index, *seat));
            }
        }
        Some(best?.0)
    }
}

/// One agent.
#[derive(Debug, Clone, Copy)]
struct Seat {
    users: u32,
    sessions: u32,
    weight: u32,
    /// 0 = no limit.
    max_users: u32,
    /// How busy it is once one user more is there; 0 where that does not count.
    steps: u32,
    without_figures: bool,
}

impl Seat {
    fn used(one: &Eligible, used: Option<&AgentUse>, strategy: Strategy) -> Self {
        let (users, sessions) = used.map_or((0, 0), |used| (used.users(), used.sessions()));
        Self::new(one, users, sessions, strategy)
    }

    fn new(one: &Eligible, users: u32, sessions: u32, strategy: Strategy) -> Self {
        let (without_figures, steps) = match strategy {
            Strategy::Users => (false, 0),
            Strategy::Load(need) => {
                let busy = one.measured.map(|measured| measured.busy(sessions, need));
                (busy.is_none(), busy.map_or(0, |busy| busy.steps()))
            }
        };
        Self {
            users,
            sessions,
            weight: one.weight,
            max_users: one.max_users,
            steps,
            without_figures,
        }
    }

    const fn is_full(&self) -> bool {
        self.max_users != 0 && self.users >= self.max_users
    }

    /// As [`Rank::order_but_chance`] has it for a user who has no session there.
    fn order(&self, other: &Self) -> Ordering {
        let weights = (self.weight, other.weight);
        let with = |users: u32| u64::from(users) + 1;
        self.without_figures
            .cmp(&other.without_figures)
            .then_with(|| per_weight(self.steps.into(), other.steps.into(), weights))
            .then_with(|| per_weight(with(self.users), with(other.users), weights))
            .then_with(|| self.sessions.cmp(&other.sessions))
    }
}
