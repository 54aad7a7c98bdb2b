//! The figures of a benchmark: as a line of JSON, as a table for people, as a section of docs/benchmarks.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::machine::Machine;

/// What docs/benchmarks.md begins with.
const PREFACE: &str = "\
# Benchmarks

The last figures of `cargo xtask bench --write`, each section with the machine that it comes from. Everything runs on
that one machine, in miniature hosts with their own network, so all sides share its CPUs and its disk. What counts is
the ratio to the peer that was measured in the same run, alternating: each measurement is compared with the one of the
peer right after it. All figures are medians, ratios are medians of the pairs' ratios. An aim that is missed is shown
as missed. `load before` is the machine's load average when the run began: figures of a busy machine say little.
";

/// Whether a figure is to be small or large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    AtMost,
    AtLeast,
}

/// A figure that we want to reach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Aim {
    name: &'static str,
    value: f64,
    aim: f64,
    met: bool,
    #[serde(skip)]
    want: Want,
}

/// All that one benchmark found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    aims: Vec<Aim>,
    figures: BTreeMap<String, f64>,
    pub(super) machine: Machine,
    /// What is measured, for the reader of the document.
    #[serde(skip)]
    about: &'static str,
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Report {
    pub(super) fn new(bench: &'static str, about: &'static str) -> Self {
        let (aims, figures, machine) = (Vec::new(), BTreeMap::new(), Machine::default());
        Self { bench, aims, figures, machine, about }
    }

    pub(super) fn aim(&mut self, name: &'static str, value: f64, want: Want, aim: f64) {
        let met = match want {
            Want::AtMost => value <= aim,
            Want::AtLeast => value >= aim,
        };
        self.aims.push(Aim { name, value: rounded(value), aim, met, want });
    }

    pub(super) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), rounded(value));
    }

    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// For a terminal.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{}: {}\n", self.bench, self.machine_line());
        for Aim { name, value, aim, met, want } in &self.aims {
            let (sign, verdict) = (sign(*want), verdict(*met));
            text += &format!("  {name:<34} {value:>12.3}   aim {sign} {aim}: {verdict}\n");
        }
        for (name, value) in &self.figures {
            text += &format!("  {name:<34} {value:>12.3}\n");
        }
        text
    }

    fn machine_line(&self) -> String {
        let Machine { cpu, cores, kernel, fsync_p50_us, load1_before } = &self.machine;
        format!(
            "{cpu}, {cores} cores, Linux {kernel}, fsync p50 {fsync_p50_us:.0} µs, load before {load1_before}"
        )
    }

    fn section(&self) -> String {
        let mut text = format!("## {}\n\n{}\n", self.bench, self.about);
        let _ = write!(text, "\nMachine: {}.\n\n", self.machine_line());
        text += "| aim | value | wanted | |\n| --- | ---: | ---: | --- |\n";
        for Aim { name, value, aim, met, want } in &self.aims {
            let _ =
                writeln!(text, "| {name} | {value} | {} {aim} | {} |", sign(*want), verdict(*met));
        }
        text += "\n| figure | value |\n| --- | ---: |\n";
        for (name, value) in &self.figures {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text
    }

    /// Puts its section into the document; those of other benchmarks stay.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let before = fs::read_to_string(path).unwrap_or_default();
        fs::write(path, self.merged(&before)).with_context(|| path.display().to_string())
    }

    fn merged(&self, before: &str) -> String {
        let mut sections: BTreeMap<&str, String> = before
            .split("\n## ")
            .skip(1)
            .filter_map(|section| {
                Some((section.lines().next()?, format!("## {}\n", section.trim_end())))
            })
            .collect();
        sections.insert(self.bench, self.section());
        let sections: Vec<_> = sections.into_values().collect();
        format!("{PREFACE}\n{}", sections.join("\n"))
    }
}

fn sign(want: Want) -> &'static str {
    match want {
        Want::AtMost => "≤",
        Want::AtLeast => "≥",
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bench: &'static str, value: f64) -> Report {
        let mut report = Report::new(bench, "About it.");
        report.aim("ratio", value, Want::AtMost, 1.5);
        report.figure("one_ms", 12.3456);
        report
    }

    #[test]
    fn an_aim_is_met_on_its_side() {
        let mut report = report("start", 1.5);
        report.aim("share", 0.59, Want::AtLeast, 0.6);
        let met: Vec<_> = report.aims.iter().map(|aim| aim.met).collect();
        assert_eq!(met, [true, false]);
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json: serde_json::Value =
            serde_json::from_str(&report("start", 2.0).json().unwrap()).unwrap();
        assert_eq!(json["bench"], "start");
        assert_eq!(
            json["aims"][0],
            serde_json::json!({"name": "ratio", "value": 2.0, "aim": 1.5, "met": false})
        );
        assert_eq!(json["figures"]["one_ms"], 12.346);
    }

    #[test]
    fn a_section_replaces_its_own_and_keeps_the_others() {
        let first = report("start", 1.0).merged("");
        let both = report("lookup", 1.0).merged(&first);
        let again = report("start", 9.0).merged(&both);
        assert_eq!(again.matches("\n## ").count(), 2);
        assert_eq!(again.matches("| ratio | 9 | ≤ 1.5 | missed |").count(), 1);
        assert_eq!(again.matches("| ratio | 1 | ≤ 1.5 | met |").count(), 1);
        assert_eq!(report("start", 9.0).merged(&again), again);
    }
}
