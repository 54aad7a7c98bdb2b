//! Schedules that chance alone would hardly find: each is a story about a pair, told in stages, in which everything
//! goes wrong at the worst moment. What is right survives all of them; each was written for a bug that nothing else
//! found.

use vsm_core::{
    Proposal,
    replica::{Limits, Replica, Standing},
};

use crate::{
    broker::Then,
    event::{BrokerId, Ev},
    rng::Rng,
    world::World,
};

/// A stage that does not end is given up, and the plot with it.
const STAGE_MS_MAX: u64 = 4_000;
/// Between two looks at how far things are.
const LOOK_MS: u64 = 3;

/// Which story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// A promise is given, and forgotten in a crash before it was durable.
    PromiseForgotten,
    /// An entry of an old reign reaches both brokers after one of a later reign reached a witness.
    OldEntry,
    /// A broker that was replaced meets the one that replaced it, which has lost its disk since.
    ReplacedMeetsBlank,
    /// Rows of one witness are taken, and a reign that never had them commits others.
    RowsOfOneWitness,
    /// A witness forgets that it promised to the new reign, and the old one asks it.
    WitnessForgets,
    /// A broker that comes back is interrupted again and again.
    InterruptedResync,
}

const STORIES: [Story; 6] = [
    Story::PromiseForgotten,
    Story::OldEntry,
    Story::ReplacedMeetsBlank,
    Story::RowsOfOneWitness,
    Story::WitnessForgets,
    Story::InterruptedResync,
];

/// A story under way.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    story: Story,
    stage: u8,
    /// When the stage began.
    since: u64,
    /// The broker that was active when it began.
    hero: BrokerId,
    begins: u64,
    on: bool,
}

/// What becomes of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait,
    Next,
    Done,
}

impl Plot {
    /// Half of the seeds have one.
    pub(crate) fn draw(rng: &mut Rng) -> Option<Self> {
        let story = STORIES[rng.index(STORIES.len())];
        let begins = rng.range(1600, 5000);
        let plot = Self { story, stage: 0, since: 0, hero: 0, begins, on: false };
        rng.percent(50).then_some(plot)
    }

    /// Whether it is under way: then nothing else is to go wrong.
    pub(crate) const fn is_on(&self) -> bool {
        self.on
    }

    /// Where it takes place entry by entry, messages have one each.
    pub(crate) const fn limits(&self, drawn: Limits) -> Limits {
        match self.story {
            Story::OldEntry => Limits { append_max: 1, ..Limits::DEFAULT },
            Story::InterruptedResync => Limits { append_max: 2, ..drawn },
            Story::PromiseForgotten
            | Story::ReplacedMeetsBlank
            | Story::RowsOfOneWitness
            | Story::WitnessForgets => drawn,
        }
    }
}

impl World {
    /// Looks how far the story is, and goes on with it.
    pub(crate) fn plot_step(&mut self) {
        let Some(mut plot) = self.plot.take() else { return };
        self.after(LOOK_MS, Ev::Plot);
        if self.now < plot.begins {
            self.plot = Some(plot);
            return;
        }
        if !plot.on {
            (plot.on, plot.since) = (true, self.now);
            self.note(|| format!("plot: {:?}", plot.story));
            self.plot_calm();
        }
        let step = if plot.stage == 0 {
            self.plot_opening(&mut plot)
        } else {
            match plot.story {
                Story::PromiseForgotten => self.promise_forgotten(&plot),
                Story::OldEntry => self.old_entry(&plot),
                Story::ReplacedMeetsBlank => self.replaced_meets_blank(&plot),
                Story::RowsOfOneWitness => self.rows_of_one_witness(&plot),
                Story::WitnessForgets => self.witness_forgets(&plot),
                Story::InterruptedResync => self.interrupted_resync(&plot),
            }
        };
        if step == Step::Next {
            plot.stage += 1;
            plot.since = self.now;
            self.note(|| format!("plot: stage {}", plot.stage));
        }
        if step == Step::Done || self.now > plot.since + STAGE_MS_MAX {
            self.note(|| "plot: ends".to_owned());
            self.plot_calm();
        } else {
            self.plot = Some(plot);
        }
    }

    /// Everybody is there and reaches everybody; the address stays where it is.
    fn plot_calm(&mut self) {
        self.net.heal();
        for broker in 0..2 {
            self.brokers[broker].hangs_until = 0;
            self.after(50, Ev::Restart { broker });
        }
    }

    /// Each story begins with a pair in sync.
    fn plot_opening(&mut self, plot: &mut Plot) -> Step {
        let all = self.agents.iter().all(|agent| agent.up && !agent.quarantined);
        let Some(active) = self.active().filter(|_| all && self.is_in_sync()) else {
            return Step::Wait;
        };
        if self.brokers.iter().any(|broker| broker.paused_until > self.now) {
            return Step::Wait;
        }
        plot.hero = active;
        self.address_to(active);
        Step::Next
    }

    fn address_to(&mut self, broker: BrokerId) {
        self.set_address([broker == 0, broker == 1]);
    }

    fn cut_witnesses(&mut self, broker: BrokerId, agents: &[usize]) {
        for agent in agents {
            self.cut_both(broker, agent + 2);
        }
    }

    fn cut_agents(&mut self, broker: BrokerId) {
        (0..self.agents.len()).for_each(|agent| self.cut_both(broker, agent + 2));
    }

    /// A change that no rule forbids.
    fn any_change(&mut self, broker: BrokerId) {
        if self.brokers[broker].is_up() {
            let agent = self.agents[self.rng.index(self.agents.len())].name.clone();
            let at = self.unix();
            self.propose(broker, Proposal::AgentFailed { agent, at }, Then::Nothing);
        }
    }

    fn is_ready(&self, broker: BrokerId) -> bool {
        self.brokers[broker].serves().is_some()
    }

    fn is_settled(&self, broker: BrokerId) -> bool {
        let all = |replica: &Replica| replica.commit() == replica.log().last().seq;
        self.is_ready(broker) && self.brokers[broker].replica.as_ref().is_some_and(all)
    }

    fn is_active(&self, broker: BrokerId) -> bool {
        let standing = self.brokers[broker].replica.as_ref().map(Replica::standing);
        matches!(standing, Some(Standing::Active { .. }))
    }

    /// A broker has become something, and what it does about that has not left it yet.
    pub(crate) fn plot_turn(&mut self, id: BrokerId, now_is: &Standing) {
        let Some(plot) = self.plot.as_ref().filter(|plot| plot.on) else { return };
        let Standing::Active { ready, .. } = *now_is else { return };
        let (hero, other) = (plot.hero, 1 - plot.hero);
        match (plot.story, plot.stage) {
            (Story::PromiseForgotten, 2) if id == other => {
                self.isolate(other);
                self.after(0, Ev::Crash { broker: hero });
            }
            (Story::OldEntry, 3) if id == other => self.cut_witnesses(other, &[1, 2]),
            (Story::OldEntry, 5) if id == hero && ready => {
                self.after(0, Ev::Crash { broker: hero });
            }
            (Story::OldEntry, 5) if id == hero => self.cut_agents(hero),
            (Story::RowsOfOneWitness, 3) if id == other => {
                self.cut_agents(other);
            }
            _ => {}
        }
    }

    fn promise_forgotten(&mut self, plot: &Plot) -> Step {
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

    fn old_entry(&mut self, plot: &Plot) -> Step {
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

    fn replaced_meets_blank(&mut self, plot: &Plot) -> Step {
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

    fn rows_of_one_witness(&mut self, plot: &Plot) -> Step {
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

    fn witness_forgets(&mut self, plot: &Plot) -> Step {
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
                self.agents[1].lose_promise();
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

    fn interrupted_resync(&mut self, plot: &Plot) -> Step {
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
