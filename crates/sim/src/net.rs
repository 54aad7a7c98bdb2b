//! The network: cuts in one direction or both, loss, delay, reorder, duplication, and the pair's connection.

use crate::rng::Rng;

/// The network's state. Hosts are the two brokers, then the agents.
#[derive(Debug)]
pub(crate) struct Net {
    cut: Vec<Vec<bool>>,
    /// Of a hundred messages of agents' calls.
    pub(crate) loss: u64,
    pub(crate) dup: u64,
    /// Longest usual delay in milliseconds.
    pub(crate) delay: u64,
    /// The pair's connection, while there is one, and whether each direction has lost something.
    pub(crate) link: Option<u64>,
    pub(crate) broken: [bool; 2],
    pub(crate) conns: u64,
    /// Messages of the pair keep their order, as TCP gives; else they are lost, doubled and reordered one by one.
    pub(crate) in_order: bool,
    last: [u64; 2],
}

impl Net {
    pub(crate) fn new(hosts: usize, in_order: bool) -> Self {
        Self {
            cut: vec![vec![false; hosts]; hosts],
            loss: 0,
            dup: 0,
            delay: 3,
            link: None,
            broken: [false; 2],
            conns: 0,
            in_order,
            last: [0; 2],
        }
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from][to]
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut[from][to] = true;
    }

    pub(crate) fn heal(&mut self) {
        for row in &mut self.cut {
            row.fill(false);
        }
    }

    pub(crate) fn calm(&mut self) {
        self.heal();
        (self.loss, self.dup, self.delay) = (0, 0, 3);
    }

    /// When a message arrives; none = lost. Now and then one is very late.
    pub(crate) fn arrival(&self, now: u64, rng: &mut Rng) -> Option<u64> {
        if rng.percent(self.loss) {
            return None;
        }
        let late = if self.delay > 3 && rng.percent(4) { rng.range(200, 3000) } else { 0 };
        Some(now + rng.range(1, self.delay) + late)
    }

    /// When a message on the pair's connection arrives.
    pub(crate) fn peer_arrivals(&mut self, from: usize, now: u64, rng: &mut Rng) -> Vec<u64> {
        if self.in_order {
            let at = (now + rng.range(1, self.delay)).max(self.last[from]);
            self.last[from] = at;
            return vec![at];
        }
        let copies = if rng.percent(self.dup) { 2 } else { 1 };
        (0..copies).filter_map(|_| self.arrival(now, rng)).collect()
    }
}
