//! The pair in one thread, with a network, disks and clocks of our own: everything that happens follows from a seed.
//!
//! What is simulated is the real replica, the real disk twin, the real witness and the real life of a session of
//! `vsm_core`; only agents are small machines after the real ones. A run is faults first, when nothing may break, then
//! peace, when it must also get somewhere: both brokers up, then either one alone, then both again.

mod agent;
mod broker;
mod checks;
mod client;
mod duties;
mod ending;
mod event;
mod faults;
mod login;
mod net;
mod plot;
mod rng;
mod run;
mod stories;
mod tell;
mod vote;
mod world;

pub use run::{Outcome, find_mutants, mutant_seed, run, run_many};
pub use vote::{Bound, Search, Weakness, search};
