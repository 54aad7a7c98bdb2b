//! Tells the story that a seed has: its beginning, which all have in common, and its end. `stories` has the stages.

use vsm_core::{
    Proposal,
    replica::{Replica, Standing},
};

use crate::{
    event::{BrokerId, Ev},
    state::{
        broker::Then,
        plot::{Plot, Step, Story},
    },
    world::World,
};

/// A stage that does not end is given up, and the plot with it.
const STAGE_MS_MAX: u64 = 4_000;
/// Between two looks at how far things are.
const LOOK_MS: u64 = 3;

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
