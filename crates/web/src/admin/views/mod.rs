//! What is on the pages that show something, each by what the broker answers at that moment.

pub(super) mod agents;
pub(super) mod configuration;
pub(super) mod events;
pub(super) mod hosts;
pub(super) mod overview;
pub(super) mod pair;
pub(super) mod sessions;
