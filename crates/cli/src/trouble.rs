//! What is wrong with hosts and brokers, and the next step, as lists show it.

use std::collections::BTreeMap;

use serde::Serialize;
use vsm_proto::agent::v1 as pb;

use crate::{exit::Failure, output};

/// Names that one line has; of what is beyond only the number is told.
const NAMES_MAX: usize = 8;

/// Something that is wrong; the JSON fields are stable.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Trouble {
    pub(crate) kind: String,
    pub(crate) what: String,
    pub(crate) since: Option<String>,
    pub(crate) next_step: String,
}

impl From<pb::Trouble> for Trouble {
    fn from(trouble: pb::Trouble) -> Self {
        Self {
            since: output::time(trouble.since_unix_ms),
            kind: trouble.kind,
            what: trouble.what,
            next_step: trouble.next_step,
        }
    }
}

impl Trouble {
    /// What, since when, and the next step.
    fn words(&self) -> String {
        let since = self.since.as_deref().map(output::to_the_second);
        let since = since.map(|since| format!(" (since {since})")).unwrap_or_default();
        format!("{}{since}: {}", self.what, self.next_step)
    }
}

/// One line for each trouble with the names of all that have it.
pub(crate) fn lines<'a>(all: impl Iterator<Item = (&'a str, &'a [Trouble])>) -> Vec<String> {
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for (name, troubles) in all {
        for words in troubles.iter().map(Trouble::words) {
            let having = names.entry(words.clone()).or_default();
            if having.is_empty() {
                order.push(words);
            }
            having.push(name);
        }
    }
    let line = |words: String| {
        let having = names.get(&words).map(Vec::as_slice).unwrap_or_default();
        let (shown, more) = having.split_at(having.len().min(NAMES_MAX));
        let more =
            if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        format!("{}{more}: {words}", shown.join(" "))
    };
    order.into_iter().map(line).collect()
}

/// The lines under a heading of their own, below a list; empty = there are none.
pub(crate) fn section(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("  - {line}\n")).collect();
    format!("\nto do\n{lines}")
}

/// How a command ends that is to tell by its exit code whether something is to do.
pub(crate) fn end(exit_code: bool, is_something: bool) -> Result<(), Failure> {
    if exit_code && is_something { Err(Failure::silent(1)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_have_is_told_once() {
        let of = |what: &str| {
            [Trouble {
                kind: "down".into(),
                what: what.into(),
                since: None,
                next_step: "look".into(),
            }]
        };
        let (a, b) = (of("down: refused"), of("other"));
        let names: Vec<String> = (0..10).map(|n| format!("h{n}")).collect();
        let mut all: Vec<(&str, &[Trouble])> =
            names.iter().map(|name| (name.as_str(), &a[..])).collect();
        all.insert(1, ("x", &b));
        assert_eq!(
            lines(all.into_iter()),
            ["h0 h1 h2 h3 h4 h5 h6 h7 and 2 more: down: refused: look", "x: other: look"]
        );
        assert_eq!(section(&[]), "");
    }
}
