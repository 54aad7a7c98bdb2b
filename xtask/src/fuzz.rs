//! `cargo xtask fuzz`: gives each target of `vsm-fuzz` to libFuzzer for some minutes.
//!
//! The compiler of the workspace does it: the coverage that libFuzzer steers by is an option of LLVM, which takes no
//! nightly. Sanitizers and Miri do: the one crate with `unsafe` code is looked at by valgrind instead.

mod engine;
mod keep;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::command::show;
use crate::progress::Progress;
use crate::{compile, setup};
use engine::{Engine, Target};

/// How the engine is built: it is C++.
const NEEDED: [(&str, &str); 2] = [("/usr/bin/cc", "gcc"), ("/usr/bin/g++", "g++")];

/// What only may still be in use when the test ends is no error: the harness has such.
const VALGRIND: &str = "valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
    --show-leak-kinds=definite";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Minutes for each target
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Only this target; may be given several times
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Put inputs that reach new code into the corpora, smallest first, as far as there is room
    #[arg(long)]
    keep: bool,
    /// Run the tests of `vsm-pam`, which alone has `unsafe` code, under valgrind instead
    #[arg(long, conflicts_with_all = ["minutes", "target", "keep", "json"])]
    memory: bool,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

/// What came of all targets.
#[derive(Debug, Default, Serialize)]
struct Summary {
    targets: usize,
    minutes: u64,
    execs: u64,
    findings: usize,
}

/// Fuzzes.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    if options.memory {
        return memory();
    }
    setup::packages(&NEEDED, false)?;
    let progress = Progress::new(true);
    progress.step("building the targets");
    let engine = Engine::build()?;
    let targets = chosen(engine.targets()?, &options.target)?;
    let mut summary = Summary { minutes: options.minutes, ..Summary::default() };
    println!(
        "{:<16} {:>12} {:>8} {:>9} {:>6}  FINDINGS",
        "TARGET", "EXECS", "EXECS/S", "COVERAGE", "INPUTS"
    );
    for target in &targets {
        let found = engine.run(target, Duration::from_secs(options.minutes * 60))?;
        println!(
            "{:<16} {:>12} {:>8} {:>9} {:>6}  {}",
            target.name,
            found.execs,
            found.per_second,
            found.coverage,
            found.inputs,
            found.findings.len()
        );
        for finding in &found.findings {
            println!("  again: {}", engine.again(target, finding));
        }
        if options.keep {
            let kept = keep::keep(&engine, target)?;
            progress.step(format!("{}: {kept} inputs came into the corpus", target.name));
        }
        summary.targets += 1;
        summary.execs += found.execs;
        summary.findings += found.findings.len();
    }
    if options.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    match summary.findings {
        0 => Ok(()),
        findings => bail!(
            "{findings} findings; put each mended one into the corpus, with a name that tells what it was"
        ),
    }
}

/// Looks for wrong uses of memory, and for what is never freed, in what calls libpam.
fn memory() -> Result<()> {
    setup::packages(&[("/usr/bin/valgrind", "valgrind")], false)?;
    let host = engine::host_triple()?.to_ascii_uppercase().replace('-', "_");
    let mut tests = compile::cargo();
    tests.args(["test", "--package", "vsm-pam", "--lib"]);
    show(tests.env(format!("CARGO_TARGET_{host}_RUNNER"), VALGRIND))
}

/// All targets, or those that are named.
fn chosen(all: Vec<Target>, names: &[String]) -> Result<Vec<Target>> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|target| target.name != **name))
    {
        let known: Vec<_> = all.iter().map(|target| target.name.as_str()).collect();
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    let is_wanted = |target: &Target| names.is_empty() || names.contains(&target.name);
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// The corpus of a target that is in the repository.
fn corpus(target: &Target) -> PathBuf {
    compile::root().join("fuzz/corpus").join(&target.name)
}

/// A folder that is there.
fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path)?;
    Ok(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<Target> {
        engine::table("a\t10\tx holds\nb\t20\ty holds\n").unwrap()
    }

    #[test]
    fn targets_are_chosen_by_name_and_an_unknown_one_is_told() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(chosen(targets(), &[]).unwrap().len(), 2);
        assert_eq!(chosen(targets(), &names(&["b"])).unwrap()[0].length_max, 20);
        let error = chosen(targets(), &names(&["c"])).unwrap_err().to_string();
        assert!(error.contains("no target c") && error.contains("a, b"), "{error}");
    }
}
