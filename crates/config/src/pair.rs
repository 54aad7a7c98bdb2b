//! Step 6 of setting a pair up: with HA on an agent is one host, whichever node looks.

use std::net::IpAddr;

use crate::{config::Config, keys};

/// An entry of an agents list that is another host for each node, or after each failover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MovingAgent {
    /// Path of the list.
    pub(crate) path: String,
    /// The entry.
    pub(crate) host: String,
    /// Why it cannot be there, in words that follow the entry.
    pub(crate) why: &'static str,
}

impl std::fmt::Display for MovingAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has {}, {}", self.path, self.host, self.why)
    }
}

impl Config {
    /// The first agent that cannot be one in a pair; none with HA off.
    pub(crate) fn moving_agent(&self) -> Option<MovingAgent> {
        if !self.get(&keys::ha::ENABLED) {
            return None;
        }
        let resource = self.get(&keys::ha::RESOURCE_ADDRESS);
        self.subclusters().into_iter().find_map(|subcluster| {
            let path = format!("/vsmserver/subclusters/{}/agents", subcluster.name);
            subcluster.agents.into_iter().find_map(|host| {
                let why = trouble(&host, &resource)?;
                Some(MovingAgent { path: path.clone(), host, why })
            })
        })
    }
}

fn trouble(host: &str, resource: &str) -> Option<&'static str> {
    let is_loopback = host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let local = name == "localhost" || name.ends_with(".localhost") || name == "ip6-localhost";
    if is_loopback || local {
        return Some(
            "which is each node's own loopback: with HA on an agent needs a name that means the same host on both nodes",
        );
    }
    let moves = !resource.is_empty() && host.eq_ignore_ascii_case(resource);
    moves.then_some(
        "which is the resource address: it moves, and an agent does not; name the host itself",
    )
}
