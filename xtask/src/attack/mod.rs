//! `cargo xtask attack`: tries to break into a whole running cluster in every way that is known, while a user logs in
//! every second.
//!
//! Each attempt has a control: the same means where it must succeed, so that no attempt counts as refused because its
//! means do not work. With `--hole` the daemons have a known hole, which the run must find.

mod calls;
mod case;
mod cases;
mod hole;
mod identities;
mod logins;
mod prepare;
mod report;
mod stage;
mod well;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use self::case::{Case, Seen};
use self::logins::Logins;
use self::report::{Done, Outcome, Verdict};
use self::stage::Stage;
use crate::clock::{self, wait_for};
use crate::cluster::Cluster;
use crate::compile::{self, Profile};
use crate::progress::Progress;
use crate::{interrupt, setup};

/// What an attempt may wait for that was begun before it.
const REST: Duration = Duration::from_secs(60);

/// How to attack.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these attempts; `NAME*` = all that begin so
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// List the attempts, and do nothing
    #[arg(long)]
    list: bool,
    /// Seconds of logins before the first attempt, with which those during the attempts are compared
    #[arg(long, default_value_t = 60)]
    quiet: u64,
    /// Give the daemons this hole, which has to be found
    #[arg(long, value_name = "NAME", conflicts_with_all = ["holes", "list"])]
    hole: Option<String>,
    /// Give them each hole in turn, and tell which attempt finds which
    #[arg(long, conflicts_with = "list")]
    holes: bool,
    /// Name of the cluster
    #[arg(long, default_value = "attack")]
    name: String,
    /// End with one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Do not build; use the programs that are there
    #[arg(long)]
    no_build: bool,
}

/// Attacks.
pub(crate) fn attack(options: &Options) -> Result<ExitCode> {
    let all = chosen(&options.only)?;
    if options.list {
        for case in &all {
            println!("{:<44} {:<24} {}", case.name, case.by.to_string(), case.gets);
        }
        return Ok(ExitCode::SUCCESS);
    }
    setup::setup(false)?;
    let holed = options.holes || options.hole.is_some();
    if !options.no_build {
        if holed { compile::build_with_holes()? } else { compile::build(Profile::Dev)? }
    }
    if options.holes {
        return hole::all(options);
    }
    let hole = options.hole.as_deref().map(hole::find).transpose()?;
    let only = hole.filter(|_| options.only.is_empty()).map(|hole| hole.found_by);
    let all = only.map_or(Ok(all), |found_by| chosen(&hole::names(found_by)))?;
    let outcome = run(options, &all, hole.map(|hole| hole.name))?;
    outcome.tell(options.json)?;
    Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The attempts of these names.
fn chosen(only: &[String]) -> Result<Vec<Case>> {
    let mut all = cases::all();
    if only.is_empty() {
        return Ok(all);
    }
    let fits = |wanted: &str, name: &str| match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    };
    if let Some(unknown) = only.iter().find(|one| !all.iter().any(|case| fits(one, &case.name))) {
        bail!("no attempt {unknown:?}: see --list");
    }
    all.retain(|case| only.iter().any(|one| fits(one, &case.name)));
    Ok(all)
}

/// Brings a cluster up, makes the attempts, and takes it down.
fn run(options: &Options, all: &[Case], hole: Option<&str>) -> Result<Outcome> {
    let progress = Progress::new(true);
    let binaries = programs(hole.is_some())?;
    let cluster =
        prepare::up(&options.name, &compile::helper()?, binaries.clone(), hole.is_some())?;
    let outcome = on(&cluster, options, all, hole, &progress, &binaries);
    if outcome.is_err() {
        tell_logs(&cluster);
    }
    let outcome = outcome?;
    cluster.down()?;
    Ok(outcome)
}

fn programs(holed: bool) -> Result<PathBuf> {
    if holed { compile::binaries_with_holes() } else { compile::binaries(Profile::Dev) }
}

fn tell_logs(cluster: &Cluster) {
    for (host, daemon) in
        [("tlha-primary", "vsmserver"), ("agent1", "vsmagent"), ("agent1", "vsm-agent-net")]
    {
        let log = cluster.daemon_log(host, daemon);
        for line in log.lines().rev().take(3) {
            eprintln!("{daemon} on {host}: {line}");
        }
    }
}

fn on(
    cluster: &Cluster,
    options: &Options,
    all: &[Case],
    hole: Option<&str>,
    progress: &Progress,
    binaries: &std::path::Path,
) -> Result<Outcome> {
    let stage = prepare::set(cluster, binaries, hole, progress)?;
    let logins = Logins::default();
    std::thread::scope(|scope| {
        logins.run(scope, cluster);
        let outcome = during(&stage, &logins, options, all, hole, progress);
        logins.stop();
        outcome
    })
}

fn during(
    stage: &Stage<'_>,
    logins: &Logins,
    options: &Options,
    all: &[Case],
    hole: Option<&str>,
    progress: &Progress,
) -> Result<Outcome> {
    let start = logins.mark();
    // The first login of each makes their desktop.
    wait_for("everybody's first login", REST, || {
        let made = logins.made_since(start);
        if made >= logins::USERS.into() { Ok(()) } else { Err(format!("{made} are in")) }
    })?;
    let quiet = logins.mark();
    let until = clock::now() + Duration::from_secs(options.quiet);
    while clock::now() < until {
        interrupt::check()?;
        clock::pause(Duration::from_millis(50));
    }
    let noisy = logins.mark();
    progress.step(format!("{} logins without an attack", logins.made_since(quiet)));
    let mut outcome = Outcome::new(hole);
    for case in all {
        interrupt::check()?;
        let done = attempt(stage, logins, case);
        interrupt::check()?;
        done.tell(options.json);
        outcome.add(done);
    }
    outcome.logins = report::Counts {
        made: logins.made_since(start),
        failed: logins.failed_since(start).len(),
        quiet_p99_ms: logins.p99_between(quiet, noisy),
        p99_ms: logins.p99_since(noisy),
    };
    for why in logins.failed_since(start) {
        eprintln!("a login failed: {why}");
    }
    Ok(outcome)
}

/// Does one: first its control, then the attempt; and looks at everybody else.
fn attempt(stage: &Stage<'_>, logins: &Logins, case: &Case) -> Done {
    let began = clock::now();
    let control = (case.control)(stage);
    let before = well::before(stage, logins);
    let seen = (case.attempt)(stage);
    let disturbed = before.and_then(|before| well::disturbed(stage, logins, &before));
    let verdict = match (seen, &control, disturbed) {
        (Ok(Seen::Won(said)), _, _) => Verdict::Succeeded(said),
        (Err(error), _, _) => Verdict::Broken(format!("the attempt failed to run: {error:#}")),
        (_, Err(error), _) => Verdict::Broken(format!("the control failed to run: {error:#}")),
        (_, Ok(Seen::Lost(said)), _) => Verdict::Broken(format!("the control was refused: {said}")),
        (_, _, Err(error)) => Verdict::Disturbed(format!("{error:#}")),
        (_, _, Ok(found)) if !found.is_empty() => Verdict::Disturbed(found.join("; ")),
        (Ok(Seen::Lost(said)), Ok(Seen::Won(_)), Ok(_)) => Verdict::Refused(said),
    };
    let control = match control {
        Ok(Seen::Won(said)) => format!("won {said}"),
        Ok(Seen::Lost(said)) => format!("lost {said}"),
        Err(error) => format!("{error:#}"),
    };
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Done::new(case, &verdict, &control, ms)
}
