//! The loop that drives the machines of a login, a start and an end of [`vsm_core::lifecycle`]: what a machine says is
//! carried out by real calls and commits, and it is told what came of that.

use crate::error::Refusal;

/// What came of an effect.
pub(super) enum Step<Event, Outcome> {
    /// Nothing that the machine waits for.
    Done,
    /// The machine is to hear of it.
    Happened(Event),
    /// The machine is at its end.
    Over(Outcome),
}

/// What carries out the effects of a machine. The machine decides by kinds; the driver keeps the words for people.
pub(super) trait Driver: Send {
    /// What the machine says.
    type Effect: Send;
    /// What it is told.
    type Event: Send;
    /// What it comes to.
    type Outcome: Send;

    /// Carries out one effect.
    fn carry_out(
        &mut self,
        effect: Self::Effect,
    ) -> impl Future<Output = Result<Step<Self::Event, Self::Outcome>, Refusal>> + Send;
}

/// Drives a machine to its end: from what it says first, by what it says of each event.
///
/// # Errors
/// If the driver refuses, or the machine waits for something that nobody tells it.
pub(super) async fn drive<D: Driver>(
    driver: &mut D,
    first: Vec<D::Effect>,
    mut handle: impl FnMut(D::Event) -> Vec<D::Effect> + Send,
) -> Result<D::Outcome, Refusal> {
    let mut effects = first;
    loop {
        let mut event = None;
        for effect in effects {
            match driver.carry_out(effect).await? {
                Step::Done => {}
                Step::Happened(happened) => event = Some(happened),
                Step::Over(outcome) => return Ok(outcome),
            }
        }
        let Some(event) = event else {
            return Err(Refusal::Internal("what was begun for a desktop came to no end".into()));
        };
        effects = handle(event);
    }
}
