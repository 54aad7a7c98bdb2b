//! What npm's registry has, by npm itself: fetched once, and not without a network.

use std::process::Command;

use xtask::npm::{AXE, NOVNC};

#[test]
fn packages_are_had_from_the_registry_once_and_whole() {
    for (package, file) in [(NOVNC, "core/rfb.js"), (AXE, "axe.min.js")] {
        let dir = package.unpacked().unwrap();
        assert!(dir.join(file).metadata().unwrap().len() > 10_000, "{}", dir.display());
        // Without npm, as it is there now.
        assert_eq!(package.unpacked_in(dir.parent().unwrap(), none).unwrap(), dir);
    }
}

/// What is left of a fetch that somebody cut off is fetched again.
#[test]
fn a_package_that_is_not_whole_any_more_is_fetched_again() {
    let kept = NOVNC.unpacked().unwrap().with_extension("0.tgz");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(kept.file_name().unwrap());
    let bytes = std::fs::read(&kept).unwrap();
    std::fs::write(&copy, &bytes[..bytes.len() / 2]).unwrap();
    let unpacked = NOVNC.unpacked_in(dir.path(), || Command::new("npm")).unwrap();
    assert!(unpacked.join("core/rfb.js").is_file());
    assert_eq!(std::fs::read(&copy).unwrap(), bytes);
}

#[test]
fn without_a_registry_npm_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = NOVNC.unpacked_in(dir.path(), unreachable_registry).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("@novnc/novnc 1.7.0 cannot be had from npm's registry"), "{error}");
    assert!(error.contains("ECONNREFUSED"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something is left");
}

fn none() -> Command {
    Command::new("/nonexistent/npm")
}

/// A registry at a port that nobody listens on, and none of what was fetched before.
fn unreachable_registry() -> Command {
    let mut npm = Command::new("npm");
    npm.env("npm_config_registry", "http://127.0.0.1:9").env("npm_config_cache", "/nonexistent");
    npm
}
