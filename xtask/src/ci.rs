//! `cargo xtask ci`: what a change must pass.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::command::show;
use crate::compile::cargo;
use crate::progress::Progress;
use crate::setup::has_cargo_tool;
use crate::{advisories, test, tidy};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Skip `cargo xtask test`, because it was run before
    #[arg(long)]
    no_test: bool,
    /// Directory of the advisories that `cargo xtask advisories` takes; without one, that check is left out
    #[arg(long, value_name = "DIR", env = advisories::VARIABLE)]
    advisory_db: Option<OsString>,
}

/// One check: its name and how to run it.
type Check = (&'static str, Box<dyn Fn() -> Result<()>>);

/// Runs every check, also after one has failed, and says at the end which passed.
pub(crate) fn ci(options: &Options) -> Result<()> {
    let progress = Progress::new(true);
    let (mut passed, mut failed, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut checks = checks();
    if options.no_test {
        left_out.push("test");
    } else {
        checks.push(("test", Box::new(|| test::test(&test::Options::default()))));
    }
    if has_cargo_tool("cargo-deny") {
        checks.push((
            "deny",
            Box::new(|| show(cargo().args(["deny", "check", "bans", "licenses", "sources"]))),
        ));
    } else {
        left_out.push("deny (cargo-deny is not installed)");
    }
    // A database that is not there, or without cargo-deny, is a failure: somebody wants to know.
    if let Some(db) = options.advisory_db.clone().filter(|db| !db.is_empty()) {
        checks.push(("advisories", Box::new(move || advisories::check(Path::new(&db)))));
    } else {
        left_out.push("advisories (no database: --advisory-db or VSM_ADVISORY_DB)");
    }
    for (name, check) in checks {
        progress.step(name);
        match check() {
            Ok(()) => passed.push(name),
            Err(error) => {
                progress.step(format!("{name} failed: {error:#}"));
                failed.push(name);
            }
        }
    }
    let mut line = format!("ci: passed: {}", passed.join(", "));
    for (what, names) in [("failed", &failed), ("left out", &left_out)] {
        if !names.is_empty() {
            line += &format!("; {what}: {}", names.join(", "));
        }
    }
    println!("{line}");
    if failed.is_empty() { Ok(()) } else { bail!("{} of the checks failed", failed.len()) }
}

fn checks() -> Vec<Check> {
    let cargo_check = |words: &'static [&'static str]| -> Box<dyn Fn() -> Result<()>> {
        Box::new(move || show(cargo().args(words)))
    };
    vec![
        ("fmt", cargo_check(&["fmt", "--all", "--check"])),
        ("tidy", Box::new(tidy::report)),
        (
            "clippy",
            cargo_check(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
        ),
        ("doc tests", cargo_check(&["test", "--quiet", "--workspace", "--doc"])),
        ("doc", Box::new(|| show(&mut doc()))),
    ]
}

/// Of libraries alone: the program `vsm-config` and the library of that name would collide.
fn doc() -> Command {
    let mut doc = cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--lib"]).env("RUSTDOCFLAGS", "-D warnings");
    doc
}
