//! What came of all attempts: a line each, a summary, JSON.

use anyhow::Result;
use serde::Serialize;

use super::case::{By, Case};

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was refused, and its control succeeded.
    Refused(String),
    /// It got what it is for.
    Succeeded(String),
    /// It did not, and somebody else was disturbed.
    Disturbed(String),
    /// It says nothing: its means did not work.
    Broken(String),
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Succeeded(_) => "succeeded",
            Self::Disturbed(_) => "disturbed",
            Self::Broken(_) => "broken",
        }
    }

    fn said(&self) -> &str {
        match self {
            Self::Refused(said)
            | Self::Succeeded(said)
            | Self::Disturbed(said)
            | Self::Broken(said) => said,
        }
    }
}

/// One attempt that was made.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) name: String,
    by: By,
    gets: String,
    result: &'static str,
    said: String,
    control: String,
    calls: usize,
    ms: u64,
}

impl Done {
    pub(super) fn new(case: &Case, verdict: &Verdict, control: &str, ms: u64) -> Self {
        Self {
            name: case.name.clone(),
            by: case.by,
            gets: case.gets.clone(),
            result: verdict.word(),
            said: printable(verdict.said()),
            control: printable(control),
            calls: case.calls,
            ms,
        }
    }

    /// Says it in one line, on stderr where stdout is for JSON.
    pub(super) fn tell(&self, json: bool) {
        let said: String =
            self.said.chars().take(if self.result == "refused" { 90 } else { 600 }).collect();
        let line =
            format!("{:<9} {:<44} {:<24} {said}", self.result, self.name, self.by.to_string());
        if json { eprintln!("{line}") } else { println!("{line}") }
    }
}

/// What an attacker is answered may be meant for a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The logins.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Counts {
    pub(super) made: usize,
    pub(super) failed: usize,
    pub(super) quiet_p99_ms: u64,
    pub(super) p99_ms: u64,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    hole: Option<String>,
    attempts: usize,
    refused: usize,
    succeeded: usize,
    disturbed: usize,
    broken: usize,
    pub(super) logins: Counts,
    cases: Vec<Done>,
}

impl Outcome {
    pub(super) fn new(hole: Option<&str>) -> Self {
        Self { hole: hole.map(str::to_owned), ..Self::default() }
    }

    pub(super) fn add(&mut self, done: Done) {
        self.attempts += 1;
        *match done.result {
            "refused" => &mut self.refused,
            "succeeded" => &mut self.succeeded,
            "disturbed" => &mut self.disturbed,
            _ => &mut self.broken,
        } += 1;
        self.cases.push(done);
    }

    /// Whether all were refused, each control held, and nobody noticed anything.
    pub(super) const fn is_good(&self) -> bool {
        self.refused == self.attempts && self.logins.failed == 0
    }

    /// The attempts that found something: the names of those that succeeded or disturbed.
    pub(super) fn found(&self) -> Vec<&str> {
        let found = |done: &&Done| ["succeeded", "disturbed"].contains(&done.result);
        self.cases.iter().filter(found).map(|done| &*done.name).collect()
    }

    /// Ends with the summary.
    pub(super) fn tell(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let Counts { made, failed, quiet_p99_ms, p99_ms } = self.logins;
        println!(
            "{} attempts: {} refused, {} succeeded, {} disturbed somebody, {} broken; {made} logins, {failed} failed, \
             99 of 100 within {p99_ms} ms ({quiet_p99_ms} ms without an attack)",
            self.attempts, self.refused, self.succeeded, self.disturbed, self.broken
        );
        Ok(())
    }
}
