//! `cargo xtask test`: everything that runs the code.

use anyhow::{Result, bail};
use clap::Args;

use crate::command::show;
use crate::compile::{Profile, build, build_with_holes, cargo};
use crate::setup::{browsers, everything, setup};

/// The tests that bring clusters up, as nextest names them.
const CLUSTER_TESTS: &str = "package(xtask) & binary(cluster)";
/// Those among them that need what `setup::browsers` installs.
const BROWSER_TESTS: &str = "package(xtask) & binary(cluster) & test(/^web::/)";

/// What to run.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// Skip the tests that bring clusters up
    #[arg(long)]
    no_cluster: bool,
    /// Skip the tests with browsers, and do not install any
    #[arg(long)]
    no_browser: bool,
}

/// Installs, builds, tests.
pub(crate) fn test(options: &Options) -> Result<()> {
    if !options.no_cluster && !nix::unistd::geteuid().is_root() {
        bail!("the cluster tests need root; --no-cluster leaves them out");
    }
    if options.no_cluster {
        setup(false)?;
    } else {
        // All of it now: hosts stand on this machine's files, which are not to change under them.
        everything()?;
        if !options.no_browser {
            browsers(false)?;
        }
    }
    build(Profile::Dev)?;
    if !options.no_cluster
        && options.filter.as_deref().is_none_or(|filter| "attack".contains(filter))
    {
        // One test looks for a hole.
        build_with_holes()?;
    }
    let mut nextest = cargo();
    nextest.args(["nextest", "run", "--workspace"]);
    if options.no_cluster {
        nextest.args(["--filterset", &format!("not ({CLUSTER_TESTS})")]);
        // None of them waits.
        nextest.args(["--test-threads", "num-cpus"]);
    } else if options.no_browser {
        nextest.args(["--filterset", &format!("not ({BROWSER_TESTS})")]);
    }
    nextest.args(&options.filter);
    show(&mut nextest)
}
