//! Tests on real hosts in miniature. They need root and fail without it.
//!
//! Each test has a cluster of its own, `t-NAME`, which takes a quarter of a second; nextest runs
//! them one after the other, so that timing is not disturbed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "also the tests' own helpers fail by panic")]

mod addresses;
mod agent_power;
mod attack;
mod bad_host;
mod bad_session;
mod bad_user;
mod bastion;
mod client_params;
mod configuration;
mod crash;
mod daemons;
mod debian;
mod desktop;
mod disk;
mod drain;
mod explain;
mod faults;
mod floods;
mod forecast;
mod garbage;
mod guide;
mod half_pair;
mod hooks;
mod hosts;
mod identities;
mod isolation;
mod least_power;
mod lifecycle;
mod lifetime;
mod limits;
mod lives;
mod login;
mod maintenance;
mod ocf_agent;
mod one_login;
mod operator;
mod pacemaker;
mod packages;
mod pair_of_brokers;
mod patience;
mod pcs;
mod placement;
mod preflight;
mod profiles;
mod resources;
mod rotation;
mod secrets;
mod service;
mod several;
mod shadow;
mod shares;
mod short_lives;
mod sides;
mod split;
mod ssh_config;
mod steps;
mod storm;
mod subclusters;
mod takeover;
mod tools;
mod trail;
mod viewer;
mod wall_clock;
mod web;
mod web_keys;

use std::path::Path;

use xtask::cluster::{Cluster, ClusterSpec};

/// The xtask program, which is PID 1 of the hosts.
const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// What the cluster of a test is called. `VSM_TEST_CLUSTERS` is another beginning than `t`, for a second run of the
/// tests on one machine: each takes down what stands under its names.
fn named(name: &str) -> String {
    let beginning = std::env::var("VSM_TEST_CLUSTERS").unwrap_or_else(|_| "t".to_owned());
    format!("{beginning}-{name}")
}

/// A fresh cluster for the test `name`.
fn cluster(name: &str) -> Cluster {
    Cluster::up(&spec(name)).unwrap()
}

/// A fresh pair of brokers for the test `name`, in step.
fn pair(name: &str) -> Cluster {
    let mut spec = ClusterSpec::pair(named(name), Path::new(XTASK));
    spec.fresh = true;
    let cluster = Cluster::up(&spec).unwrap();
    xtask::pair::in_step(&cluster, std::time::Duration::from_secs(60)).unwrap();
    cluster
}

fn spec(name: &str) -> ClusterSpec {
    let mut spec = ClusterSpec::new(named(name), Path::new(XTASK));
    spec.fresh = true;
    spec
}

/// What `words` print on `host`, where they must succeed.
fn on(cluster: &Cluster, host: &str, words: &[&str]) -> String {
    cluster.output(host, cluster.default_user(host).unwrap(), words).unwrap()
}
