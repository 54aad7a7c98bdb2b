//! `cargo xtask advisories` with a database of our own making, and no network.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking and say why, as the tests do"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A crate that is linked into everything, and one that nobody uses.
const USED: &str = "serde";
const UNUSED: &str = "a-crate-that-nobody-uses";

/// A folder with one advisory in it, about a crate.
fn database(name: &str, about: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("advisories-{name}"));
    let _ = fs::remove_dir_all(&dir);
    let folder = dir.join("crates").join(about);
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "```toml\n[advisory]\nid = \"RUSTSEC-2026-9999\"\npackage = \"{about}\"\ndate = \"2026-01-02\"\n\n\
         [versions]\npatched = []\n```\n\n# Says too much\n\nMade up.\n"
    );
    fs::write(folder.join("RUSTSEC-2026-9999.md"), text).unwrap();
    dir
}

fn git(dir: &Path, words: &[&str]) {
    let mut git = Command::new("git");
    git.arg("-C").arg(dir).args(["-c", "user.name=x", "-c", "user.email=x@y.invalid"]).args(words);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn xtask() -> Command {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.env_remove("VSM_ADVISORY_DB");
    xtask
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Whether it can be shown here; `.ci/run` installs what it needs.
fn can_be_shown() -> bool {
    let version = Command::new("cargo").args(["deny", "--version"]).output();
    let is_there = version.is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("not shown: cargo-deny is not installed");
    }
    is_there
}

#[test]
fn an_advisory_about_a_crate_of_ours_fails_and_names_it() {
    if !can_be_shown() {
        return;
    }
    // As it is fetched elsewhere: a repository, whose branch has some name.
    let dir = database("hits", USED);
    git(&dir, &["init", "--quiet", "--initial-branch=trunk"]);
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "--quiet", "--message=one"]);
    let output = xtask().arg("advisories").arg("--db").arg(&dir).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("1 advisories, the newest of 2026-01-02"), "{said}");
    assert!(said.contains("RUSTSEC-2026-9999") && said.contains("Says too much"), "{said}");
    assert!(said.contains(USED) && said.contains("advisories FAILED"), "{said}");
}

#[test]
fn an_advisory_about_another_crate_passes() {
    if !can_be_shown() {
        return;
    }
    // As it is unpacked from an archive: no repository; and named by the variable.
    let dir = database("misses", UNUSED);
    let output = xtask().arg("advisories").env("VSM_ADVISORY_DB", &dir).output().unwrap();
    let said = said(&output);
    assert!(output.status.success() && said.contains("advisories ok"), "{said}");
}

#[test]
fn what_is_no_database_is_named() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("advisories-none");
    fs::create_dir_all(&dir).unwrap();
    for (given, wanted) in [
        (vec!["advisories"], "--db <DIR>".to_owned()),
        (vec!["advisories", "--db", dir.to_str().unwrap()], dir.display().to_string()),
    ] {
        let output = xtask().args(given).output().unwrap();
        assert!(!output.status.success() && said(&output).contains(&wanted), "{}", said(&output));
    }
}
