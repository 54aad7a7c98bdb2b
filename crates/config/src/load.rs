//! From a directory of YAML files to one merged, checked configuration, or every problem that they have.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    check,
    config::Setting,
    yaml::{self, Entry},
};

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most configuration files in one directory.
const FILES_MAX: usize = 1000;
/// Most problems that are kept; a file of nonsense should not fill the log.
const PROBLEMS_MAX: usize = 200;

/// Endings of files that are taken for configuration by those who write them.
const MEANT: [&str; 6] = ["yaml", "yml", "json", "conf", "cfg", "hconf"];

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the directory where it cannot be read.
    pub file: PathBuf,
    /// The line, from 1; 0 where there is none to name.
    pub line: usize,
    /// The parameter or folder; empty where the file as a whole is meant.
    pub path: String,
    /// What is wrong, what is allowed, and the nearest known name.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.text)
    }
}

/// Why a configuration was refused: all of its problems, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(PROBLEMS_MAX).enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        match self.problems.len().checked_sub(PROBLEMS_MAX) {
            Some(more) if more > 0 => write!(f, "\n... and {more} more"),
            _ => Ok(()),
        }
    }
}

/// A configuration file and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

/// What the files say together.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
}

/// Reads `*.yaml` in `dir`, in name order.
pub(crate) fn read_dir(dir: &Path) -> Result<Vec<Source>, LoadError> {
    let fail = |file: &Path, error: &dyn fmt::Display| LoadError {
        problems: vec![Problem {
            file: file.to_owned(),
            line: 0,
            path: String::new(),
            text: error.to_string(),
        }],
    };
    let listing = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut files: Vec<PathBuf> = listing
        .map_err(|error| fail(dir, &format!("cannot read the configuration directory: {error}")))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| {
            path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        })
        .collect();
    if files.len() > FILES_MAX {
        return Err(fail(
            dir,
            &format!("has {} YAML files; at most {FILES_MAX} are read", files.len()),
        ));
    }
    files.sort();
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match read_bounded(&file) {
            Ok(text) => sources.push(Source { file, text }),
            Err(error) => {
                problems.extend(fail(&file, &format!("cannot be read: {error}")).problems);
            }
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(LoadError { problems }) }
}

/// Files of `dir` that look as if they were meant to be read, and are not: a line for each.
pub(crate) fn unread(dir: &Path) -> Vec<String> {
    // Who cannot list the directory was told so.
    let Ok(listing) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        listing.flatten().map(|entry| entry.path()).filter(|path| looks_meant(path)).collect();
    files.sort();
    files.truncate(FILES_MAX);
    let line = |file: &PathBuf| {
        format!("{}: is not read, as its name does not end in .yaml", file.display())
    };
    files.iter().map(line).collect()
}

/// By its ending; copies that editors and package managers leave (`.bak`, `.dpkg-old`) and hidden files are not meant.
fn looks_meant(path: &Path) -> bool {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (name, ending) = (text(path.file_name()), text(path.extension()));
    ending != "yaml"
        && MEANT.contains(&ending.to_ascii_lowercase().as_str())
        && !name.starts_with('.')
        && path.is_file()
}

/// The text of a regular file that is not larger than a configuration file may be.
pub(crate) fn read_bounded(file: &Path) -> io::Result<String> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        let text = format!("not a regular file of at most {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    fs::read_to_string(file)
}

/// Merges files in the given order; the later wins, and a note says so.
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
    check::cross(&mut merged);
    merged
}

/// What one file with this text comes to.
#[cfg(test)]
pub(crate) fn merged(text: &str) -> Merged {
    merge(&[Source { file: PathBuf::from("f.yaml"), text: text.to_owned() }])
}
