//! What is demanded after a heal: within seconds every session host starts and ends a desktop and votes, and from then
//! on no reign changes without a cause.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::clock::{self, wait_for};
use crate::cluster::Cluster;
use crate::pair::{self, NODES};

/// From the end of the heal on, until every host does its share.
const WITHIN: Duration = Duration::from_secs(30);
/// How often the reign is looked at; a change that is taken back shows in its number.
const LOOK: Duration = Duration::from_secs(1);
/// How long one login or end may try, in seconds; then it is tried anew as long as there is time.
const TRY_S: u32 = 10;
/// Each is placed by the configuration on one host alone, and is none of the drill's other users.
const PLACED: [(&str, &str); 3] = [("alice", "agent1"), ("bob", "agent2"), ("carol", "agent3")];

/// Has the configuration of both nodes place a user on each host.
pub(super) fn place(cluster: &Cluster) -> Result<()> {
    let mut words = vec!["vsm-config".to_owned()];
    for (user, agent) in PLACED {
        let folder = format!("/vsmserver/subclusters/only-{agent}");
        words.extend([format!("{folder}/agents={agent}"), format!("{folder}/users={user}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for node in NODES {
        cluster.output(node, "root", &words)?;
        cluster.output(node, "root", &["vsmctl", "reload"])?;
    }
    Ok(())
}

/// What each host failed to do in time; `healed` is when the heal was done.
pub(super) fn hosts(cluster: &Cluster, healed: Instant) -> Vec<String> {
    let end = healed + WITHIN;
    thread::scope(|scope| {
        let starts = PLACED
            .map(|(user, agent)| (agent, scope.spawn(move || starts(cluster, user, agent, end))));
        let votes = wait_for("every vote", end.saturating_duration_since(clock::now()), || {
            match mute(cluster) {
                Ok(mute) if mute.is_empty() => Ok(()),
                Ok(mute) => Err(mute.join("; ")),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        let mut failed: Vec<String> =
            votes.err().map(|error| format!("{error:#}")).into_iter().collect();
        for (agent, starts) in starts {
            let done = starts.join().unwrap_or_else(|_| Err(anyhow!("its thread died")));
            failed.extend(done.err().map(|error| format!("{agent}: {error:#}")));
        }
        failed
    })
}

/// Waits until a host has started and ended a desktop.
fn starts(cluster: &Cluster, user: &str, agent: &str, end: Instant) -> Result<()> {
    let left = end.saturating_duration_since(clock::now());
    wait_for("a start and an end", left, || {
        once(cluster, user, agent).map_err(|error| format!("{error:#}"))
    })
}

fn once(cluster: &Cluster, user: &str, agent: &str) -> Result<()> {
    let desktop = pair::login(cluster, user, TRY_S)?;
    let (limit, retry) = (TRY_S.to_string(), format!("--retry-for={TRY_S}"));
    let to = format!("{user}@tlha");
    cluster.output("client", user, &["timeout", "-k1", &limit, "vsm", "end", &retry, &to])?;
    match desktop {
        found if found.agent != agent => Err(anyhow!("{user} was placed on {}", found.agent)),
        // One whose end failed before: it shows nothing about starts.
        found if !found.created => Err(anyhow!("{user} was given an older desktop")),
        _ => Ok(()),
    }
}

/// What `vsmctl agent list --output json` prints, as far as it is looked at here.
#[derive(Debug, Deserialize)]
struct Agent {
    agent: String,
    state: String,
    detail: String,
    draining: bool,
    maintenance: Option<String>,
}

impl Agent {
    /// Why it does less than its share.
    fn trouble(&self) -> Option<String> {
        let why = match self {
            Self { state, detail, .. } if state != "up" || !detail.is_empty() => {
                format!("{state}: {detail}")
            }
            Self { draining: true, .. } => "is drained".to_owned(),
            Self { maintenance: Some(text), .. } => format!("in maintenance: {text}"),
            _ => return None,
        };
        Some(format!("{}: {why}", self.agent))
    }
}

/// The hosts that do not vote, or are not wholly there, each with why.
fn mute(cluster: &Cluster) -> Result<Vec<String>> {
    let active = *pair::active(cluster).first().context("nobody is active")?;
    let words = ["timeout", "10", "vsmctl", "agent", "list", "--output", "json"];
    let text = cluster.output(active, "root", &words)?;
    let agents: Vec<Agent> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let node = pair::node(cluster, active)?;
    let mut mute: Vec<String> = agents.iter().filter_map(Agent::trouble).collect();
    for (_, agent) in PLACED {
        let witness = node.witnesses.iter().find(|witness| witness.agent == agent);
        let why = match witness {
            Some(witness) if witness.up && witness.trouble.is_none() => continue,
            Some(witness) => witness.trouble.clone().unwrap_or_else(|| "down".to_owned()),
            None => "is no witness".to_owned(),
        };
        mute.push(format!("{agent} does not vote: {why}"));
    }
    Ok(mute)
}

/// The changes of the reign in this time.
pub(super) fn duels(cluster: &Cluster, time: Duration) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let began = clock::now();
    let mut before = reign(cluster)?;
    while began.elapsed() < time {
        crate::interrupt::check()?;
        clock::pause(LOOK.min(time.saturating_sub(began.elapsed())));
        let now = reign(cluster)?;
        if now != before {
            let after = began.elapsed().as_millis();
            found.push(format!("{before:?} became {now:?} within {after} ms"));
            before = now;
        }
    }
    Ok(found)
}

/// Each node's reign, and the highest that it promised: a claim that fails shows there.
fn reign(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let of = |host| {
        let node = pair::node(cluster, host)?;
        Ok((node.epoch.unwrap_or_default(), node.promised.unwrap_or_default()))
    };
    NODES.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_less_than_its_share_is_told_with_why() {
        let trouble = |json: &str| serde_json::from_str::<Agent>(json).unwrap().trouble();
        let well =
            r#"{"agent":"agent1","state":"up","detail":"","draining":false,"maintenance":null}"#;
        assert_eq!(trouble(well), None);
        assert_eq!(
            trouble(&well.replace(r#""detail":"""#, r#""detail":"lost what it had promised""#)),
            Some("agent1: up: lost what it had promised".to_owned())
        );
        assert_eq!(trouble(&well.replace("false", "true")), Some("agent1: is drained".to_owned()));
        assert!(trouble(&well.replace(r#""up""#, r#""down""#)).is_some());
    }
}
