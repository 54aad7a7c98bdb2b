//! Schedules that chance alone would hardly find: each is a story about a pair, told in stages, in which everything
//! goes wrong at the worst moment. What is right survives all of them; each was written for a bug that nothing else
//! found. Which there are, and how far one is told.

use vsm_core::replica::Limits;

use crate::{event::BrokerId, rng::Rng};

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
    pub(crate) story: Story,
    pub(crate) stage: u8,
    /// When the stage began.
    pub(crate) since: u64,
    /// The broker that was active when it began.
    pub(crate) hero: BrokerId,
    pub(crate) begins: u64,
    pub(crate) on: bool,
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
