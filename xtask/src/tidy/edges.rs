//! Generated types stay where messages come in and go out, and reasons are types: outside the command line no function
//! fails with a text.

use std::collections::{BTreeMap, BTreeSet};

use super::modules;

/// The modules of the daemons that may name generated types, with those below them: the edge, where messages are parsed
/// and made, and what is stored or handed on as it came.
const EDGES: [(&str, &[&str]); 4] = [
    (
        "crates/agent",
        &[
            // Its records are the brokers' own messages.
            "agent::fence",
            // By them values are checked as if a broker had sent them.
            "message",
            "net",
            "net::announce",
            "net::renew",
            "net::report",
            "net::service",
            "net::words",
        ],
    ),
    (
        "crates/broker",
        &[
            "api",
            "hosts::agents",
            "hosts::told",
            "pair::witness",
            "server",
            "sessions::one_login",
            "sessions::reconcile",
            "sessions::start",
        ],
    ),
    ("crates/daemon", &["trouble"]),
    ("crates/sync", &["observe", "peer", "sqlite"]),
];

/// Checks all crates of these sources, by path below the workspace.
pub(super) fn check(sources: &BTreeMap<String, String>, errors: &mut Vec<String>) {
    for (folder, edge) in EDGES {
        leaks(folder, &modules::naming(sources, folder, "vsm_proto"), edge, errors);
    }
    texts(sources, errors);
}

/// No module outside the edge names a generated type, and each of the edge does.
fn leaks(folder: &str, naming: &BTreeSet<String>, edge: &[&str], errors: &mut Vec<String>) {
    // The top of a folder stands for its own file alone where a part of it is named as well.
    let is_in = |module: &str, above: &str| {
        let parts = edge.iter().any(|other| modules::is_below(other, above));
        module == above || !parts && modules::is_below(module, above)
    };
    for module in naming {
        if !edge.iter().any(|above| is_in(module, above)) {
            errors.push(format!(
                "{folder}: {module} names a generated type, and is none of the modules where messages come in or go out"
            ));
        }
    }
    for above in edge {
        if !naming.iter().any(|module| is_in(module, above)) {
            errors.push(format!(
                "xtask/src/tidy/edges.rs: {folder}: {above} names no generated type"
            ));
        }
    }
}

/// Functions whose error is a text, in crates that are not of the command line.
fn texts(sources: &BTreeMap<String, String>, errors: &mut Vec<String>) {
    let library = |path: &str| {
        let krate = path.strip_prefix("crates/").and_then(|rest| rest.split_once("/src/"));
        krate.is_some_and(|(name, file)| {
            !["bench", "cli", "config", "manual"].contains(&name) && !file.starts_with("bin/")
        })
    };
    for (path, text) in sources.iter().filter(|(path, _)| library(path)) {
        let found = modules::code(text).lines().filter(|line| fails_with_text(line)).count();
        if found > 0 {
            errors.push(format!(
                "{path}: {found} results fail with a text: give the reason a type of its own"
            ));
        }
    }
}

/// Whether a line has a result whose error is a text.
fn fails_with_text(line: &str) -> bool {
    line.match_indices("Result<").any(|(at, name)| {
        let (mut depth, mut last) = (0_usize, String::new());
        for c in line[at + name.len()..].chars() {
            match c {
                '>' if depth == 0 => break,
                ',' if depth == 0 => last.clear(),
                '<' | '(' => depth += 1,
                '>' | ')' => depth = depth.saturating_sub(1),
                c if depth == 0 && !c.is_whitespace() => last.push(c),
                _ => {}
            }
        }
        last == "String"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::modules::tests::sources;

    fn leaks_of(edge: &[&str]) -> Vec<String> {
        let files = [
            ("lib.rs", ""),
            ("api.rs", ""),
            ("api/user.rs", "use vsm_proto::{a::B, c};\n"),
            ("deep.rs", "fn f(_: vsm_proto::a::B) {}\n"),
            ("deep/part.rs", "use vsm_proto::a;\n"),
            ("clean.rs", "// vsm_proto\n#[cfg(test)]\nmod tests {\n    use vsm_proto::a;\n}\n"),
        ];
        let mut errors = Vec::new();
        let naming = modules::naming(&sources(&files), "crates/x", "vsm_proto");
        leaks("crates/x", &naming, edge, &mut errors);
        errors
    }

    #[test]
    fn a_generated_type_behind_the_edge_is_found() {
        assert_eq!(leaks_of(&["api", "deep"]), [""; 0]);
        let found = leaks_of(&["api"]);
        assert!(found.len() == 2 && found[0].starts_with("crates/x: deep names"), "{found:?}");
        let found = leaks_of(&["api", "deep::part"]);
        assert!(found.len() == 1 && found[0].starts_with("crates/x: deep names"), "{found:?}");
        let found = leaks_of(&["api", "clean", "deep"]);
        assert!(found.len() == 1 && found[0].contains("clean names no"), "{found:?}");
    }

    #[test]
    fn a_function_that_fails_with_a_text_is_found_outside_the_command_line() {
        let text = "fn f() -> Result<(), String> {}\nfn g() -> Result<BTreeMap<String, String>, Error> {}\n\
                    #[cfg(test)]\nmod tests {\n    fn h() -> Result<(), String> {}\n}\n";
        let sources: BTreeMap<String, String> =
            ["crates/core/src/a.rs", "crates/cli/src/a.rs", "crates/core/src/bin/p.rs"]
                .map(|path| (path.to_owned(), text.to_owned()))
                .into();
        let mut found = Vec::new();
        texts(&sources, &mut found);
        assert!(found.len() == 1 && found[0].starts_with("crates/core/src/a.rs: 1"), "{found:?}");
    }
}
