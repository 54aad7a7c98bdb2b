//! From the texts of several files to one value for each parameter: the later file wins, and a note says so.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::{
    files::Source,
    problem::Problem,
    value::Value,
    yaml::{self, Entry},
};

/// A value that a file sets, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) raw: Value,
    pub(crate) normal: Value,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What the files say together.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
    /// Files beside them that were not read, a line for each.
    pub(crate) unread: Vec<String>,
}

/// Merges files in the given order. Each is judged by itself; what they are together, [`crate::check`] judges.
pub(crate) fn merge(sources: &[Source]) -> Merged {
    let mut merged = Merged::default();
    for source in sources {
        let parsed = yaml::parse(&source.file, &source.text);
        merged.problems.extend(parsed.problems);
        for Entry { path, raw, normal, line } in parsed.entries {
            let setting = Setting { raw, normal, file: source.file.clone(), line };
            if let Some(earlier) = merged.settings.get(&path) {
                merged.notes.push(format!("{path}: {setting} wins over {earlier}"));
            }
            merged.settings.insert(path, setting);
        }
    }
    merged
}
