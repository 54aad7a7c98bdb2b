//! The life of a session as pure machines: events in, effects out, no clock and no network of their own.
//!
//! The broker's tasks and the simulator drive the same code. Whoever drives one carries out the effects in their order
//! and feeds what comes of them; of several effects at once only the last can lead to an event.
//!
//! - [`Login`]: the session that a user has, or a new one.
//! - [`Start`]: one attempt to have an agent start a session.
//! - [`Unvoted`]: the same without votes.
//! - [`End`], [`Burial`]: the end of a session, and of a start that is given up.
//! - [`reported`], [`expected`], [`missed`], [`owed`]: the table against what an agent runs.
//! - [`Adoptions`]: how much of what only an agent knows is believed.

mod adoption;
pub mod ending;
pub mod login;
mod reconcile;
mod start;
mod unvoted;

pub use adoption::{Adoptions, Bounds, MayAdopt};
pub use ending::{Burial, End};
pub use login::{Login, uncounted};
pub use reconcile::{Missed, Owed, Reported, expected, is_stale, missed, owed, reported};
pub use start::{Effect, Event, Outcome, Proposed, Start};
pub use unvoted::{Answered, Next, Unvoted};
