//! Who is in the world, and what each holds. What it does with that is in `acts`.

pub(crate) mod agent;
pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod login;
pub(crate) mod plot;
