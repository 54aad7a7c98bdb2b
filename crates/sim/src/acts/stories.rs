//! The stories that `plot` tells, stage by stage. The hero is the broker that was active when its story began. What it
//! says here happens to a pair without bugs too; only the outcome is another.

use vsm_core::Proposal;

use crate::{
    state::{
        broker::Then,
        plot::{Plot, Step},
    },
    world::World,
};

impl World {
    /// What most witnesses kept is needed until the peer has all of it, also of one that forgot its part.
    pub(crate) fn forgotten_in_resync(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                self.net.calm();
                self.cut_both(0, 1);
                self.drop_link();
                self.cut_witnesses(hero, &[2]);
                (0..20).for_each(|_| self.any_change(hero));
                Step::Next
            }
            2 if self.is_settled(hero) => {
                if !self.may_lose_promise() {
                    return Step::Done;
                }
                self.lose_promise(0, false);
                self.net.heal();
                self.cut_witnesses(hero, &[2]);
                self.cut_witnesses(other, &[1]);
                self.dial_now();
                Step::Next
            }
            // The other one has begun to catch up.
            3 if self.now > plot.since + 20 + self.rng.below(150) => {
                self.crash_broker(hero);
                self.address_to(other);
                Step::Next
            }
            4 if self.now > plot.since + 2500 => {
                self.start_broker(hero);
                Step::Done
            }
            _ => Step::Wait,
        }
    }

    /// A change of the witnesses is known to both brokers before the new ones count.
    pub(crate) fn roster_in_trouble(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        if self.agents.len() < 4 {
            return Step::Done;
        }
        match plot.stage {
            1 => {
                self.net.calm();
                let roster = [self.agents[3].name.clone()];
                self.propose(hero, Proposal::SetRoster(roster.into()), Then::Nothing);
                self.cut_both(0, 1);
                self.drop_link();
                Step::Next
            }
            2 if self.now > plot.since + 400 => {
                self.cut_witnesses(hero, &[0, 1, 2]);
                self.any_change(hero);
                self.address_to(other);
                Step::Next
            }
            3 if self.now > plot.since + 3000 => Step::Done,
            _ => Step::Wait,
        }
    }

    /// A reign that is alive and wanted is not disturbed by a node that cannot win.
    pub(crate) fn only_the_link(&mut self, plot: &mut Plot) -> Step {
        let highest = |world: &Self| {
            let counters = world.brokers.iter().map(|broker| broker.disk.promised.counter);
            counters.max().unwrap_or(0)
        };
        match plot.stage {
            1 => {
                self.net.calm();
                self.cut_both(0, 1);
                self.drop_link();
                self.set_address([true; 2]);
                Step::Next
            }
            2 if self.now > plot.since + 1500 => {
                plot.reign = highest(self);
                Step::Next
            }
            3 if self.now > plot.since + 3500 => {
                let now = highest(self);
                if now > plot.reign {
                    let from = plot.reign;
                    self.checks.duel(from, now, self.now);
                }
                Step::Done
            }
            _ => Step::Wait,
        }
    }

    pub(crate) fn promise_forgotten(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                // The other one is wanted. The promise waits for a disk that hangs.
                self.brokers[hero].hangs_until = self.now + 250;
                self.address_to(other);
                Step::Next
            }
            2 if !self.brokers[hero].is_up() => {
                self.brokers[hero].hangs_until = 0;
                self.address_to(hero);
                self.start_broker(hero);
                Step::Next
            }
            3 if self.is_ready(hero) => {
                self.any_change(hero);
                Step::Next
            }
            4 if self.now > plot.since + 200 => {
                self.net.heal();
                Step::Next
            }
            5 if self.now > plot.since + 500 => Step::Done,
            _ => Step::Wait,
        }
    }

    pub(crate) fn old_entry(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                self.isolate(hero);
                self.any_change(hero);
                Step::Next
            }
            // The entry is on the hero's disk only.
            2 if self.now > plot.since + 200 => {
                self.crash_broker(hero);
                self.address_to(other);
                Step::Next
            }
            // The other one's first entry is on its own disk and at the first witness.
            3 if self.is_active(other) && self.now > plot.since + 30 => Step::Next,
            4 if self.now > plot.since + 200 => {
                self.crash_broker(other);
                self.net.heal();
                self.cut_witnesses(hero, &[0]);
                self.cut_agents(other);
                self.address_to(hero);
                self.start_broker(hero);
                Step::Next
            }
            5 if self.is_active(hero) => {
                self.start_broker(other);
                if self.is_ready(hero) { Step::Next } else { Step::Wait }
            }
            5 if self.brokers[other].is_up() && !self.brokers[hero].is_up() => Step::Next,
            6 => {
                self.net.heal();
                self.address_to(other);
                Step::Next
            }
            7 if self.is_settled(other) => Step::Done,
            _ => Step::Wait,
        }
    }

    pub(crate) fn replaced_meets_blank(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                self.isolate(hero);
                self.address_to(other);
                Step::Next
            }
            2 if self.is_ready(other) => {
                self.any_change(other);
                self.any_change(other);
                Step::Next
            }
            3 if self.is_settled(other) => {
                if !self.lose_disk(other, false) {
                    return Step::Wait;
                }
                self.net.heal();
                for broker in [hero, other] {
                    self.cut_agents(broker);
                }
                self.address_to(hero);
                Step::Next
            }
            4 => {
                self.start_broker(other);
                Step::Next
            }
            5 if self.now > plot.since + 400 => {
                self.any_change(hero);
                Step::Next
            }
            6 if self.now > plot.since + 400 => Step::Done,
            _ => Step::Wait,
        }
    }

    pub(crate) fn rows_of_one_witness(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                self.cut_both(0, 1);
                self.drop_link();
                self.cut_witnesses(hero, &[1, 2]);
                self.brokers[hero].hangs_until = self.now + 1000;
                self.any_change(hero);
                Step::Next
            }
            // The change is at the first witness only.
            2 if self.now > plot.since + 120 => {
                self.crash_keeping(hero, 0);
                self.brokers[hero].hangs_until = 0;
                self.cut_witnesses(other, &[2]);
                self.address_to(other);
                Step::Next
            }
            3 if self.is_active(other) => Step::Next,
            // The other one has it, durably, and could not commit it.
            4 if self.now > plot.since + 200 => {
                self.crash_broker(other);
                self.net.heal();
                self.cut_witnesses(hero, &[0]);
                self.address_to(hero);
                self.start_broker(hero);
                Step::Next
            }
            5 if self.is_ready(hero) => {
                self.any_change(hero);
                Step::Next
            }
            6 if self.is_settled(hero) => {
                self.crash_broker(hero);
                self.net.heal();
                self.cut_witnesses(other, &[0]);
                self.address_to(other);
                self.start_broker(other);
                Step::Next
            }
            7 if self.is_settled(other) || self.now > plot.since + 1500 => Step::Done,
            _ => Step::Wait,
        }
    }

    pub(crate) fn witness_forgets(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                self.isolate(hero);
                self.cut_witnesses(other, &[2]);
                self.address_to(other);
                Step::Next
            }
            2 if self.is_ready(other) => {
                self.any_change(other);
                Step::Next
            }
            3 if self.is_settled(other) => {
                if !self.may_lose_promise() {
                    return Step::Done;
                }
                self.lose_promise(1, false);
                self.net.heal();
                self.cut_both(0, 1);
                self.cut_witnesses(hero, &[0]);
                self.cut_agents(other);
                Step::Next
            }
            4 if self.now > plot.since + 500 => {
                self.any_change(hero);
                Step::Next
            }
            5 if self.now > plot.since + 300 => Step::Done,
            _ => Step::Wait,
        }
    }

    pub(crate) fn near_and_gone(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match plot.stage {
            1 => {
                self.cut_both(0, 1);
                self.drop_link();
                Step::Next
            }
            2 if self.now > plot.since + 400 => {
                self.brokers[hero].hangs_until = self.now + 500;
                self.any_change(hero);
                Step::Next
            }
            3 if self.now > plot.since + 50 => {
                self.net.heal();
                Step::Next
            }
            // The peer has all; the hero's own disk does not.
            4 if self.now > plot.since + 300 => {
                (0..8).for_each(|_| self.any_change(hero));
                Step::Next
            }
            5 if self.now > plot.since + 100 => {
                self.cut_both(0, 1);
                Step::Next
            }
            6 if self.now > plot.since + 1500 => {
                self.crash_broker(hero);
                self.address_to(other);
                Step::Next
            }
            7 if self.is_settled(other) => Step::Done,
            _ => Step::Wait,
        }
    }

    pub(crate) fn interrupted_resync(&mut self, plot: &Plot) -> Step {
        let (hero, other) = (plot.hero, 1 - plot.hero);
        let wait = plot.since + 20 * u64::from(plot.stage % 5);
        match plot.stage {
            1 | 5 | 9 => {
                self.crash_broker(other);
                self.net.heal();
                for _ in 0..12 {
                    self.any_change(hero);
                }
                Step::Next
            }
            2 | 6 | 10 if self.now > plot.since + 100 => {
                self.start_broker(other);
                self.dial_now();
                Step::Next
            }
            // Somewhere on the way.
            3 | 7 if self.now > wait => {
                match self.rng.below(4) {
                    0 => self.crash_broker(other),
                    1 => self.crash_broker(hero),
                    2 => self.net.cut(hero, other),
                    _ => self.drop_link(),
                }
                let next = self.rng.index(2);
                self.address_to(next);
                Step::Next
            }
            4 | 8 if self.now > plot.since + 150 => {
                self.start_broker(hero);
                Step::Next
            }
            11 => Step::Done,
            _ => Step::Wait,
        }
    }
}
