//! Breadth first over every state, so that what is found comes by a shortest path.

use std::hash::{Hash, Hasher};

use super::{
    model::{Bound, Weakness, World},
    pieces::Pieces,
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

/// A quick hash for small values: FNV-like over words, which is enough for states that differ in few bits.
#[derive(Debug, Default, Clone)]
struct Quick(u64);

impl Quick {
    const fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.mix(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_isize(&mut self, n: isize) {
        self.mix(n.unsigned_abs() as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
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

    fn add(&mut self, world: World, from: u32) {
        let slot = self.slot(&world);
        if self.slots[slot] != Self::FREE {
            return;
        }
        self.slots[slot] = u32::try_from(self.worlds.len()).unwrap_or(Self::FREE);
        self.worlds.push((world, from));
        if self.worlds.len() * 2 > self.slots.len() {
            self.slots = vec![Self::FREE; self.slots.len() * 2];
            for place in 0..self.worlds.len() {
                let slot = self.slot(&self.worlds[place].0);
                self.slots[slot] = u32::try_from(place).unwrap_or(Self::FREE);
            }
        }
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
    let (mut at, mut cut_short) = (0, false);
    while let Some((world, _)) = seen.worlds.get(at).copied() {
        if let Some(what) = rules.broken(&world) {
            let violation = Some(path(&mut rules, &seen.worlds, at, what));
            return Search { states: seen.worlds.len(), cut_short: false, violation };
        }
        cut_short = seen.worlds.len() >= limit;
        if cut_short {
            break;
        }
        rules.steps(&world, &mut steps);
        for (_, next) in steps.found.drain(..) {
            seen.add(next, u32::try_from(at).unwrap_or(u32::MAX));
        }
        at += 1;
    }
    Search { states: seen.worlds.len(), cut_short, violation: None }
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
