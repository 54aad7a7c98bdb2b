//! `cargo xtask dist --check-reproducible`: two builds of one commit, as different as one machine can make them, and
//! what differs between them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::stat::{Mode, umask};

use super::{Options, Report, Workshop, build, pack, paths, workshop};
use crate::command::{command, run, show};
use crate::compile::{self, root};
use crate::progress::Progress;
use crate::shipped::{About, PACKAGES, git};

/// How one build differs from the other. Besides, the second is later.
struct Side {
    /// Its folder, below that of the check.
    folder: &'static str,
    umask: u32,
    time_zone: &'static str,
    language: &'static str,
    /// Whether cargo's home is in that folder too, with links to the crates that are already here.
    own_home: bool,
}

const SIDES: [Side; 2] = [
    Side { folder: "one", umask: 0o022, time_zone: "UTC", language: "C", own_home: false },
    Side {
        folder: "the-other/with/a-longer-name",
        umask: 0o077,
        time_zone: "Pacific/Auckland",
        language: "C.UTF-8",
        own_home: true,
    },
];
/// As many as `vsm-daemon` takes from git.
const COMMIT_DIGITS: usize = 12;
/// So many bytes of each file around the place where they differ are shown.
const SHOWN: usize = 48;

/// Builds twice and compares; the packages are then those of the first build.
pub(super) fn check(options: &Options) -> Result<Report> {
    let progress = Progress::new(true);
    let workspace = root();
    let mut about = About::of(&workspace)?;
    let commit = about.commit.clone();
    let commit = commit.with_context(|| {
        format!("{}: no git, so there is no commit to build", workspace.display())
    })?;
    if git(&workspace, &["status", "--porcelain"]).is_some() {
        progress.step("note: changes that are not committed are not in what is built");
    }
    about.version = options.version.clone().unwrap_or(about.version);
    let base = compile::helper()?;
    let base = base.ancestors().nth(2).context("the target directory")?.join("reproducible");
    if base.exists() {
        fs::remove_dir_all(&base).with_context(|| base.display().to_string())?;
    }
    let mut done = Vec::new();
    for side in &SIDES {
        progress.step(format!(
            "{} in {}",
            &commit[..COMMIT_DIGITS],
            base.join(side.folder).display()
        ));
        // Of the whole process: what is packed is made under it as well.
        let before = umask(Mode::from_bits_truncate(side.umask));
        let built = one(options, &workspace, &base, side, &about, &commit);
        umask(before);
        done.push(built?);
    }
    let [(one, report), (other, _)] = &done[..] else { bail!("two builds") };
    // What is in the packages first, since its name says more than that of a package.
    for (first, second) in [(&one.scratch, &other.scratch), (&one.out, &other.out)] {
        if let Some(difference) = compare(first, second)? {
            bail!("two builds of {commit} differ: {difference}; both are in {}", base.display());
        }
    }
    let out = options.out.clone().or_else(|| Some(base.parent()?.join("dist")));
    let report = take(report, one, &out.context("the target directory")?)?;
    fs::remove_dir_all(&base).with_context(|| base.display().to_string())?;
    progress.step(format!("the same bytes twice; {}", report.sums.display()));
    Ok(report)
}

fn one(
    options: &Options,
    workspace: &Path,
    base: &Path,
    side: &Side,
    about: &About,
    commit: &str,
) -> Result<(Workshop, Report)> {
    let root = base.join(side.folder);
    fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    let archive = base.join("commit.tar");
    let mut export = command(&["git", "archive", "--format=tar"]);
    run(export.arg("--output").arg(&archive).arg(commit).current_dir(workspace))?;
    run(command(&["tar", "--extract", "--file"]).arg(&archive).arg("--directory").arg(&root))?;
    let target = root.join("target");
    let mut home = paths::cargo_home()?;
    if side.own_home {
        home = own_home(&home, &base.join("cargo-home"))?;
    }
    let mut build = build(&root, options.profile);
    build.arg("--target-dir").arg(&target).env("CARGO_HOME", &home);
    build.env("TZ", side.time_zone).env("LC_ALL", side.language);
    // The copy has no git of its own.
    build.env("VSM_COMMIT", &commit[..COMMIT_DIGITS]);
    build.env("SOURCE_DATE_EPOCH", about.epoch.to_string());
    paths::rename(&mut build, &root, &target, &home)?;
    show(&mut build)?;
    let binaries = target.join(match options.profile {
        super::DistProfile::Release => "release",
        super::DistProfile::Dev => "debug",
    });
    let shop = workshop(options, root, binaries, &target.join("dist"), about.clone())?;
    let report = pack(&shop, !options.no_tarball)?;
    Ok((shop, report))
}

/// A home for cargo at another place, in which the crates that are already here need not be fetched again.
fn own_home(home: &Path, at: &Path) -> Result<PathBuf> {
    fs::create_dir_all(at).with_context(|| at.display().to_string())?;
    for name in ["registry", "git", "config.toml"] {
        let (from, to) = (home.join(name), at.join(name));
        if from.exists() && !to.exists() {
            symlink(&from, &to).with_context(|| to.display().to_string())?;
        }
    }
    Ok(at.to_owned())
}

/// Moves what the first build has made to where packages belong.
fn take(report: &Report, shop: &Workshop, out: &Path) -> Result<Report> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let out = out.canonicalize()?;
    let moved = |file: &PathBuf| -> Result<PathBuf> {
        let to = out.join(file.strip_prefix(&shop.out)?);
        fs::copy(file, &to).with_context(|| to.display().to_string())?;
        Ok(to)
    };
    let built = |built: &super::Built| -> Result<super::Built> {
        Ok(super::Built { file: moved(&built.file)?, ..built.clone() })
    };
    Ok(Report {
        packages: report.packages.iter().map(built).collect::<Result<_>>()?,
        tarball: report.tarball.as_ref().map(built).transpose()?,
        sboms: report.sboms.iter().map(moved).collect::<Result<_>>()?,
        sums: moved(&report.sums)?,
        reproducible: Some(true),
        ..report.clone()
    })
}

/// The first difference of two folders: names, modes, bytes; none = there is none.
fn compare(one: &Path, other: &Path) -> Result<Option<String>> {
    let (names, others) = (files(one)?, files(other)?);
    if let Some(name) = names.iter().find(|name| !others.contains(name)) {
        return Ok(Some(format!("{} is in the first alone", name.display())));
    }
    if let Some(name) = others.iter().find(|name| !names.contains(name)) {
        return Ok(Some(format!("{} is in the second alone", name.display())));
    }
    for name in &names {
        let mode = |dir: &Path| -> Result<u32> {
            Ok(fs::metadata(dir.join(name))?.permissions().mode() & 0o7777)
        };
        let read =
            |dir: &Path| fs::read(dir.join(name)).with_context(|| name.display().to_string());
        let (first, second) = (read(one)?, read(other)?);
        if first != second {
            return Ok(Some(format!("{}, {}", name.display(), difference(&first, &second))));
        }
        let (first, second) = (mode(one)?, mode(other)?);
        // What lies about while packing has the umask's; what is packed is under the name of its package.
        if first != second && PACKAGES.iter().any(|package| name.starts_with(package)) {
            return Ok(Some(format!("{}, mode {first:04o} and {second:04o}", name.display())));
        }
    }
    Ok(None)
}

/// Where two files begin to differ, and what is there.
fn difference(one: &[u8], other: &[u8]) -> String {
    let at = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(at + SHOWN);
        bytes[at.saturating_sub(SHOWN / 2).min(end)..end].escape_ascii().to_string()
    };
    format!(
        "{} and {} bytes, from byte {at} on: \"{}\" and \"{}\"",
        one.len(),
        other.len(),
        around(one),
        around(other)
    )
}

/// Every file below a folder, sorted; the scratch folder within another is looked at by itself.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if !path.is_dir() {
                found.push(path.strip_prefix(dir)?.to_owned());
            } else if path.file_name().is_some_and(|name| name != ".work") {
                open.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        let base = std::env::temp_dir().join(format!("vsm-twice-{}", std::process::id()));
        let (one, other) = (base.join("one"), base.join("other"));
        let write = |dir: &Path, name: &str, text: &str| {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        for dir in [&one, &other] {
            write(dir, "vsm-server/usr/bin/a", "the same");
            write(dir, ".work/b", dir.to_str().unwrap());
        }
        assert_eq!(compare(&one, &other).unwrap(), None);
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(one.join("vsm-server/usr/bin/a"), mode).unwrap();
        let found = compare(&one, &other).unwrap().unwrap();
        assert!(found.starts_with("vsm-server/usr/bin/a, mode 0600 and 0"), "{found}");
        write(&other, "vsm-server/usr/bin/a", "the /home");
        let found = compare(&one, &other).unwrap().unwrap();
        assert!(found.contains("8 and 9 bytes, from byte 4 on: \"the same\" and"), "{found}");
        write(&other, "vsm-server/usr/bin/b", "");
        let found = compare(&one, &other).unwrap().unwrap();
        assert_eq!(found, "vsm-server/usr/bin/b is in the second alone");
        fs::remove_dir_all(base).unwrap();
    }
}
