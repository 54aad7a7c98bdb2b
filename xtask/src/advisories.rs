//! `cargo xtask advisories`: whether anything known is wrong with the crates that we use, without a network.
//!
//! cargo-deny wants its database as a clone of a URL with a host name, in a folder whose name it makes from that URL
//! by a rule of its own. So it is given a URL that leads nowhere, and git is told that this is a folder: a repository
//! of the advisories that were handed to us, made for this one call. Then cargo-deny checks without fetching
//! anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::command::{command, run, show};
use crate::compile::{cargo, root};
use crate::progress::Progress;
use crate::setup::has_cargo_tool;

/// Where the folder is named for every call, such as in a CI that has no network.
pub(crate) const VARIABLE: &str = "VSM_ADVISORY_DB";
/// A name that no resolver knows: if git were not told where this is, cargo-deny would fail and not fetch.
const URL: &str = "https://advisories.invalid/advisory-db";
/// Where the line with the database goes in the configuration.
const SECTION: &str = "[advisories]\n";
/// Older databases say little of what is known today; cargo-deny has the same bound for a clone that nobody fetches.
const OLD_DAYS: i32 = 90;
/// Checks that run at the same time, or were killed.
const FOLDERS_MAX: u32 = 1000;

/// What to check with.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Directory of the advisories: a clone of RustSec's advisory-db, or an unpacked archive of it
    #[arg(long, value_name = "DIR", env = VARIABLE)]
    db: PathBuf,
}

/// Checks, and says of when the newest advisory is.
pub(crate) fn advisories(options: &Options) -> Result<()> {
    check(&options.db)
}

/// Fails if an advisory is about a crate in `Cargo.lock`, unless `deny.toml` says why that may be.
///
/// # Errors
/// Also when there is no cargo-deny, or no advisory in the folder.
pub(crate) fn check(db: &Path) -> Result<()> {
    ensure!(
        has_cargo_tool("cargo-deny"),
        "cargo-deny is not installed: cargo install --locked cargo-deny"
    );
    let known = Known::read(db)?;
    let progress = Progress::new(true);
    progress.step(format!("{} advisories, the newest of {}", known.count, known.newest));
    let now = jiff::Timestamp::from_microsecond(i64::try_from(crate::clock::unix_micros())?)?;
    let age = known.newest.until(now.to_zoned(jiff::tz::TimeZone::UTC).date())?.get_days();
    if age > OLD_DAYS {
        progress
            .step(format!("note: that is {age} days ago; what became known since is not in it"));
    }
    let scratch = Scratch::new()?;
    let source = repository(db, &scratch.0)?;
    let config = scratch.0.join("deny.toml");
    let text = fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let text = configuration(&text, &scratch.0.join("databases"))?;
    fs::write(&config, text).with_context(|| config.display().to_string())?;
    run(deny(&source).arg("--config").arg(&config).args(["fetch", "db"]))
        .context("cargo-deny does not take the database")?;
    // Also those that only other systems need: a build has not fetched them, and what follows may not.
    let mut fetch = cargo();
    run(fetch.args(["fetch", "--locked", "--quiet"]).current_dir(root()))
        .context("not all crates of Cargo.lock can be had")?;
    let mut deny = deny(&source);
    show(deny.arg("--offline").arg("--config").arg(&config).args(["check", "advisories"]))
}

/// What is in a database.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    count: usize,
    newest: jiff::civil::Date,
}

impl Known {
    fn read(db: &Path) -> Result<Self> {
        let (mut count, mut newest) = (0, None);
        let mut open = vec![db.join("crates")];
        ensure!(
            open[0].is_dir(),
            "{}: no database of advisories, which has a folder `crates`",
            db.display()
        );
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    let text = fs::read_to_string(&path);
                    count += 1;
                    newest = newest.max(date(&text.with_context(|| path.display().to_string())?));
                }
            }
        }
        let newest = newest.with_context(|| format!("{}: no advisory in it", db.display()))?;
        Ok(Self { count, newest })
    }
}

/// When an advisory was made known: the line `date = "2026-11-30"` at its head.
fn date(advisory: &str) -> Option<jiff::civil::Date> {
    let line = advisory.lines().find_map(|line| line.strip_prefix("date = \""))?;
    line.trim_end().strip_suffix('"')?.parse().ok()
}

/// The configuration, with the database in it.
fn configuration(text: &str, databases: &Path) -> Result<String> {
    let Some((before, after)) = text.split_once(SECTION) else {
        bail!("deny.toml has no [advisories]")
    };
    let databases = databases.display();
    let ours =
        format!("db-path = \"{databases}\"\ndb-urls = [\"{URL}\"]\ngit-fetch-with-cli = true\n");
    Ok(format!("{before}{SECTION}{ours}{after}"))
}

/// A repository with the advisories alone, whether they came in one or not, and whatever its branch is called.
fn repository(db: &Path, scratch: &Path) -> Result<PathBuf> {
    let source = scratch.join("source");
    let git = |words: &[&str]| run(plain(command(&["git", "-C"]).arg(&source).args(words)));
    run(plain(command(&["git", "init", "--quiet", "--initial-branch=main"]).arg(&source)))?;
    let crates = db.join("crates");
    run(command(&["cp", "--recursive", "--no-preserve=mode"]).arg(&crates).arg(&source))?;
    git(&["add", "--force", "."])?;
    let who = ["-c", "user.name=xtask", "-c", "user.email=xtask@vsm.invalid"];
    git(&[&who[..], &["commit", "--quiet", "--message=advisories"]].concat())?;
    Ok(source)
}

fn deny(source: &Path) -> Command {
    let mut deny = cargo();
    deny.arg("deny");
    plain(&mut deny);
    deny.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_VALUE_0", URL);
    deny.env("GIT_CONFIG_KEY_0", format!("url.{}.insteadOf", source.display()));
    deny
}

/// Without what this machine's user has set for git, or a hook of git's that runs us.
fn plain(command: &mut Command) -> &mut Command {
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1")
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir();
        for number in 1..=FOLDERS_MAX {
            let path = dir.join(format!("vsm-advisories-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        bail!("remove the old folders {}", dir.join("vsm-advisories-*").display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in the folder for what is of no use any more.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_put_where_the_section_begins() {
        let text =
            configuration("# x\n[advisories]\nignore = []\n\n[bans]\n", Path::new("/d")).unwrap();
        let wanted = "[advisories]\ndb-path = \"/d\"\ndb-urls = [\"https://advisories.invalid/advisory-db\"]\n";
        assert!(text.contains(wanted), "{text}");
        assert!(text.ends_with("ignore = []\n\n[bans]\n"), "{text}");
        assert!(configuration("[bans]\n", Path::new("/d")).is_err());
        let ours = fs::read_to_string(root().join("deny.toml")).unwrap();
        assert!(configuration(&ours, Path::new("/d")).is_ok());
    }

    #[test]
    fn an_advisory_has_a_date() {
        let text = "```toml\n[advisory]\nid = \"X\"\ndate = \"2026-11-30\"\n```\n";
        assert_eq!(date(text), Some(jiff::civil::date(2026, 11, 30)));
        assert_eq!(date("```toml\n```\n"), None);
    }
}
