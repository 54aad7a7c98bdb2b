//! Finds the commit that the programs are built from, for `--version`: the one place that asks git.

use std::{path::Path, process::Command};

/// Digits of the commit's name: enough to find it in this repository for years to come.
const DIGITS: &str = "--short=12";

fn main() {
    // For a build from an unpacked archive, which has no git.
    println!("cargo::rerun-if-env-changed=VSM_COMMIT");
    let given = std::env::var("VSM_COMMIT").ok().filter(|given| !given.is_empty());
    let commit = given.or_else(|| {
        // Both change with each commit and each checkout. A path that is not there would mean a new build each time.
        for name in ["HEAD", "logs/HEAD"] {
            let path = git(&["rev-parse", "--git-path", name])?;
            if Path::new(&path).exists() {
                println!("cargo::rerun-if-changed={path}");
            }
        }
        git(&["rev-parse", DIGITS, "HEAD"])
    });
    println!("cargo::rustc-env=VSM_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// What git prints; none = there is no git, or this is no work tree.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
