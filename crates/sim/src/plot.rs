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
pub(crate) enum Story {
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
    /// The peer comes near while the own disk hangs, and goes again; the log has forgotten what the witnesses lack.
    NearAndGone,
    /// A broker that comes back is interrupted again and again.
    InterruptedResync,
    /// Only the brokers do not reach each other, and both are wanted.
    OnlyTheLink,
    /// A witness forgets what it kept, and the peer that lacks it has begun to catch up.
    ForgottenInResync,
    /// The witnesses change while the peer goes away.
    RosterInTrouble,
}

const STORIES: [Story; 10] = [
    Story::PromiseForgotten,
    Story::OldEntry,
    Story::ReplacedMeetsBlank,
    Story::RowsOfOneWitness,
    Story::WitnessForgets,
    Story::NearAndGone,
    Story::InterruptedResync,
    Story::OnlyTheLink,
    Story::ForgottenInResync,
    Story::RosterInTrouble,
];

/// A story under way.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    story: Story,
    pub(crate) stage: u8,
    /// When the stage began.
    pub(crate) since: u64,
    /// The broker that was active when it began.
    pub(crate) hero: BrokerId,
    begins: u64,
    on: bool,
    /// The highest reign when it was looked at.
    pub(crate) reign: u64,
}

/// What becomes of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    Next,
    Done,
}

impl Plot {
    /// Half of the seeds have one.
    pub(crate) fn draw(rng: &mut Rng) -> Option<Self> {
        let story = STORIES[rng.index(STORIES.len())];
        let begins = rng.range(1600, 5000);
        let plot = Self { story, stage: 0, since: 0, hero: 0, begins, on: false, reign: 0 };
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
            Story::NearAndGone => Limits { near: 32, log_keep: 2, ..Limits::DEFAULT },
            Story::InterruptedResync => Limits { append_max: 2, ..drawn },
            Story::PromiseForgotten
            | Story::ReplacedMeetsBlank
            | Story::RowsOfOneWitness
            | Story::WitnessForgets
            | Story::RosterInTrouble
            | Story::OnlyTheLink => drawn,
            Story::ForgottenInResync => Limits { append_max: 1, near: 0, ..Limits::DEFAULT },
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
                Story::NearAndGone => self.near_and_gone(&plot),
                Story::InterruptedResync => self.interrupted_resync(&plot),
                Story::OnlyTheLink => self.only_the_link(&mut plot),
                Story::ForgottenInResync => self.forgotten_in_resync(&plot),
                Story::RosterInTrouble => self.roster_in_trouble(&plot),
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
        let all = self.agents.iter().all(|agent| agent.up && agent.votes());
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

    pub(crate) fn address_to(&mut self, broker: BrokerId) {
        self.set_address([broker == 0, broker == 1]);
    }

    pub(crate) fn cut_witnesses(&mut self, broker: BrokerId, agents: &[usize]) {
        for agent in agents {
            self.cut_both(broker, agent + 2);
        }
    }

    pub(crate) fn cut_agents(&mut self, broker: BrokerId) {
        (0..self.agents.len()).for_each(|agent| self.cut_both(broker, agent + 2));
    }

    /// A change that no rule forbids.
    pub(crate) fn any_change(&mut self, broker: BrokerId) {
        if self.brokers[broker].is_up() {
            let agent = self.agents[self.rng.index(self.agents.len())].name.clone();
            let at = self.unix();
            self.propose(broker, Proposal::AgentFailed { agent, at }, Then::Nothing);
        }
    }

    pub(crate) fn is_ready(&self, broker: BrokerId) -> bool {
        self.brokers[broker].serves().is_some()
    }

    pub(crate) fn is_settled(&self, broker: BrokerId) -> bool {
        let all = |replica: &Replica| replica.commit() == replica.log().last().seq;
        self.is_ready(broker) && self.brokers[broker].replica.as_ref().is_some_and(all)
    }

    pub(crate) fn is_active(&self, broker: BrokerId) -> bool {
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
}
