//! Building the product's programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{command, show};

/// Optimised or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The directory in which this program lies, and with it what is built in the same profile.
pub(crate) fn helper() -> Result<PathBuf> {
    std::env::current_exe().context("the path of xtask itself")
}

/// Where the programs of a profile are put.
pub(crate) fn binaries(profile: Profile) -> Result<PathBuf> {
    let helper = helper()?;
    let target = helper.parent().and_then(Path::parent).context("the target directory")?;
    Ok(target.join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    }))
}

/// cargo, as it called us.
pub(crate) fn cargo() -> std::process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = command(&[cargo]);
    command.current_dir(root());
    command
}

/// Builds all programs of the product; cargo shows its own progress.
pub(crate) fn build(profile: Profile) -> Result<()> {
    let mut build = cargo();
    // Not xtask: it is running. Nor what has private parts made public for it.
    build.args(["build", "--workspace", "--exclude", "xtask", "--exclude", "vsm-fuzz", "--bins"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    show(&mut build)
}

/// Builds a program of the workspace optimised, with a feature, and runs it.
pub(crate) fn run_optimised(package: &str, feature: &str, arguments: &[String]) -> Result<()> {
    let mut run = cargo();
    run.args(["run", "--release", "--quiet", "--package", package, "--features", feature, "--"]);
    show(run.args(arguments))
}
