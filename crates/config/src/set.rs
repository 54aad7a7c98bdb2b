//! Setting and dropping parameters across the files of a directory: everything is worked out and checked in
//! memory, and only then are the files replaced, all or none.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    edit,
    error::ToolError,
    files::{self, Source},
    kind::Kind,
    load::checked,
    param::{canonical, segments},
    problem::Problem,
    schema,
    value::Value,
    write::{self, Lock, Rewrite},
    yaml,
};

/// A parameter that exists and a value that it takes, both checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) path: String,
    pub(crate) value: Value,
}

impl Assignment {
    /// Checks a path and a value as typed.
    pub(crate) fn of(path: &str, value: &str) -> Result<Self, ToolError> {
        let path = canonical(path);
        let Some(param) = schema::find(&path) else { return Err(ToolError::no_such(&path)) };
        let typed = Value::Text(value.to_owned());
        let normal =
            param.normalise(&typed).map_err(|text| ToolError::Bad(format!("{path}: {text}")))?;
        // Lists are kept as lists; all else is kept as it was typed.
        let value = if matches!(param.kind, Kind::List(_)) { normal } else { typed };
        Ok(Self { path, value })
    }
}

/// Makes all assignments in the files of `dir`, or none. Returns the paths whose value in the files changed.
pub(crate) fn apply(dir: &Path, assignments: &[Assignment]) -> Result<Vec<String>, ToolError> {
    let edits = Edits::begin(dir)?.set(assignments)?;
    let changed = edits.changed.clone();
    edits.commit()?;
    Ok(changed)
}

/// The files of a directory as they are and as they are to be; nobody else edits them meanwhile.
pub(crate) struct Edits {
    dir: PathBuf,
    old: Vec<Source>,
    new: Vec<Source>,
    changed: Vec<String>,
    _lock: Option<Lock>,
}

impl Edits {
    pub(crate) fn begin(dir: &Path) -> Result<Self, ToolError> {
        let lock = lock(dir)?;
        Self::of(dir, Some(lock))
    }

    /// The same to look at: nothing of it is to be written.
    pub(crate) fn look(dir: &Path) -> Result<Self, ToolError> {
        Self::of(dir, None)
    }

    fn of(dir: &Path, lock: Option<Lock>) -> Result<Self, ToolError> {
        let old = files::read_dir(dir)?;
        let (dir, new, changed) = (dir.to_owned(), old.clone(), Vec::new());
        Ok(Self { dir, old, new, changed, _lock: lock })
    }

    /// Sets parameters, each in the file whose value counts.
    pub(crate) fn set(mut self, assignments: &[Assignment]) -> Result<Self, ToolError> {
        for (i, assignment) in assignments.iter().enumerate() {
            if assignments[..i].iter().any(|earlier| earlier.path == assignment.path) {
                return Err(ToolError::Bad(format!("{}: set twice in one call", assignment.path)));
            }
        }
        for assignment in assignments {
            let path = &assignment.path;
            let index = winner(&self.new, path)
                .unwrap_or_else(|| home_file(&mut self.new, &self.dir, path));
            if assign(&mut self.new[index], assignment)? {
                self.changed.push(path.clone());
            }
        }
        Ok(self)
    }

    /// Drops parameters from every file that has them.
    pub(crate) fn drop(mut self, paths: &[String]) -> Result<Self, ToolError> {
        for path in paths {
            for source in &mut self.new {
                if !raw_values(source)?.contains_key(path) {
                    continue;
                }
                let edited = edit::remove(&source.text, path)
                    .map_err(|refusal| unsafe_edit(&source.file, &refusal))?;
                exchange(source, edited, path, None)?;
            }
        }
        Ok(self)
    }

    /// The files as they are to be.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.new
    }

    pub(crate) fn commit(self) -> Result<(), ToolError> {
        commit(&self.old, &self.new)
    }
}

/// Drops from `file` every parameter that another file of `dir` sets too. Returns what was dropped: the path,
/// the value that went, and the value that holds from now on.
pub(crate) fn purge(dir: &Path, file: &Path) -> Result<Vec<(String, String, String)>, ToolError> {
    let _lock = lock(dir)?;
    let old = files::read_dir(dir)?;
    let same = |source: &Source| source.file.canonicalize().ok() == file.canonicalize().ok();
    let text = files::read_bounded(file)
        .map_err(|error| ToolError::Bad(format!("{}: {error}", file.display())))?;
    let named = old.iter().find(|source| same(source)).map_or(file, |source| &source.file);
    let before = Source { file: named.to_owned(), text };
    let elsewhere =
        checked(&old.iter().filter(|source| !same(source)).cloned().collect::<Vec<_>>());
    let mut after = before.clone();
    let mut dropped = Vec::new();
    for (path, value) in raw_values(&before)? {
        let Some(kept) = elsewhere.settings.get(&path) else { continue };
        let edited = edit::remove(&after.text, &path)
            .map_err(|refusal| unsafe_edit(&after.file, &refusal))?;
        exchange(&mut after, edited, &path, None)?;
        dropped.push((path, value, kept.raw.to_string()));
    }
    let inside = old.iter().any(same);
    let replaced = |with: &Source| -> Vec<Source> {
        old.iter().map(|source| if same(source) { with.clone() } else { source.clone() }).collect()
    };
    if inside {
        commit(&old, &replaced(&after))?;
    } else {
        commit(&[before], &[after])?;
    }
    Ok(dropped)
}

fn lock(dir: &Path) -> Result<Lock, ToolError> {
    Lock::take(dir).map_err(|error| ToolError::Write(format!("{}: {error}", dir.display())))
}

fn unsafe_edit(file: &Path, refusal: &edit::Refusal) -> ToolError {
    ToolError::Write(format!("{}:{}: {}", file.display(), refusal.line, refusal.text))
}

/// The file whose value counts, as an index: the last one that has the key, even with a bad value.
fn winner(sources: &[Source], path: &str) -> Option<usize> {
    sources.iter().rposition(|source| {
        let parsed = yaml::parse(&source.file, &source.text);
        parsed.entries.iter().any(|entry| entry.path == path)
            || parsed.problems.iter().any(|problem| problem.path == path)
    })
}

/// Where a key goes that no file has: the file named like its top folder, made where it is missing.
fn home_file(sources: &mut Vec<Source>, dir: &Path, path: &str) -> usize {
    let top = segments(path).next().unwrap_or("vsm");
    let file = dir.join(format!("{top}.yaml"));
    match sources.binary_search_by(|source| source.file.cmp(&file)) {
        Ok(index) => index,
        Err(index) => {
            let text =
                format!("# Parameters of /{top}: `vsm-config doc /{top}` tells what they mean.\n");
            sources.insert(index, Source { file, text });
            index
        }
    }
}

/// The values of a file as written, by path.
pub(crate) fn raw_values(source: &Source) -> Result<BTreeMap<String, String>, ToolError> {
    let parsed = yaml::parse(&source.file, &source.text);
    match parsed.problems.into_iter().find(|problem| problem.path.is_empty()) {
        // Not readable at all: nothing in it can be edited.
        Some(problem) => Err(ToolError::Bad(problem.to_string())),
        None => Ok(parsed
            .entries
            .into_iter()
            .map(|entry| (entry.path, entry.raw.to_string()))
            .collect()),
    }
}

/// Sets a parameter in one file; whether it had another value, or none.
pub(crate) fn assign(
    source: &mut Source,
    Assignment { path, value }: &Assignment,
) -> Result<bool, ToolError> {
    if raw_values(source)?.get(path) == Some(&value.to_string()) {
        return Ok(false);
    }
    let edited = edit::set(&source.text, path, value)
        .map_err(|refusal| unsafe_edit(&source.file, &refusal))?;
    exchange(source, edited, path, Some(value))?;
    Ok(true)
}

/// Takes over an edited text once the parser has confirmed that just the wanted value changed.
fn exchange(
    source: &mut Source,
    text: String,
    path: &str,
    value: Option<&Value>,
) -> Result<(), ToolError> {
    let mut wanted = raw_values(source)?;
    match value {
        Some(value) => drop(wanted.insert(path.to_owned(), value.to_string())),
        None => drop(wanted.remove(path)),
    }
    let edited = Source { file: source.file.clone(), text };
    if raw_values(&edited).ok() != Some(wanted) {
        let entries = yaml::parse(&source.file, &source.text).entries;
        let line =
            entries.iter().find(|entry| entry.path == path).map_or(1, |entry| entry.line.max(1));
        let text = format!("{path} cannot be edited safely; edit the file by hand");
        return Err(unsafe_edit(&source.file, &edit::Refusal { line, text }));
    }
    *source = edited;
    Ok(())
}

/// Writes the files that differ, unless the new ones have a problem that the old ones did not have: a
/// configuration that is already broken can be repaired step by step.
fn commit(old: &[Source], new: &[Source]) -> Result<(), ToolError> {
    let known: Vec<Problem> = checked(old).problems;
    let is_new = |problem: &Problem| {
        !known.iter().any(|old| old.path == problem.path && old.text == problem.text)
    };
    let fresh: Vec<String> = checked(new)
        .problems
        .iter()
        .filter(|problem| is_new(problem))
        .map(ToString::to_string)
        .collect();
    if !fresh.is_empty() {
        return Err(ToolError::Bad(fresh.join("\n")));
    }
    let rewrites: Vec<Rewrite> = new
        .iter()
        .filter(|source| !old.contains(source))
        .map(|source| Rewrite { file: source.file.clone(), text: source.text.clone() })
        .collect();
    write::replace_all(&rewrites).map_err(|(file, error): (PathBuf, _)| {
        ToolError::Write(format!("{}: {error}", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::Config;

    /// Text parameters and list parameters of several folders.
    const TEXTS: [&str; 4] = [
        "/profiles/greeting",
        "/profiles/gnome/cmdline",
        "/vsmagent/default_environment/FOO",
        "/vsmagent/pam_service",
    ];
    const LISTS: [&str; 3] =
        ["/vsmserver/allowed_groups", "/vsmserver/subclusters/lab/users", "/vsmagent/xserver_args"];

    fn paths() -> impl Strategy<Value = &'static str> {
        prop_oneof![prop::sample::select(&TEXTS[..]), prop::sample::select(&LISTS[..])]
    }

    fn value_for(path: &str) -> BoxedStrategy<Value> {
        // Also what is not printable, and what YAML could take for something else.
        let odd = prop::sample::select(vec![
            "null",
            "~",
            "true",
            "1.10",
            "0x1f",
            "- a",
            "a: b",
            "a #b",
            "{",
            "[]",
            "'",
            "\"",
            "é☃",
            "2001-01-01",
        ]);
        let text = prop_oneof![odd.prop_map(str::to_owned), "[ -~]{0,12}", any::<String>()]
            .prop_map(|text| text.replace('\0', ""));
        if LISTS.contains(&path) {
            let item = text.prop_filter("an entry is not empty", |text| !text.is_empty());
            prop::collection::vec(item, 0..5).prop_map(Value::List).boxed()
        } else {
            text.prop_map(Value::Text).boxed()
        }
    }

    /// A file with some of the parameters, comments everywhere, lists in one style or the other.
    fn file(present: &[(&'static str, bool)], indent: usize) -> String {
        let (mut out, mut note, mut open) = (String::from("# note 0\n"), 0, Vec::new());
        let mut sorted = present.to_vec();
        sorted.sort_unstable();
        sorted.dedup_by_key(|(path, _)| *path);
        for (path, block) in sorted {
            let parts: Vec<&str> = segments(path).collect();
            let (key, folders) = parts.split_last().unwrap();
            let same = open.iter().zip(folders).take_while(|(a, b)| *a == *b).count();
            open.truncate(same);
            for folder in &folders[same..] {
                note += 1;
                writeln!(out, "{:1$}{folder}: # note {note}\n", "", open.len() * indent).unwrap();
                open.push(*folder);
            }
            note += 1;
            let pad = open.len() * indent;
            write!(out, "{:pad$}# note {note}\n{:pad$}{key}:", "", "").unwrap();
            note += 1;
            match (LISTS.contains(&path), block) {
                (false, _) => writeln!(out, " \"old # value\" # note {note}").unwrap(),
                (true, false) => writeln!(out, " [a, 'b c'] # note {note}").unwrap(),
                (true, true) => {
                    writeln!(out, "\n{:pad$}- a # note {note}\n\n{:pad$}- 'b c'", "", "").unwrap();
                }
            }
        }
        out
    }

    fn notes(text: &str) -> Vec<&str> {
        text.match_indices("# note ")
            .map(|(at, _)| text[at..].lines().next().unwrap_or_default())
            .collect()
    }

    fn cases() -> impl Strategy<Value = (Vec<(&'static str, bool)>, usize, &'static str, Value)> {
        paths().prop_flat_map(|path| {
            let present = prop::collection::vec((paths(), any::<bool>()), 0..7);
            (present, 1usize..5, Just(path), value_for(path))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn an_edit_changes_its_value_and_nothing_else((present, indent, path, value) in cases()) {
            let dir = tempfile::tempdir().unwrap();
            let top = segments(path).next().unwrap();
            let name = dir.path().join(format!("{top}.yaml"));
            std::fs::write(&name, file(&present, indent)).unwrap();
            let before = Config::load(dir.path()).unwrap();
            let old = std::fs::read_to_string(&name).unwrap();

            apply(dir.path(), &[Assignment { path: path.to_owned(), value: value.clone() }]).unwrap();

            let after = Config::load(dir.path()).unwrap();
            let new = std::fs::read_to_string(&name).unwrap();
            prop_assert_eq!(after.value(path), Some(value.to_string()));
            for path in TEXTS.iter().chain(&LISTS).filter(|other| **other != path) {
                prop_assert_eq!(after.setting(path).map(|s| &s.raw), before.setting(path).map(|s| &s.raw));
            }
            prop_assert_eq!(notes(&old), notes(&new));
            prop_assert_eq!(apply(dir.path(), &[Assignment { path: path.to_owned(), value }]).unwrap(), Vec::<String>::new());
        }
    }
}
