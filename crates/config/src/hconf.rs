//! Reading `.hconf` trees: INI-like text where `[/folder]` opens a folder, `key = value` sets a parameter in
//! it, `#` begins a comment, and `%mount FILE` or `%mount GLOB` grafts other files at that folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::files::read_bounded;

/// How deep files may mount files.
const DEPTH_MAX: usize = 8;
/// How many files one tree may have.
const FILES_MAX: usize = 500;

/// A parameter of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) value: String,
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: usize,
}

/// Reads a tree.
///
/// # Errors
/// One line with file, line and reason.
pub(crate) fn read(file: &Path) -> Result<Vec<Entry>, String> {
    let mut tree = Tree::default();
    tree.mount(file, "", 0).map_err(|text| format!("{}: {text}", file.display()))?;
    Ok(tree.entries)
}

/// The tree of one file's text, which mounts others from where `file` is.
///
/// # Errors
/// As [`read`].
#[cfg(feature = "fuzzing")]
pub(crate) fn parse(file: &Path, text: &str) -> Result<Vec<Entry>, String> {
    let mut tree = Tree::default();
    tree.lines(file, text, "", 0)?;
    Ok(tree.entries)
}

#[derive(Default)]
struct Tree {
    entries: Vec<Entry>,
    files: usize,
}

impl Tree {
    fn mount(&mut self, file: &Path, at: &str, depth: usize) -> Result<(), String> {
        self.files += 1;
        if depth > DEPTH_MAX || self.files > FILES_MAX {
            return Err(format!(
                "mounts more than {DEPTH_MAX} deep or more than {FILES_MAX} files"
            ));
        }
        let text = read_bounded(file).map_err(|error| error.to_string())?;
        self.lines(file, &text, at, depth)
    }

    fn lines(&mut self, file: &Path, text: &str, at: &str, depth: usize) -> Result<(), String> {
        let mut folder = at.to_owned();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim().trim_start_matches('\u{feff}');
            let place = |text: &str| format!("{}:{}: {text}", file.display(), i + 1);
            if line.is_empty() || line.starts_with('#') {
            } else if let Some(target) = line.strip_prefix("%mount") {
                for mounted in targets(file, target.trim()).map_err(|text| place(&text))? {
                    self.mount(&mounted, &folder, depth + 1)
                        .map_err(|text| place(&format!("%mount {}: {text}", mounted.display())))?;
                }
            } else if let Some(name) =
                line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            {
                folder = format!("{at}/{}", name.trim().trim_matches('/'));
                folder.truncate(folder.trim_end_matches('/').len());
            } else if let Some((key, value)) = line.split_once('=') {
                let path = format!("{folder}/{}", key.trim());
                self.entries.push(Entry {
                    path,
                    value: value.trim().to_owned(),
                    file: file.to_owned(),
                    line: i + 1,
                });
            } else {
                return Err(place("is neither a folder, nor key = value, nor %mount"));
            }
        }
        Ok(())
    }
}

/// The files that a `%mount` names, in name order; a pattern may name none.
fn targets(file: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let full = file.parent().unwrap_or_else(|| Path::new(".")).join(pattern);
    let name = full.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if pattern.is_empty() || name.is_empty() {
        return Err("%mount names no file".to_owned());
    }
    if !name.contains(['*', '?']) {
        return Ok(vec![full]);
    }
    let dir = full.parent().unwrap_or_else(|| Path::new("."));
    let listing = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut found: Vec<PathBuf> = listing
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let own = path.file_name().and_then(|own| own.to_str());
            path.is_file()
                && own.is_some_and(|own| {
                    !own.starts_with('.') && matches(name.as_bytes(), own.as_bytes())
                })
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Whether `text` fits a pattern with `*` and `?`; linear, with one place to go back to.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b) if *b == b'?' || *b == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_mounted_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        write("root.hconf", "# top\n[/product]\n%mount conf.d/*.hconf\n[/other]\nk=v\n");
        write("conf.d/b.hconf", "[/vsm]\nport = 1\n");
        write("conf.d/a.hconf", "top = x = y\n[/]\nsecond=2\n");
        let got: Vec<(String, String)> = read(&dir.path().join("root.hconf"))
            .unwrap()
            .into_iter()
            .map(|e| (e.path, e.value))
            .collect();
        let want = [
            ("/product/top", "x = y"),
            ("/product/second", "2"),
            ("/product/vsm/port", "1"),
            ("/other/k", "v"),
        ];
        assert_eq!(got, want.map(|(p, v)| (p.to_owned(), v.to_owned())));
    }

    #[test]
    fn loops_missing_files_and_nonsense_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.hconf");
        for (text, say) in [
            ("%mount a.hconf\n", "mounts more than 8 deep"),
            ("%mount no.hconf\n", "a.hconf:1: "),
            ("x\n", "a.hconf:1: is neither"),
        ] {
            fs::write(&file, text).unwrap();
            let error = read(&file).unwrap_err();
            assert!(error.contains(say), "{error}");
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("*.hconf", "a.hconf", true),
            ("*.hconf", "a.hconf.bak", false),
            ("a?c*", "abc", true),
            ("*a*b", "xaab", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
