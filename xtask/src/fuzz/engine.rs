//! Building libFuzzer's program and running it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{corpus, folder};
use crate::command::{command, run, show, tail};
use crate::compile::{cargo, root};
use crate::{clock, interrupt};

/// Counters at each edge, and what is compared with what: LLVM's own names.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Processes for each target; they tell each other what they find by the folder that they share.
const JOBS: usize = 2;
/// Most memory of a job, in MiB.
const MEMORY_MAX: u32 = 2048;
/// Longest time for one input, in seconds.
const INPUT_MAX: u32 = 10;
/// What a job may need to come to its end.
const GRACE: Duration = Duration::from_secs(60);
/// How names of files begin that hold what was found.
const FINDINGS: [&str; 3] = ["crash-", "timeout-", "oom-"];

/// A target, as the program tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) length_max: usize,
}

/// What came of a target.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) execs: u64,
    pub(super) per_second: u64,
    /// Edges of the code that were reached.
    pub(super) coverage: u64,
    /// Inputs that reach all of it, in the folder of this machine.
    pub(super) inputs: usize,
    pub(super) findings: Vec<PathBuf>,
}

/// libFuzzer's program, and where its work lies.
#[derive(Debug)]
pub(super) struct Engine {
    program: PathBuf,
    work: PathBuf,
}

impl Engine {
    /// Builds it; cargo shows its own progress.
    pub(super) fn build() -> Result<Self> {
        let host = host_triple()?;
        let work = root().join("target/fuzz");
        let mut build = cargo();
        build.args([
            "build",
            "--package",
            "vsm-fuzz",
            "--bin",
            "vsm-fuzz",
            "--features",
            "libfuzzer",
        ]);
        // With a target named, neither build scripts nor macros are instrumented.
        build.args(["--profile", "fuzz", "--target", &host, "--target-dir"]).arg(&work);
        show(build.env("RUSTFLAGS", COVERAGE))?;
        Ok(Self { program: work.join(host).join("fuzz/vsm-fuzz"), work })
    }

    /// What the program can be asked for.
    pub(super) fn targets(&self) -> Result<Vec<Target>> {
        table(&String::from_utf8(run(&mut command(&[&self.program]))?.stdout)?)
    }

    /// The inputs that this machine has found so far.
    pub(super) fn found(&self, target: &Target) -> Result<PathBuf> {
        folder(&self.work.join("found").join(&target.name))
    }

    /// Runs a target for so long.
    pub(super) fn run(&self, target: &Target, time: Duration) -> Result<Found> {
        let findings = folder(&self.work.join("findings").join(&target.name))?;
        let before = files(&findings)?;
        let logs: Vec<_> =
            (1..=JOBS).map(|job| self.work.join(format!("{}-{job}.log", target.name))).collect();
        let mut jobs = logs
            .iter()
            .map(|log| self.start(target, time, &findings, log))
            .collect::<Result<Vec<_>>>()?;
        let deadline = clock::now() + time + GRACE;
        while jobs.iter_mut().any(|job| matches!(job.try_wait(), Ok(None))) {
            if clock::now() > deadline || interrupt::stopping() {
                jobs.iter_mut().try_for_each(Child::kill)?;
                bail!("{}: it does not come to its end", target.name);
            }
            clock::pause(Duration::from_millis(100));
        }
        let mut found = Found { inputs: files(&self.found(target)?)?.len(), ..Found::default() };
        for log in &logs {
            let text = fs::read(log)?;
            let (execs, coverage) = told(&String::from_utf8_lossy(&text));
            if execs == 0 && coverage == 0 {
                bail!("{}: it did not run:\n{}", target.name, tail(&text));
            }
            found.execs += execs;
            found.coverage = found.coverage.max(coverage);
        }
        found.per_second = found.execs / time.as_secs().max(1);
        let is_finding = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            FINDINGS.iter().any(|kind| name.starts_with(kind)) && !before.contains(path)
        };
        found.findings = files(&findings)?.into_iter().filter(is_finding).collect();
        Ok(found)
    }

    fn start(&self, target: &Target, time: Duration, findings: &Path, log: &Path) -> Result<Child> {
        let mut job = self.command(target);
        job.args([
            format!("-max_total_time={}", time.as_secs()),
            format!("-max_len={}", target.length_max),
            format!("-rss_limit_mb={MEMORY_MAX}"),
            format!("-timeout={INPUT_MAX}"),
            format!("-artifact_prefix={}/", findings.display()),
            "-print_final_stats=1".to_owned(),
            "-use_value_profile=1".to_owned(),
        ]);
        job.args([self.found(target)?, corpus(target)]);
        let said = File::create(log).with_context(|| log.display().to_string())?;
        job.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        job.spawn().with_context(|| self.program.display().to_string())
    }

    /// The program, for one target.
    pub(super) fn command(&self, target: &Target) -> Command {
        let mut command = command(&[&self.program]);
        command.env("VSM_FUZZ_TARGET", &target.name);
        command
    }

    /// What repeats a finding, to be typed.
    pub(super) fn again(&self, target: &Target, finding: &Path) -> String {
        let (program, finding) = (self.program.display(), finding.display());
        format!("VSM_FUZZ_TARGET={} {program} {finding}", target.name)
    }
}

/// The table that the program prints.
pub(super) fn table(text: &str) -> Result<Vec<Target>> {
    let target = |line: &str| {
        let mut words = line.split('\t');
        let name = words.next()?.to_owned();
        Some(Target { name, length_max: words.next()?.parse().ok()? })
    };
    text.lines().map(|line| target(line).with_context(|| format!("no target: {line}"))).collect()
}

/// How many inputs were tried and how many edges reached, by what libFuzzer tells. One that ended by a finding has no
/// final account: the last line of progress counts.
fn told(log: &str) -> (u64, u64) {
    let mut numbers = (0, 0);
    for line in log.lines() {
        if let Some(execs) = line.strip_prefix("stat::number_of_executed_units:") {
            numbers.0 = execs.trim().parse().unwrap_or(numbers.0);
        } else if let Some((execs, rest)) =
            line.strip_prefix('#').and_then(|line| line.split_once('\t'))
        {
            numbers.0 = execs.parse().unwrap_or(numbers.0);
            let coverage =
                rest.split_once("cov: ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            numbers.1 = coverage.unwrap_or(numbers.1);
        }
    }
    numbers
}

pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

/// The name of this machine's kind, as rustc has it.
pub(super) fn host_triple() -> Result<String> {
    let told = String::from_utf8(run(&mut command(&["rustc", "--version", "--verbose"]))?.stdout)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell what it is for")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_tells_is_read_also_where_it_ended_by_a_finding() {
        let log = "INFO: seed corpus: files: 7\n#8\tINITED cov: 90 ft: 91 corp: 5/200b exec/s: 0 rss: 40Mb\n\
                   #4096\tpulse  cov: 120 ft: 300 corp: 9/1Kb lim: 64 exec/s: 2048 rss: 41Mb\n";
        assert_eq!(told(log), (4096, 120));
        let done =
            format!("{log}#9000\tDONE   cov: 121 ft: 301\nstat::number_of_executed_units: 9001\n");
        assert_eq!(told(&done), (9001, 121));
        assert_eq!(told("sh: not found\n"), (0, 0));
    }

    #[test]
    fn the_table_of_targets_is_read() {
        let all = table("journal\t4096\ta half record is forgotten\n").unwrap();
        assert_eq!(all, [Target { name: "journal".to_owned(), length_max: 4096 }]);
        assert!(table("journal\n").is_err());
    }
}
