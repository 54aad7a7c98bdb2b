//! Which module of a crate imports which, read from its sources: the `use` lines, and paths that begin with `crate` or
//! `super`. What only tests import does not count, and neither does that a module has parts: one that declares modules
//! below it uses them.

use std::collections::{BTreeMap, BTreeSet};

/// The modules of a crate by path (`a::b`), each with those that it imports. The root is the empty path.
pub(super) type Imports = BTreeMap<String, BTreeSet<String>>;

/// The imports within the crate in this folder, of sources by path below the workspace.
pub(super) fn imports(sources: &BTreeMap<String, String>, folder: &str) -> Imports {
    let below = sources.iter().filter_map(|(path, text)| {
        Some((module(path.strip_prefix(folder)?.strip_prefix("/src/")?)?, text))
    });
    let texts: BTreeMap<String, &String> = below.collect();
    let of = |(module, text): (&String, &&String)| {
        let paths = paths(&code(text));
        let found = paths.iter().filter_map(|path| resolve(&texts, module, path));
        // Its own parts are part of it.
        let others = found.filter(|other| other != module && !is_below(other, module));
        (module.clone(), others.collect())
    };
    texts.iter().map(of).collect()
}

/// The modules of a crate that name another crate.
pub(super) fn naming(
    sources: &BTreeMap<String, String>,
    folder: &str,
    other: &str,
) -> BTreeSet<String> {
    let names = format!("{other}::");
    let below = sources.iter().filter_map(|(path, text)| {
        let module = module(path.strip_prefix(folder)?.strip_prefix("/src/")?)?;
        code(text).contains(&names).then_some(module)
    });
    below.collect()
}

/// Whether a module lies within another one.
pub(super) fn is_below(module: &str, above: &str) -> bool {
    above.is_empty() || module.strip_prefix(above).is_some_and(|rest| rest.starts_with("::"))
}

/// The module that a file is; none = it is a program of its own, or of tests alone.
fn module(path: &str) -> Option<String> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let module = if path == "lib" { String::new() } else { path.replace('/', "::") };
    let alone = path == "main"
        || path.starts_with("bin/")
        || module.split("::").any(|part| part == "tests");
    (!alone).then_some(module)
}

/// A file without comments and without its tests, which are at its end.
pub(super) fn code(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().starts_with("//")).collect();
    let is_tests = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_end().ends_with("mod tests {")
    };
    let end = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    lines[..end].join("\n")
}

/// All paths that may lead to a module: of `use` items, and those in the code that begin with `crate` or `super`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some(tree) = used(line) else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        let tree: String = tree.chars().filter(|c| *c != '\n').collect();
        flatten("", tree.split(';').next().unwrap_or_default(), &mut found);
    }
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = rest.split(|c: char| !part(c)).map(|word| word.trim_end_matches(':'));
    let named = words.filter(|word| word.starts_with("crate::") || word.starts_with("super::"));
    found.extend(named.map(str::to_owned));
    found
}

/// The tree of a `use` item that begins on this line.
fn used(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(')')?.1.trim_start(),
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    line.strip_prefix("use ")
}

/// Each path of a tree of imports: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn flatten(before: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((first, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        if !path.is_empty() {
            found.push(format!("{before}{path}"));
        }
        return;
    };
    let before = format!("{before}{}", first.trim());
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut begin) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                flatten(&before, &group[begin..at], found);
                begin = at + 1;
            }
            _ => {}
        }
    }
    flatten(&before, &group[begin..], found);
}

/// The module that a path in `module` leads to; none = it leads out of the crate.
fn resolve(modules: &BTreeMap<String, &String>, module: &str, path: &str) -> Option<String> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut at: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    match *parts.peek()? {
        "crate" => {
            at.clear();
            parts.next();
        }
        "self" => drop(parts.next()),
        "super" => {
            while parts.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        // A part of this module, or another crate.
        first => {
            let own = at.iter().copied().chain([first]).collect::<Vec<_>>().join("::");
            modules.get(&own)?;
        }
    }
    for part in parts {
        at.push(part);
        if !modules.contains_key(&at.join("::")) {
            at.pop();
            break;
        }
    }
    let found = at.join("::");
    modules.contains_key(&found).then_some(found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A crate `x` of these files.
    pub(in crate::tidy) fn sources(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let path = |file: &str| format!("crates/x/src/{file}");
        files.iter().map(|(file, text)| (path(file), (*text).to_owned())).collect()
    }

    #[test]
    fn imports_are_read_from_use_and_from_paths() {
        let sources = sources(&[
            ("lib.rs", "mod a;\npub use a::A;\n"),
            ("a.rs", "use std::fmt;\nuse crate::{\n    b::{self, C as D},\n    e::f::G,\n};\n"),
            ("b/mod.rs", "mod c;\nuse c::C;\n// use crate::a;\nfn f() { crate::e::g() }\n"),
            ("b/c.rs", "pub(crate) use super::super::a::A;\nuse super::B;\n"),
            ("e.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
            ("e/f.rs", "fn f() -> super::E {}\n"),
            ("bin/p.rs", "use crate::nothing;\n"),
        ]);
        let imports = imports(&sources, "crates/x");
        let of = |module: &str| imports[module].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(of(""), [""; 0]);
        assert_eq!(of("a"), ["b", "e::f"]);
        assert_eq!(of("b"), ["e"]);
        assert_eq!(of("b::c"), ["a", "b"]);
        assert_eq!(of("e"), [""; 0]);
        assert_eq!(of("e::f"), ["e"]);
        assert_eq!(imports.len(), 6);
    }
}
