//! Building the product's programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{command, run, show};

/// The profile of programs with known holes.
const HOLES: &str = "holes";

/// Optimised or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// The compiler, whose own library is in each program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// For instance `1.95.0`.
    pub(crate) release: String,
    pub(crate) commit: String,
    /// What it compiles for: `x86_64-unknown-linux-gnu`.
    pub(crate) host: String,
}

impl Compiler {
    /// Asks the compiler that a work tree is built with.
    ///
    /// # Errors
    /// When it cannot run, or says something else.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let said = run(rustc(root).arg("--version").arg("--verbose"))?.stdout;
        let said = String::from_utf8(said)?;
        let line = |key: &str| {
            let found = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            Ok::<_, anyhow::Error>(
                found.with_context(|| format!("rustc says no {key}"))?.to_owned(),
            )
        };
        Ok(Self { release: line("release")?, commit: line("commit-hash")?, host: line("host")? })
    }
}

/// rustc, as cargo calls it in that work tree.
pub(crate) fn rustc(root: &Path) -> std::process::Command {
    let mut rustc = command(&[std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())]);
    rustc.current_dir(root);
    rustc
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The directory in which this program lies, and with it what is built in the same profile.
pub(crate) fn helper() -> Result<PathBuf> {
    std::env::current_exe().context("the path of xtask itself")
}

/// The target directory; also of a test, which lies a directory deeper than a program.
pub(crate) fn target() -> Result<PathBuf> {
    let helper = helper()?;
    let dir = helper.parent().context("the target directory")?;
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.parent().context("the target directory")?.to_owned())
}

/// Where the programs of a profile are put.
pub(crate) fn binaries(profile: Profile) -> Result<PathBuf> {
    Ok(target()?.join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    }))
}

/// cargo, as it called us.
pub(crate) fn cargo() -> std::process::Command {
    cargo_in(&root())
}

/// The same in a copy of the workspace.
pub(crate) fn cargo_in(root: &Path) -> std::process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = command(&[cargo]);
    command.current_dir(root);
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

/// Builds the product's programs with known holes, into a folder of their own.
pub(crate) fn build_with_holes() -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--profile", HOLES, "--features", "vsm-broker/holes,vsm-agent/holes"]);
    for package in ["broker", "root", "agent", "cli", "config", "sync", "bench"] {
        build.args(["--package", &format!("vsm-{package}")]);
    }
    show(build.arg("--bins"))
}

/// Where these are.
pub(crate) fn binaries_with_holes() -> Result<PathBuf> {
    Ok(binaries(Profile::Dev)?.with_file_name(HOLES))
}

/// Builds a program of the workspace optimised, with a feature, and runs it.
pub(crate) fn run_optimised(package: &str, feature: &str, arguments: &[String]) -> Result<()> {
    let mut run = cargo();
    run.args(["run", "--release", "--quiet", "--package", package, "--features", feature, "--"]);
    show(run.args(arguments))
}
