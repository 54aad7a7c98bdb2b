//! Within a crate everything points downward: no file imports itself by way of others, and in the broker no room uses
//! one above it.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{self, Imports};

/// The rooms of the broker: each may use those after it.
const BROKER: [&str; 21] = [
    "server",
    "rooms",
    "api",
    "reload",
    "upkeep",
    "sessions",
    "pair",
    "web_keys",
    "openid",
    "identities",
    "hosts",
    "journal",
    "authority",
    "site",
    "helper",
    "process",
    "error",
    "users",
    "locks",
    "log_parts",
    "args",
];

/// Checks all crates of these sources, by path below the workspace.
pub(super) fn check(sources: &BTreeMap<String, String>, errors: &mut Vec<String>) {
    let folders: BTreeSet<&str> =
        sources.keys().filter_map(|path| Some(path.split_once("/src/")?.0)).collect();
    for folder in folders {
        let imports = modules::imports(sources, folder);
        circles(folder, &imports, errors);
        if folder == "crates/broker" {
            rows(folder, &imports, &BROKER, errors);
        }
    }
}

/// No file imports itself by way of others.
fn circles(folder: &str, imports: &Imports, errors: &mut Vec<String>) {
    for circle in find(imports) {
        let arrow = |from: &&str| {
            let to = imports[*from].iter().filter(|to| circle.contains(to.as_str()));
            format!("{from} -> {}", to.map(String::as_str).collect::<Vec<_>>().join(", "))
        };
        let arrows = circle.iter().map(arrow).collect::<Vec<_>>().join("; ");
        errors.push(format!("{folder}: these files import each other in a circle: {arrows}"));
    }
}

/// The circles: of each all modules, each of which reaches the others.
fn find(imports: &Imports) -> Vec<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|module| (module.as_str(), reach(imports, module))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (module, there) in &reached {
        if !found.iter().any(|circle| circle.contains(module)) {
            let circle: BTreeSet<&str> =
                there.iter().copied().filter(|other| reached[other].contains(module)).collect();
            found.extend((!circle.is_empty()).then_some(circle));
        }
    }
    found
}

/// All modules that one leads to.
fn reach<'a>(imports: &'a Imports, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = imports[from].iter().map(String::as_str).collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(imports[module].iter().map(String::as_str));
        }
    }
    reached
}

/// No room uses one above its row.
fn rows(folder: &str, imports: &Imports, rooms: &[&str], errors: &mut Vec<String>) {
    let room = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let row = |room: &str| rooms.iter().position(|name| *name == room);
    let there: BTreeSet<String> = imports.keys().map(|module| room(module)).collect();
    for none in there.iter().filter(|name| !name.is_empty() && row(name).is_none()) {
        errors.push(format!("xtask/src/tidy/rooms.rs: {folder} has a room without a row: {none}"));
    }
    for (module, others) in imports {
        let own = row(&room(module)).unwrap_or_default();
        for other in others {
            if row(&room(other)).is_some_and(|row| row < own) {
                errors
                    .push(format!("{folder}: {module} uses {other}, which is in a room above it"));
            }
        }
    }
    for gone in rooms.iter().filter(|name| !there.contains(**name)) {
        errors.push(format!("xtask/src/tidy/rooms.rs: {folder} has no room {gone}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::modules::tests::sources;

    fn imports(files: &[(&str, &str)]) -> Imports {
        modules::imports(&sources(files), "crates/x")
    }

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let mut errors = Vec::new();
        circles("crates/x", &imports(files), &mut errors);
        errors
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let files = [
            ("lib.rs", "mod a;\npub use a::A;\n"),
            ("a.rs", "mod d;\nuse crate::b::B;\n"),
            ("a/d.rs", "use super::A;\n"),
            ("b.rs", "fn f() { crate::c::g() }\n"),
            ("c.rs", "use crate::a::A;\n"),
        ];
        let found = circles_of(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("circle: a -> b; b -> c; c -> a"), "{found:?}");
        assert_eq!(circles_of(&files[..3]), [""; 0], "a module and its parts are one");
    }

    #[test]
    fn a_room_that_uses_one_above_it_is_found() {
        let of = |rooms: &[&str]| {
            let files = [
                ("lib.rs", ""),
                ("top.rs", "use crate::low::Low;\n"),
                ("low/mod.rs", ""),
                ("low/deep.rs", "use crate::top::Top;\n"),
            ];
            let mut errors = Vec::new();
            rows("crates/x", &imports(&files), rooms, &mut errors);
            errors
        };
        let above = "crates/x: low::deep uses top, which is in a room above it";
        assert_eq!(of(&["top", "low"]), [above]);
        assert_eq!(of(&["low", "top"]), ["crates/x: top uses low, which is in a room above it"]);
        assert_eq!(of(&["top", "low", "gone"]).len(), 2);
        assert_eq!(of(&["top"]).len(), 1, "a room needs a row");
    }
}
