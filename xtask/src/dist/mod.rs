//! `cargo xtask dist`: the Debian packages and the tarball.
//!
//! `deploy/packages/NAME` says what is in a package: `install` lists its files, `control` describes it, the rest are
//! its maintainer scripts. Manual pages, completions and the default configuration are made by `vsm-manual`. The trees
//! are put together here and packed by dpkg-deb; no other packaging tool stands between the files and the package.

mod archive;
mod deb;
mod lint;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::command::{command, run, show};
use crate::compile::{self, Profile, cargo, root};
use crate::progress::Progress;
use crate::setup;

/// The packages, in an order in which each depends on those before it alone.
pub(crate) const PACKAGES: [&str; 4] = ["vsm-common", "vsm-server", "vsm-agent", "vsm-client"];
/// The crates that have the programs, and the one that makes manual pages from them.
const CRATES: [&str; 4] = ["vsm-broker", "vsm-agent", "vsm-cli", "vsm-manual"];
/// What packing needs, and what looking at the packages needs.
const NEEDED: [(&str, &str); 4] = [
    ("/usr/bin/dpkg-shlibdeps", "dpkg-dev"),
    ("/usr/bin/strip", "binutils"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/gzip", "gzip"),
];
const NEEDED_TO_LINT: [(&str, &str); 1] = [("/usr/bin/lintian", "lintian")];

/// What to build.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Directory for the packages
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How to build the programs: as for users, or as the tests have already built them
    #[arg(long, value_enum, default_value_t = DistProfile::Release)]
    profile: DistProfile,
    /// Version of the packages, if not the workspace's
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Do not build; use the programs that are there
    #[arg(long)]
    no_build: bool,
    /// Do not build the tarball
    #[arg(long)]
    no_tarball: bool,
    /// Run lintian on the packages; anything that docs/packaging.md does not explain is an error
    #[arg(long)]
    lint: bool,
    /// Print what was built as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DistProfile {
    Release,
    Dev,
}

impl From<DistProfile> for Profile {
    fn from(profile: DistProfile) -> Self {
        match profile {
            DistProfile::Release => Self::Release,
            DistProfile::Dev => Self::Dev,
        }
    }
}

/// Where things are while packages are built.
struct Workshop {
    /// The workspace.
    root: PathBuf,
    /// The programs.
    binaries: PathBuf,
    /// What `vsm-manual` made.
    made: PathBuf,
    /// For what is thrown away.
    scratch: PathBuf,
    out: PathBuf,
    version: String,
    architecture: String,
    /// Time of the commit, in seconds since 1970: what is packed is no newer, so that the same commit gives the same
    /// bytes.
    epoch: i64,
    /// Whether the packages are for tests: packed fast rather than small.
    fast: bool,
}

/// One file that was built.
#[derive(Debug, Serialize)]
struct Built {
    name: String,
    file: PathBuf,
    bytes: u64,
    /// What it takes on the disk, in KiB; nothing for a tarball.
    #[serde(skip_serializing_if = "Option::is_none")]
    installed_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depends: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: String,
    commit: String,
    architecture: String,
    packages: Vec<Built>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tarball: Option<Built>,
    /// What lintian said and docs/packaging.md explains; nothing where it was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    lint: Option<lint::Verdict>,
}

/// Builds everything and says what it has built.
pub(crate) fn dist(options: &Options) -> Result<()> {
    setup::packages(&NEEDED, false)?;
    if options.lint {
        setup::packages(&NEEDED_TO_LINT, false)?;
    }
    let progress = Progress::new(true);
    if !options.no_build {
        build(options.profile.into())?;
    }
    let shop = workshop(options)?;
    progress.step("manual pages, completions and default configuration");
    run(command(&[shop.binaries.join("vsm-manual").as_os_str()]).arg(&shop.made))?;
    let mut packages = Vec::new();
    for name in PACKAGES {
        let built = deb::package(&shop, name)?;
        progress.step(format!("{} ({})", built.file.display(), size(built.bytes)));
        packages.push(built);
    }
    let tarball = (!options.no_tarball).then(|| archive::tarball(&shop)).transpose()?;
    if let Some(built) = &tarball {
        progress.step(format!("{} ({})", built.file.display(), size(built.bytes)));
    }
    let lint = options.lint.then(|| lint::lint(&shop, &packages)).transpose()?;
    fs::remove_dir_all(&shop.scratch).with_context(|| shop.scratch.display().to_string())?;
    let unexplained = lint.as_ref().map_or(0, |verdict| verdict.unexplained.len());
    if options.json {
        let (version, architecture) = (shop.version, shop.architecture);
        let commit = commit(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        let report = Report { version, commit, architecture, packages, tarball, lint };
        println!("{}", serde_json::to_string(&report)?);
    }
    if unexplained > 0 {
        bail!(
            "lintian says what docs/packaging.md does not explain, {unexplained} line(s); see above"
        );
    }
    Ok(())
}

fn build(profile: Profile) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--bins"]);
    for name in CRATES {
        build.args(["--package", name]);
    }
    if profile == Profile::Release {
        build.arg("--release");
    }
    show(&mut build)
}

fn workshop(options: &Options) -> Result<Workshop> {
    let binaries = compile::binaries(options.profile.into())?;
    let target = binaries.parent().context("the target directory")?;
    let out = options.out.clone().unwrap_or_else(|| target.join("dist"));
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let out = out.canonicalize()?;
    let scratch = out.join(".work");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    }
    fs::create_dir_all(&scratch)?;
    let architecture = run(&mut command(&["dpkg", "--print-architecture"]))?.stdout;
    let version = options.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    let epoch = commit(&["log", "-1", "--format=%ct"]).and_then(|text| text.parse().ok());
    if commit(&["status", "--porcelain"]).is_some() {
        Progress::new(true).step("note: there are changes that are not committed");
    }
    Ok(Workshop {
        root: root(),
        binaries,
        made: scratch.join("made"),
        scratch,
        out,
        version,
        architecture: String::from_utf8(architecture)?.trim().to_owned(),
        // From an archive without git the date is the archive's business.
        epoch: epoch.unwrap_or_default(),
        fast: options.profile == DistProfile::Dev,
    })
}

/// What git says of this work tree; none = nothing, or there is no git.
fn commit(arguments: &[&str]) -> Option<String> {
    let mut git = command(&["git"]);
    let output = run(git.args(arguments).current_dir(root())).ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn size(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}
