//! The rules of CONTRIBUTING.md that a machine can hold; each returns what breaks it.

mod edges;
mod logs;
mod modules;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::compile;

/// A file longer than this is an error; than the second, a hint.
const LINES_MAX: usize = 600;
const LINES_HINT: usize = 400;

/// Columns of a comment; the formatter leaves comments as they are.
const COMMENT_COLUMNS: usize = 120;

/// What is never committed; written so that this file does not break its own rule.
const BANNED: [&str; 4] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
];

/// The only crates that the domain may depend on: it has no clock, no disk, no sockets.
const CORE_MAY_USE: [&str; 4] = ["serde", "sha2", "thiserror", "uuid"];

/// Programs meet in `vsm-proto`, never in each other.
const PROGRAMS: [&str; 3] = ["broker", "agent", "cli"];

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Broken rules, each with its file.
    pub errors: Vec<String>,
    /// What should be looked at.
    pub hints: Vec<String>,
}

/// Checks the whole workspace below `root`.
///
/// # Errors
/// When a file cannot be read.
pub fn check(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    let (mut functions, mut sources) = (BTreeSet::new(), BTreeMap::new());
    for dir in ["crates", "fuzz", "xtask", "proto"] {
        for path in files(&root.join(dir))? {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let read = || fs::read_to_string(&path).with_context(|| name.clone());
            if name.ends_with(".rs") {
                let text = read()?;
                source(&name, &text, &mut findings);
                functions.extend(text.lines().filter_map(function).map(str::to_owned));
                sources.insert(name, text);
            } else if name.ends_with("Cargo.toml") {
                manifest(&name, &read()?, &mut findings.errors);
            } else if name.ends_with(".proto") {
                proto(&name, &read()?, &mut findings.errors);
            }
        }
    }
    logs::check(&sources, &mut findings.errors);
    rooms::check(&sources, &mut findings.errors);
    edges::check(&sources, &mut findings.errors);
    let name = "docs/features.md";
    let text = fs::read_to_string(root.join(name)).with_context(|| name)?;
    features(name, &text, &functions, &mut findings.errors);
    let name = "docs/threat-model.md";
    let text = fs::read_to_string(root.join(name)).with_context(|| name)?;
    claims(name, &text, &functions, &sources, &mut findings.errors);
    Ok(findings)
}

/// Checks this workspace and prints what breaks a rule, and what should be looked at.
///
/// # Errors
/// When a rule is broken.
pub fn report() -> Result<()> {
    let findings = check(&compile::root())?;
    for hint in &findings.hints {
        println!("hint: {hint}");
    }
    for error in &findings.errors {
        println!("{error}");
    }
    match findings.errors.len() {
        0 => Ok(()),
        broken => bail!("the rules of the house are broken {broken} times"),
    }
}

/// The name of the function that begins on this line.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line);
    Some(line.strip_prefix("fn ")?.split_once('(')?.0)
}

/// The table of features: the tests that hold them are there.
pub fn features(name: &str, text: &str, functions: &BTreeSet<String>, errors: &mut Vec<String>) {
    for (number, line) in (1..).zip(text.lines()) {
        let Some(last) = line.trim_end().strip_suffix('|').and_then(|row| row.rsplit('|').next())
        else {
            continue;
        };
        let named = last.split('`').nth(1).and_then(|word| Some((word, word.rsplit_once("::")?.1)));
        if let Some((word, _)) = named.filter(|(_, test)| !functions.contains(*test)) {
            errors.push(format!("{name}:{number}: there is no test {word}"));
        }
    }
}

/// The threat model: the tests and files that it names for what it claims are there. Of words in backquotes, those with
/// three underlines are tests.
pub fn claims(
    name: &str,
    text: &str,
    functions: &BTreeSet<String>,
    sources: &BTreeMap<String, String>,
    errors: &mut Vec<String>,
) {
    for (number, line) in (1..).zip(text.lines()) {
        for word in line.split('`').skip(1).step_by(2) {
            let is_test = word.matches('_').count() >= 3
                && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit());
            if is_test && !functions.contains(word) {
                errors.push(format!("{name}:{number}: there is no test {word}"));
            }
            if word.contains('/') && word.ends_with(".rs") && !sources.contains_key(word) {
                errors.push(format!("{name}:{number}: there is no file {word}"));
            }
        }
    }
}

/// A Rust file: header, length, leftovers, YAML only where it belongs.
pub fn source(name: &str, text: &str, findings: &mut Findings) {
    if !text.starts_with("//! ") {
        findings.errors.push(format!("{name}:1: no //! header that says what the file owns"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.errors.push(format!("{name}: {lines} lines, at most {LINES_MAX}"));
    } else if lines > LINES_HINT {
        findings.hints.push(format!("{name}: {lines} lines, better at most {LINES_HINT}"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let is_comment = line.trim_start().starts_with("//");
        let columns = line.chars().count();
        if is_comment && columns > COMMENT_COLUMNS {
            findings
                .errors
                .push(format!("{name}:{number}: {columns} columns, at most {COMMENT_COLUMNS}"));
        }
        for banned in BANNED.iter().filter(|banned| line.contains(**banned)) {
            findings.errors.push(format!("{name}:{number}: {banned}"));
        }
        if line.contains(concat!("serde", "_yaml::")) && !name.starts_with("crates/config/") {
            findings
                .errors
                .push(format!("{name}:{number}: YAML is read and written by vsm-config"));
        }
    }
}

/// A crate's manifest: who may depend on whom.
pub fn manifest(name: &str, text: &str, errors: &mut Vec<String>) {
    let Some(folder) = name.strip_prefix("crates/").and_then(|rest| rest.split('/').next()) else {
        return;
    };
    let mut section = "";
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            continue;
        }
        let Some((key, _)) = line.split_once('=') else { continue };
        let dependency = key.trim().split('.').next().unwrap_or_default();
        if !section.ends_with("dependencies") || dependency.starts_with('#') {
            continue;
        }
        let mut broken = |why: &str| errors.push(format!("{name}:{number}: {dependency}: {why}"));
        if folder == "core" && section == "dependencies" && !CORE_MAY_USE.contains(&dependency) {
            broken("vsm-core depends on serde, sha2, thiserror and uuid only");
        }
        let other = dependency.strip_prefix("vsm-").unwrap_or_default();
        if PROGRAMS.contains(&folder) && PROGRAMS.contains(&other) {
            broken("broker, agent and cli do not depend on each other");
        }
        if dependency == concat!("serde", "_yaml") && folder != "config" {
            broken("YAML is read and written by vsm-config");
        }
    }
}

/// A protocol file: every declaration has a comment above it.
pub fn proto(name: &str, text: &str, errors: &mut Vec<String>) {
    let mut commented = false;
    let mut inside_declaration = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.starts_with("//") {
            commented = true;
            continue;
        }
        if !inside_declaration && declares(line) && !commented {
            errors.push(format!("{name}:{number}: no comment above: {line}"));
        }
        // A declaration may go on over several lines; a block's own lines are looked at again.
        inside_declaration = !line.is_empty() && !line.ends_with([';', '{', '}']);
        commented = false;
    }
}

fn declares(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    match first {
        "message" | "enum" | "service" | "rpc" | "oneof" => true,
        "" | "syntax" | "package" | "import" | "option" | "reserved" | "}" | "};" => false,
        // A field or an enum value: NAME = NUMBER.
        _ => line.split_once('=').is_some_and(|(_, number)| {
            number.trim_start().starts_with(|c: char| c.is_ascii_digit())
        }),
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !dir.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_source(name: &str, text: &str) -> Findings {
        let mut findings = Findings::default();
        source(name, text, &mut findings);
        findings
    }

    fn of_manifest(name: &str, text: &str) -> Vec<String> {
        let mut errors = Vec::new();
        manifest(name, text, &mut errors);
        errors
    }

    fn of_proto(text: &str) -> Vec<String> {
        let mut errors = Vec::new();
        proto("x.proto", text, &mut errors);
        errors
    }

    #[test]
    fn a_file_needs_a_header() {
        assert_eq!(of_source("a.rs", "fn a() {}\n").errors.len(), 1);
        assert!(of_source("a.rs", "//! Owns a.\nfn a() {}\n").errors.is_empty());
    }

    #[test]
    fn a_file_has_a_longest_length() {
        let text = |lines: usize| format!("//! Owns a.\n{}", "x\n".repeat(lines - 1));
        assert!(of_source("a.rs", &text(400)).hints.is_empty());
        assert_eq!(of_source("a.rs", &text(401)).hints.len(), 1);
        assert!(of_source("a.rs", &text(600)).errors.is_empty());
        assert_eq!(of_source("a.rs", &text(601)).errors.len(), 1);
    }

    #[test]
    fn leftovers_are_found() {
        for banned in BANNED {
            let findings = of_source("a.rs", &format!("//! Owns a.\n    {banned}\n"));
            assert_eq!(findings.errors, [format!("a.rs:2: {banned}")]);
        }
    }

    #[test]
    fn a_comment_has_a_widest_line() {
        let of = |columns: usize| {
            of_source("a.rs", &format!("//! Owns a.\n    // {}\n", "x".repeat(columns - 7)))
        };
        assert!(of(120).errors.is_empty());
        assert_eq!(of(121).errors, ["a.rs:2: 121 columns, at most 120"]);
    }

    #[test]
    fn the_domain_stays_pure() {
        let text = "[package]\nname = \"vsm-core\"\n[dependencies]\nserde.workspace = true\ntokio = \"1\"\n\
                    [dev-dependencies]\nproptest.workspace = true\n";
        let errors = of_manifest("crates/core/Cargo.toml", text);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("crates/core/Cargo.toml:5: tokio"), "{errors:?}");
    }

    #[test]
    fn programs_do_not_depend_on_each_other() {
        let text = "[dependencies]\nvsm-agent.workspace = true\nvsm-proto.workspace = true\n";
        assert_eq!(of_manifest("crates/cli/Cargo.toml", text).len(), 1);
        assert_eq!(of_manifest("crates/sync/Cargo.toml", text).len(), 0);
    }

    #[test]
    fn yaml_is_in_one_crate() {
        let text = concat!("[dependencies]\nserde", "_yaml = { version = \"1\" }\n");
        assert_eq!(of_manifest("crates/broker/Cargo.toml", text).len(), 1);
        assert_eq!(of_manifest("crates/config/Cargo.toml", text).len(), 0);
        let code = concat!("//! Owns a.\nuse serde", "_yaml::Value;\n");
        assert_eq!(of_source("crates/broker/src/lib.rs", code).errors.len(), 1);
    }

    #[test]
    fn each_declaration_of_a_protocol_has_a_comment() {
        let good = "syntax = \"proto3\";\n// A.\nmessage A {\n  reserved 2;\n  // B.\n  string b = 1;\n\n  \
                    // C.\n  oneof c {\n    // D.\n    map<string, string> d = 3\n      [deprecated = 1];\n  }\n}\n";
        assert_eq!(of_proto(good), Vec::<String>::new());
        let bad = "message A {\n  string b = 1;\n}\nenum E {\n  E_UNSPECIFIED = 0;\n}\nservice S {\n  \
                   rpc C(A) returns (A);\n}\n";
        assert_eq!(of_proto(bad).len(), 6);
    }

    #[test]
    fn a_feature_names_a_test_that_there_is() {
        let functions = BTreeSet::from(["there_is".to_owned()]);
        let of = |text: &str| {
            let mut errors = Vec::new();
            features("f.md", text, &functions, &mut errors);
            errors
        };
        assert_eq!(of("| 1 | x | yes | `a::b` | `m::there_is` |\n| 2 | y | no | | |\n"), [""; 0]);
        let gone = of("# F\n| 1 | x | yes | `a` | `m::there_is_not` |\n");
        assert_eq!(gone, ["f.md:2: there is no test m::there_is_not"]);
    }

    #[test]
    fn a_claim_names_what_there_is() {
        let functions = BTreeSet::from(["what_there_is_passes".to_owned()]);
        let sources = BTreeMap::from([("crates/a/src/b.rs".to_owned(), String::new())]);
        let of = |text: &str| {
            let mut errors = Vec::new();
            claims("t.md", text, &functions, &sources, &mut errors);
            errors
        };
        assert_eq!(
            of("by `crates/a/src/b.rs`, test `what_there_is_passes`, `one_login_time`\n"),
            [""; 0]
        );
        let gone = of("x\nby `crates/a/src/c.rs`, test `what_there_is_not_fails`\n");
        assert_eq!(
            gone,
            [
                "t.md:2: there is no file crates/a/src/c.rs",
                "t.md:2: there is no test what_there_is_not_fails"
            ]
        );
    }
}
