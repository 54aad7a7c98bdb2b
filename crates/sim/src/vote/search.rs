//! Every state once. Where a rule is left out, those are looked at first in which more has come to pass.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use super::{
    model::{Bound, Weakness, World},
    pieces::Pieces,
    quick::Quick,
    rules::{Rules, Steps},
};

/// What came of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Different states that were looked at: all, if nothing was found.
    pub states: usize,
    /// Whether the search stopped at its limit: then it says nothing about the rest.
    pub cut_short: bool,
    /// How a user gets two desktops, step by step.
    pub violation: Option<Vec<String>>,
}

/// Every state that was met, in order, each once; found again by its hash.
#[derive(Debug)]
struct Seen {
    worlds: Vec<(World, u32)>,
    /// Places in `worlds`, and [`Self::FREE`]; a power of two of them.
    slots: Vec<u32>,
}

impl Seen {
    const FREE: u32 = u32::MAX;

    fn new() -> Self {
        Self { worlds: Vec::new(), slots: vec![Self::FREE; 1 << 16] }
    }

    fn slot(&self, world: &World) -> usize {
        let mut hasher = Quick::default();
        world.hash(&mut hasher);
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hasher.finish()).unwrap_or(0) & mask;
        loop {
            let place = self.slots[at];
            let known = usize::try_from(place).ok().and_then(|place| self.worlds.get(place));
            if place == Self::FREE || known.is_some_and(|(known, _)| known == world) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// The place of a world that is new.
    fn add(&mut self, world: World, from: u32) -> Option<u32> {
        let slot = self.slot(&world);
        if self.slots[slot] != Self::FREE {
            return None;
        }
        let new = u32::try_from(self.worlds.len()).unwrap_or(Self::FREE);
        self.slots[slot] = new;
        self.worlds.push((world, from));
        if self.worlds.len() * 2 > self.slots.len() {
            self.slots = vec![Self::FREE; self.slots.len() * 2];
            for place in 0..self.worlds.len() {
                let slot = self.slot(&self.worlds[place].0);
                self.slots[slot] = u32::try_from(place).unwrap_or(Self::FREE);
            }
        }
        Some(new)
    }
}

/// Searches all states within a bound, at most `limit` of them, with all rules or without one.
#[must_use]
pub fn search(bound: &Bound, without: Option<Weakness>, limit: usize) -> Search {
    let pieces = Pieces::new(&bound.sessions, bound.claims);
    let mut rules = Rules { bound, without, pieces };
    let mut seen = Seen::new();
    seen.add(World::NEW, 0);
    let mut steps = Steps { found: Vec::new(), named: false };
    let mut open = vec![VecDeque::new(); 32];
    open[0].push_back(0_u32);
    while let Some(place) = open.iter_mut().rev().find_map(VecDeque::pop_front) {
        let at = usize::try_from(place).unwrap_or(0);
        let world = seen.worlds[at].0;
        if let Some(what) = rules.broken(&world) {
            let violation = Some(path(&mut rules, &seen.worlds, at, what));
            return Search { states: seen.worlds.len(), cut_short: false, violation };
        }
        if seen.worlds.len() >= limit || rules.pieces.full {
            return Search { states: seen.worlds.len(), cut_short: true, violation: None };
        }
        rules.steps(&world, &mut steps);
        for (_, next) in steps.found.drain(..) {
            if let Some(new) = seen.add(next, place) {
                let urgency = if without.is_some() { urgency(&next) } else { 0 };
                open[urgency].push_back(new);
            }
        }
    }
    Search { states: seen.worlds.len(), cut_short: false, violation: None }
}

/// How near two desktops are, at most 31.
fn urgency(world: &World) -> usize {
    let (runs, handed) = (world.runs.count_ones(), world.handed.count_ones());
    let urgency = 6 * handed + 3 * runs + u32::from(world.claims);
    usize::try_from(urgency).unwrap_or(0).min(31)
}

/// The steps to a state, told by taking them again.
fn path(rules: &mut Rules<'_>, order: &[(World, u32)], end: usize, what: String) -> Vec<String> {
    let mut path = vec![what];
    let mut at = end;
    while at != 0 {
        let (world, from) = order[at];
        at = usize::try_from(from).unwrap_or(0);
        let mut steps = Steps { found: Vec::new(), named: true };
        rules.steps(&order[at].0, &mut steps);
        let step = steps.found.into_iter().find(|(_, next)| *next == world);
        path.extend(step.map(|(name, _)| name));
    }
    path.reverse();
    path
}
