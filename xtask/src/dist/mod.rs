//! `cargo xtask dist`: the Debian packages and the tarball.
//!
//! `deploy/packages/NAME` says what is in a package: `install` lists its files, `control` describes it, the rest are
//! its maintainer scripts. Manual pages, completions and the default configuration are made by `vsm-manual`. The trees
//! are put together here and packed by dpkg-deb; no other packaging tool stands between the files and the package.
//!
//! The same commit gives the same bytes, wherever and by whomever it is built: `paths` keeps the building machine's
//! folders out of the programs, what is packed is as old as the commit, and `twice` checks it.

mod archive;
mod deb;
mod lint;
mod paths;
mod tree;
mod twice;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::command::{command, run, show};
use crate::compile::{self, Profile, cargo_in, root};
use crate::progress::Progress;
use crate::sbom::Inventory;
use crate::setup;
use crate::shipped::{About, CRATES, PACKAGES, git};

/// What packing needs, and what looking at the packages needs.
const NEEDED: [(&str, &str); 4] = [
    ("/usr/bin/dpkg-shlibdeps", "dpkg-dev"),
    ("/usr/bin/strip", "binutils"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/gzip", "gzip"),
];
const NEEDED_TO_LINT: [(&str, &str); 1] = [("/usr/bin/lintian", "lintian")];
/// Beside the packages, as `sha256sum --check` reads it.
const SUMS: &str = "SHA256SUMS";

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
    /// Build the commit twice, in different folders and as different as that can be, and compare every byte
    ///
    /// The committed tree is copied below target/reproducible and built there with folders, umask, time zone,
    /// language and CARGO_HOME of its own. If all bytes are the same, the packages are put where they always are; if
    /// not, the first file that differs is named, and both trees stay for a look. With --profile release it takes two
    /// whole builds.
    #[arg(long, conflicts_with_all = ["no_build", "lint"])]
    check_reproducible: bool,
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
    /// Version, architecture, commit and its time: what is packed is no newer.
    about: About,
    /// Whether the packages are for tests: packed fast rather than small.
    fast: bool,
}

/// One file that was built.
#[derive(Debug, Clone, Serialize)]
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

#[derive(Debug, Clone, Serialize)]
struct Report {
    version: String,
    commit: String,
    architecture: String,
    packages: Vec<Built>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tarball: Option<Built>,
    /// What is in each package, as CycloneDX.
    sboms: Vec<PathBuf>,
    /// The checksums of all of these.
    sums: PathBuf,
    /// Two builds gave the same bytes; nothing where that was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    reproducible: Option<bool>,
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
    let report = if options.check_reproducible { twice::check(options)? } else { once(options)? };
    let unexplained = report.lint.as_ref().map_or(0, |verdict| verdict.unexplained.len());
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    if unexplained > 0 {
        bail!(
            "lintian says what docs/packaging.md does not explain, {unexplained} line(s); see above"
        );
    }
    Ok(())
}

/// The work tree as it is, with the programs in its target directory.
fn once(options: &Options) -> Result<Report> {
    let root = root();
    let binaries = compile::binaries(options.profile.into())?;
    let target = binaries.parent().context("the target directory")?;
    if !options.no_build {
        let mut build = build(&root, options.profile);
        // As for users. The tests take what they have already built, and look at no path in it.
        if options.profile == DistProfile::Release {
            paths::rename(&mut build, &root, target, &paths::cargo_home()?)?;
        }
        show(&mut build)?;
    }
    if git(&root, &["status", "--porcelain"]).is_some() {
        Progress::new(true).step("note: there are changes that are not committed");
    }
    let out = options.out.clone().unwrap_or_else(|| target.join("dist"));
    let mut about = About::of(&root)?;
    about.version = options.version.clone().unwrap_or(about.version);
    let shop = workshop(options, root, binaries.clone(), &out, about)?;
    let mut report = pack(&shop, !options.no_tarball)?;
    report.lint = options.lint.then(|| lint::lint(&shop, &report.packages)).transpose()?;
    fs::remove_dir_all(&shop.scratch).with_context(|| shop.scratch.display().to_string())?;
    Ok(report)
}

fn build(root: &Path, profile: DistProfile) -> Command {
    let mut build = cargo_in(root);
    build.args(["build", "--locked", "--bins"]);
    for name in CRATES {
        build.args(["--package", name]);
    }
    if profile == DistProfile::Release {
        build.arg("--release");
    }
    build
}

fn workshop(
    options: &Options,
    root: PathBuf,
    binaries: PathBuf,
    out: &Path,
    about: About,
) -> Result<Workshop> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let out = out.canonicalize()?;
    let scratch = out.join(".work");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    }
    fs::create_dir_all(&scratch)?;
    Ok(Workshop {
        root,
        binaries,
        made: scratch.join("made"),
        scratch,
        out,
        about,
        fast: options.profile == DistProfile::Dev,
    })
}

/// Packs everything; what was thrown together for it is still in the scratch folder.
fn pack(shop: &Workshop, with_tarball: bool) -> Result<Report> {
    let progress = Progress::new(true);
    progress.step("manual pages, completions and default configuration");
    run(command(&[shop.binaries.join("vsm-manual").as_os_str()]).arg(&shop.made))?;
    progress.step("what is in the programs");
    let inventory = Inventory::of(&shop.root)?;
    let (mut packages, mut sboms) = (Vec::new(), Vec::new());
    for name in PACKAGES {
        let document = inventory.document(name, &shop.about)?;
        let file = shop.out.join(shop.about.sbom(name));
        tree::write(&file, document.as_bytes(), 0o644)?;
        sboms.push(file);
        let built = deb::package(shop, name, &document)?;
        progress.step(format!("{} ({})", built.file.display(), size(built.bytes)));
        packages.push(built);
    }
    let tarball = with_tarball.then(|| archive::tarball(shop)).transpose()?;
    if let Some(built) = &tarball {
        progress.step(format!("{} ({})", built.file.display(), size(built.bytes)));
    }
    let files = packages.iter().chain(&tarball).map(|built| &built.file).chain(&sboms);
    let sums = sums(shop, files)?;
    let commit = shop.about.commit().to_owned();
    let About { version, architecture, .. } = shop.about.clone();
    let (reproducible, lint) = (None, None);
    let report = Report {
        version,
        commit,
        architecture,
        packages,
        tarball,
        sboms,
        sums,
        reproducible,
        lint,
    };
    Ok(report)
}

/// Writes the checksums of what was built beside it.
fn sums<'a>(shop: &Workshop, files: impl Iterator<Item = &'a PathBuf>) -> Result<PathBuf> {
    let mut names: Vec<_> = files.filter_map(|file| file.file_name()).collect();
    names.sort();
    let mut sums = command(&["sha256sum", "--"]);
    let text = run(sums.args(names).current_dir(&shop.out))?.stdout;
    let file = shop.out.join(SUMS);
    tree::write(&file, &text, 0o644)?;
    Ok(file)
}

fn size(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}
