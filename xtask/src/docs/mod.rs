//! `cargo xtask docs`: builds the book, checks its links and, with `--run`, does what the guide says.

mod expect;
mod links;
mod page;
mod pictures;
mod report;
mod run;
mod steps;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

pub use self::report::Report;
pub use self::run::Guide;
pub use self::steps::Steps;
use crate::command::{command, run as captured, show};
use crate::compile::{self, cargo, root};
use crate::progress::Progress;
use crate::setup;

/// What builds the book; the version is fixed so that the pages look the same everywhere.
const MDBOOK: &str = "0.5.4";

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Follow the guide, block by block, on fresh hosts that have only the packages
    #[arg(long)]
    run: bool,
    /// Put pictures into the book: what users see in a browser
    #[arg(long, conflicts_with = "run")]
    pictures: bool,
    /// Print the result of the run as JSON
    #[arg(long, requires = "run")]
    json: bool,
    /// Only the pages that share their hosts with this one, such as convert.md
    #[arg(long, value_name = "PAGE", requires = "run")]
    only: Option<String>,
    /// With --only: continue at this line of the page, on the hosts that --keep has left
    #[arg(long, value_name = "LINE", requires = "only")]
    from: Option<usize>,
    /// Directory of the packages, if they are already built
    #[arg(long, value_name = "DIR", requires = "run")]
    packages: Option<PathBuf>,
    /// Keep the hosts after a failure
    #[arg(long, requires = "run")]
    keep: bool,
    /// Print the output of every command
    #[arg(long, requires = "run")]
    show: bool,
    /// The cluster's name
    #[arg(long, default_value = "docs", requires = "run")]
    name: String,
}

/// Builds or runs the book.
pub(crate) fn docs(options: &Options) -> Result<()> {
    // Who tries one page out may still be writing the others.
    let broken = if options.only.is_some() { Vec::new() } else { links::check(&root())? };
    if !broken.is_empty() {
        bail!("links that lead nowhere:\n{}", broken.join("\n"));
    }
    if options.run {
        return run(options);
    }
    let progress = Progress::new(true);
    build(&progress)?;
    if options.pictures { pictures::pictures(&progress) } else { Ok(()) }
}

fn build(progress: &Progress) -> Result<()> {
    install()?;
    let mut mdbook = command(&["mdbook", "build"]);
    captured(mdbook.arg(root().join("docs")))?;
    progress.step(format!("{}", root().join("target/book/index.html").display()));
    Ok(())
}

/// Not part of `setup`: it takes minutes to build, and only who reads the book as a book needs it.
fn install() -> Result<()> {
    let version = captured(&mut command(&["mdbook", "--version"]));
    let have = version.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).trim() == format!("mdbook v{MDBOOK}")
    });
    if have {
        return Ok(());
    }
    Progress::new(true).step(format!("cargo install mdbook {MDBOOK}"));
    let mut install = cargo();
    install.args(["install", "--locked", "--quiet", "mdbook", "--version", MDBOOK]);
    // Neither a server nor a search; and a book of this size needs no optimiser, which takes half of the time.
    show(install.args(["--no-default-features", "--debug"]))
}

/// The packages with the programs as tests have built them, in a folder of their own.
fn packages() -> Result<PathBuf> {
    let out = root().join("target/docs-packages");
    let mut dist = command(&[compile::helper()?.as_os_str()]);
    show(dist.args(["dist", "--profile", "dev", "--out"]).arg(&out))?;
    Ok(out)
}

fn run(options: &Options) -> Result<()> {
    setup::fresh_hosts()?;
    let packages = match &options.packages {
        Some(packages) => packages.canonicalize()?,
        None if options.from.is_some() => PathBuf::new(),
        None => packages()?,
    };
    let guide = Guide {
        book: root().join("docs"),
        name: options.name.clone(),
        helper: compile::helper()?,
        medium: Some(packages),
        only: options.only.clone(),
        from: options.from,
        keep: options.keep,
        progress: true,
        show: options.show,
    };
    let report = guide.run()?;
    for failure in &report.failures {
        eprintln!("docs/{failure}");
    }
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{} blocks, {} failed, {} not run; {} of 9 steps; failover {}; conversion {}",
            report.blocks,
            report.failed,
            report.not_run,
            report.steps,
            if report.failover_ok { "ok" } else { "not shown" },
            if report.converted_ok { "ok" } else { "not shown" },
        );
    }
    if report.failed > 0 { bail!("{} block(s) failed", report.failed) } else { Ok(()) }
}
