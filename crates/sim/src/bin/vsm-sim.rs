//! `vsm-sim`: runs seeds, one seed with its trace, or the deliberate bugs.

use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};
use vsm_core::replica::mutant::Mutant;

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 300;
/// The same for each deliberate bug; most are found in far fewer.
const MUTANT_SEEDS: u64 = 20_000;

/// Bounds the memory of the exhaustive search, far above what it needs.
const STATES_MAX: usize = 100_000_000;

/// Simulates the pair under faults; the last line of the output is the result.
#[derive(Debug, Parser)]
#[command(name = "vsm-sim", version)]
struct Cli {
    /// How many seeds: by default 300, and at most 20000 for each deliberate bug.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens, on stderr.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Look for each deliberate bug, with at most `--seeds` seeds for each; exit code 1 if one is not found.
    #[arg(long)]
    mutants: bool,
    /// Search every state of the vote core; see `vsm_sim::search`.
    #[arg(long, conflicts_with_all = ["mutants", "mutant", "seed", "seeds", "from"])]
    exhaustive: bool,
    /// Only this deliberate bug.
    #[arg(long)]
    mutant: Option<String>,
    /// Print only the result, as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let bad = error.use_stderr();
            drop(error.print());
            return ExitCode::from(if bad { 64 } else { 0 });
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let done = if cli.exhaustive {
        Ok(exhaustive())
    } else if cli.mutants || (cli.mutant.is_some() && cli.seed.is_none()) {
        mutants(&cli)
    } else {
        seeds(&cli)
    };
    match done {
        Ok((result, good)) => {
            out(&result);
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("vsm-sim: {error}"));
            ExitCode::from(64)
        }
    }
}

fn seeds(cli: &Cli) -> Result<(Value, bool), String> {
    if let Some(name) = &cli.mutant
        && !vsm_core::replica::mutant::set(Some(find(name)?))
    {
        return Err("this vsm-sim was built without the feature `mutants`".to_owned());
    }
    let many = cli.seeds.unwrap_or(SEEDS);
    let outcome = match cli.seed {
        Some(seed) => vsm_sim::run(seed, cli.trace),
        None => vsm_sim::run_many(cli.from, many, |_| {}),
    };
    if let Some(seed) = outcome.first {
        for violation in &outcome.violations {
            say(violation);
        }
        say(&format!("seed {seed} fails; see it with: vsm-sim --seed {seed} --trace"));
    }
    let seeds = if cli.seed.is_some() { 1 } else { many };
    let violations = outcome.violations.len();
    let mut result = json!({"seeds": seeds, "steps": outcome.steps, "violations": violations, "stalled": outcome.stalled});
    if let Some(seed) = outcome.first {
        result["first"] = json!(seed);
    }
    Ok((result, violations == 0))
}

fn exhaustive() -> (Value, bool) {
    let bounds = [vsm_sim::Bound::full(), vsm_sim::Bound::fencing(), vsm_sim::Bound::losses()];
    let found = bounds.map(|bound| vsm_sim::search(&bound, None, STATES_MAX));
    for step in found.iter().filter_map(|found| found.violation.as_ref()).flatten() {
        say(step);
    }
    let violations = found.iter().filter(|found| found.violation.is_some()).count();
    let complete = found.iter().all(|found| !found.cut_short);
    let [all, fencing, losses] = found.each_ref().map(|found| found.states);
    let result = json!({
        "states": all, "fencing_states": fencing, "losses_states": losses,
        "violations": violations, "complete": complete,
    });
    (result, violations == 0 && complete)
}

fn find(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.iter().find(|bug| bug.name() == name);
    known.copied().ok_or_else(|| format!("there is no mutant {name}"))
}

fn mutants(cli: &Cli) -> Result<(Value, bool), String> {
    let bugs: Vec<Mutant> = match &cli.mutant {
        Some(name) => vec![find(name)?],
        None => Mutant::ALL.to_vec(),
    };
    let tries = cli.seeds.unwrap_or(MUTANT_SEEDS);
    let told = |bug: Mutant, found: Option<&(u64, String)>| match found {
        _ if cli.json => {}
        Some((seed, what)) => say(&format!("{}: seed {seed}: {what:.150}", bug.name())),
        None => say(&format!("{}: not found in {tries} seeds", bug.name())),
    };
    let seeds = vsm_sim::find_mutants(&bugs, cli.from, tries, told)?;
    let (all, found) = (bugs.len(), seeds.len());
    let lifecycle = Mutant::LIFECYCLE.iter().filter(|bug| seeds.contains_key(bug.name())).count();
    let result = json!({
        "mutants": all, "found": found, "lifecycle_found": lifecycle, "seeds": seeds,
    });
    Ok((result, all == found))
}

#[expect(clippy::print_stdout, reason = "the result")]
fn out(value: &Value) {
    println!("{value}");
}

#[expect(clippy::print_stderr, reason = "what is for people")]
fn say(line: &str) {
    eprintln!("{line}");
}
