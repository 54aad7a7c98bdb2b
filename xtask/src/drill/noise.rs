//! Errors that a process logs again and again while all is well.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::pair;

/// Within which the same error twice is noise, in microseconds.
const MINUTE_US: u64 = 60_000_000;

/// How far each daemon's log had come at a moment.
#[derive(Debug)]
pub(super) struct Mark(Vec<(String, &'static str, usize)>);

impl Mark {
    /// From now on.
    pub(super) fn now(cluster: &Cluster) -> Self {
        let of = |host: &str| {
            let daemon = cluster.product_daemon(host).ok();
            let also = daemon.filter(|daemon| *daemon == "vsmagent").map(|_| "vsm-agent-net");
            let lines = |daemon| cluster.daemon_log(host, daemon).lines().count();
            let marks = daemon.into_iter().chain(also);
            marks.map(|daemon| (host.to_owned(), daemon, lines(daemon))).collect::<Vec<_>>()
        };
        Self(cluster.hosts().iter().flat_map(|host| of(&host.name)).collect())
    }

    /// What each process has said again since.
    pub(super) fn noise(&self, cluster: &Cluster) -> Vec<String> {
        let of = |(host, daemon, before): &(String, &'static str, usize)| {
            let log = cluster.daemon_log(host, daemon);
            let found = repeated(log.lines().skip(*before));
            found.into_iter().map(|line| format!("{daemon} on {host}: {line}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

/// The lines of errors that were there within the last minute before them, each error once.
fn repeated<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let (Some(at), Some(error)) = (pair::log_time(line), error(line)) else { continue };
        if let Some(before) = last.insert(error.clone(), at)
            && at.abs_diff(before) < MINUTE_US
        {
            found.entry(error).or_insert_with(|| line.to_owned());
        }
    }
    found.into_values().collect()
}

/// Which error a line tells: who says it and the message, without the fields that follow it and without numbers.
fn error(line: &str) -> Option<String> {
    let (_, said) = line.trim_start().split_once(' ')?;
    let said = said.trim_start().strip_prefix("ERROR ")?;
    // What it belongs to stands before it: `session{request=… user=alice}: `.
    let (of, said) =
        said.split_once("}: ").filter(|(of, _)| of.contains('{')).unwrap_or(("", said));
    let of = of.split('{').next().unwrap_or_default();
    let words = [of]
        .into_iter()
        .filter(|of| !of.is_empty())
        .chain(said.split(' ').take_while(|word| !is_field(word)));
    let same = |c: char| if c.is_ascii_digit() { '#' } else { c };
    let key: String = words.collect::<Vec<_>>().join(" ").chars().map(same).collect();
    (!key.is_empty()).then_some(key)
}

/// `name=value`, with a name as code has it.
fn is_field(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "2026-01-02T01:02:03.000456Z ERROR vsm_broker::hosts::conduct: a host misbehaves agent=agent1 why=\"a b=c\"";

    #[test]
    fn an_error_is_its_message_without_what_varies() {
        assert_eq!(error(FIRST).unwrap(), "vsm_broker::hosts::conduct: a host misbehaves");
        assert_eq!(error(&FIRST.replace("ERROR", " WARN")), None);
        assert_eq!(error("panicked at nothing"), None);
        let of = FIRST.replace("ERROR ", "ERROR agent{agent=agent1 x=2}: ");
        assert_eq!(error(&of).unwrap(), "agent vsm_broker::hosts::conduct: a host misbehaves");
        let numbered = "2026-01-02T01:02:03Z ERROR x: port 9000 is taken";
        assert_eq!(error(numbered).unwrap(), "x: port #### is taken");
    }

    #[test]
    fn the_same_error_within_a_minute_is_noise_and_later_it_is_not() {
        let found = |second: &str| repeated([FIRST, second].into_iter());
        let soon = FIRST.replace("01:02:03", "01:02:53").replace("agent1", "agent2");
        assert_eq!(found(&soon), [&*soon]);
        assert!(found(&FIRST.replace("01:02:03", "01:03:04")).is_empty());
        assert!(found(&soon.replace("misbehaves", "is away")).is_empty());
        let thrice = [FIRST, FIRST, FIRST];
        assert_eq!(repeated(thrice.into_iter()).len(), 1, "each error once");
    }
}
