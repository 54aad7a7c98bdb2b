//! Known holes, put back into the daemons by their feature `holes`: each has to be found.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::{Options, chosen, run};

/// A hole of `vsm_daemon::hole`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    pub(super) name: &'static str,
    /// The attempts that are to find it; `NAME*` = all that begin so.
    pub(super) found_by: &'static [&'static str],
}

const fn hole(name: &'static str, found_by: &'static [&'static str]) -> Hole {
    Hole { name, found_by }
}

/// All of them.
pub(super) const ALL: &[Hole] = &[
    hole("access-table", &["mallory-*"]),
    hole("fresh-login", &["change-by-an-old-login"]),
    hole("epoch", &["epoch-*"]),
    hole("allowed-clients", &["evil-*"]),
    hole("socket-mode", &["open-the-administrators-socket", "list-all-sessions"]),
    hole("peer-uid", &["answer-in-the-place-of-the-x-server"]),
    hole("abstract-name", &["pose-as-the-x-server"]),
    hole("revoked", &["revoked-*"]),
    hole("program-owner", &["hook-of-a-user"]),
    hole("share", &["hold-*"]),
    hole("others-session", &["end-anothers-session"]),
    hole("token-twice", &["token-again"]),
    hole("unprintable", &["say-what-a-terminal-obeys"]),
    hole("issuer", &["issued-*"]),
    hole("owner", &["end-anothers-desktop"]),
    hole("shadow-filter", &["type-while-looking"]),
    hole("one-time-key", &["one-time-key-twice"]),
    hole("install", &["net-install-*"]),
    hole("promise", &["net-forget-the-promise*"]),
];

/// The hole of this name.
pub(super) fn find(name: &str) -> Result<Hole> {
    let names = || ALL.iter().map(|hole| hole.name).collect::<Vec<_>>().join(", ");
    let found = ALL.iter().find(|hole| hole.name == name).copied();
    found.with_context(|| format!("no hole {name:?}: there are {}", names()))
}

/// As arguments of `--only`.
pub(super) fn names(found_by: &[&str]) -> Vec<String> {
    found_by.iter().map(|&name| name.to_owned()).collect()
}

/// Runs each in turn, with the attempts that are to find it.
pub(super) fn all(options: &Options) -> Result<ExitCode> {
    let mut told = Vec::new();
    for hole in ALL {
        let cases = chosen(&names(hole.found_by))?;
        let outcome = run(options, &cases, Some(hole.name))?;
        let found = outcome.found().join(", ");
        told.push((hole.name, found));
    }
    let missed = told.iter().filter(|(_, found)| found.is_empty()).count();
    if options.json {
        let holes: Vec<_> = told
            .iter()
            .map(|(name, found)| serde_json::json!({ "hole": name, "found_by": found }))
            .collect();
        println!("{}", serde_json::json!({ "holes": holes, "missed": missed }));
    } else {
        for (name, found) in &told {
            println!("{name:<20} {}", if found.is_empty() { "NOT FOUND" } else { found });
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate that has the feature has it for this alone: no other feature turns it on, and no default.
    #[test]
    fn nobody_gets_holes_unasked() {
        for manifest in [
            include_str!("../../../crates/daemon/Cargo.toml"),
            include_str!("../../../crates/agent/Cargo.toml"),
            include_str!("../../../crates/broker/Cargo.toml"),
        ] {
            let lines: Vec<_> = manifest.lines().filter(|line| line.contains("holes")).collect();
            let is_own = |line: &&str| line.starts_with("holes = ") || line.starts_with('#');
            assert!(!lines.is_empty() && lines.iter().all(is_own), "{lines:?}");
            assert!(!manifest.contains("default = "), "{manifest}");
        }
        assert!(!include_str!("../../../Cargo.toml").contains("\"holes\""));
    }

    /// The daemons know each, and each is to be found by attempts that there are.
    #[test]
    fn each_hole_is_one_of_the_daemons_and_has_attempts() {
        let source = include_str!("../../../crates/daemon/src/hole.rs");
        for hole in ALL {
            assert!(source.contains(&format!("= {:?},", hole.name)), "{}", hole.name);
            assert!(!chosen(&names(hole.found_by)).unwrap().is_empty(), "{}", hole.name);
        }
        let is_one = |line: &&str| line.ends_with("\",") && line.contains(" = \"");
        let theirs = source.lines().filter(is_one).count();
        assert_eq!(theirs, ALL.len(), "each of theirs is here");
    }
}
