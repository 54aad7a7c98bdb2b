//! The pair in one thread, with a network, disks and clocks of our own: everything that happens follows from a seed.
//!
//! What is simulated is the real replica, the real disk twin, the real witness and the real life of a session of
//! `vsm_core`; only agents are small machines after the real ones. A run is faults first, when nothing may break, then
//! peace, when it must also get somewhere: both brokers up, then either one alone, then both again.
//!
//! From the ground: `event`, `net`, `rng` and `tell`; `state`, who there is and what each holds; `checks`, the
//! promises, which see all of that; `world`, everything with its time; `acts`, what is done in it; `step`, from one
//! event to the next; `run`, a seed from beginning to end.

mod acts;
mod checks;
mod event;
mod net;
mod rng;
mod run;
mod state;
mod step;
mod tell;
mod vote;
mod world;

pub use run::{Outcome, find_mutants, mutant_seed, run, run_many};
pub use vote::{Bound, Search, Weakness, search};
