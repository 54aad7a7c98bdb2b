//! The files of a configuration directory, as texts: which of them are read, and how large they may be.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::problem::{LoadError, Problem};

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most configuration files in one directory.
const FILES_MAX: usize = 1000;
/// Endings of files that are taken for configuration by those who write them.
const MEANT: [&str; 6] = ["yaml", "yml", "json", "conf", "cfg", "hconf"];

/// A configuration file and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
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

/// What shows that a file of a directory is another one than before: its number, size and time of change.
pub type Looks = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

/// How the files look that are read.
///
/// # Errors
/// If the directory cannot be read.
pub fn looks(dir: &Path) -> io::Result<Looks> {
    let is_config = |path: &PathBuf| path.extension().is_some_and(|it| it == "yaml");
    let files = fs::read_dir(dir)?.filter_map(Result::ok).map(|entry| entry.path());
    Ok(files
        .filter(is_config)
        .filter_map(|path| {
            let found = fs::metadata(&path).ok()?;
            Some((path, (found.ino(), found.size(), found.ctime(), found.ctime_nsec())))
        })
        .collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_size_looks_different() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("a.yaml"), dir.path().join("a.yaml.new"));
        fs::write(&file, "a: 1").unwrap();
        let before = looks(dir.path()).unwrap();
        fs::write(&new, "a: 2").unwrap();
        assert_eq!(looks(dir.path()).unwrap(), before, "only .yaml counts");
        fs::rename(&new, &file).unwrap();
        assert_ne!(looks(dir.path()).unwrap(), before);
        assert!(looks(&dir.path().join("missing")).is_err());
    }
}
