//! Which files of a directory are hooks: what runs as root must be root's alone to change.

use std::{fs, io, path::Path};

use vsm_daemon::program::{self, Untrusted};
use vsm_root::message::is_hook_name;

/// Hooks of one directory; more are a mistake, and each makes every login wait.
const PROGRAMS_MAX: usize = 64;

/// Why a hook is not run.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Directory(#[from] io::Error),
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("its name has other characters than letters, digits, _ and -")]
    Name,
    #[error("there are more than {PROGRAMS_MAX} of them")]
    TooMany,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Their names, in order.
    pub(super) programs: Vec<String>,
    /// What is not run, each with its path and the reason.
    pub(super) skipped: Vec<String>,
}

/// Looks into a directory of hooks. One that is not there is one without hooks.
pub(super) fn find(dir: &Path) -> Found {
    let mut found = Found::default();
    let mut names = match names(dir) {
        Ok(names) => names,
        Err(why) => {
            found.skipped.push(format!("{}: {why}", dir.display()));
            return found;
        }
    };
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let why = if found.programs.len() < PROGRAMS_MAX {
            check(&path, &name).err()
        } else {
            Some(Unfit::TooMany)
        };
        match why {
            None => found.programs.push(name),
            Some(why) => found.skipped.push(format!("{}: {why}", path.display())),
        }
    }
    found
}

fn names(dir: &Path) -> Result<Vec<String>, Unfit> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // What editors and packages leave, and what keeps a directory in a repository.
        if name.as_encoded_bytes().first() != Some(&b'.') {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    if names.is_empty() {
        return Ok(names);
    }
    program::check_directory(dir)?;
    Ok(names)
}

/// Whether a file may be run; why not. See [`program`]; the helper looks at it again when it runs it.
fn check(path: &Path, name: &str) -> Result<(), Unfit> {
    if !is_hook_name(name) {
        return Err(Unfit::Name);
    }
    Ok(program::check(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn programs_of_root_are_run_in_name_order_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["20-second", "10-first", "Z_last"] {
            file(&at(name), 0o755);
        }
        file(&at("30-note.sh"), 0o755);
        file(&at("40-text"), 0o644);
        file(&at("50-open"), 0o775);
        file(&at(".hidden"), 0o755);
        fs::create_dir(at("60-folder")).unwrap();
        symlink("nowhere", at("70-dangling")).unwrap();
        let found = find(dir.path());
        assert_eq!(found.programs, ["10-first", "20-second", "Z_last"]);
        let reasons = ["characters", "not executable", "others may write", "not a file", "No such"];
        assert_eq!(found.skipped.len(), reasons.len(), "{:?}", found.skipped);
        for (skipped, reason) in found.skipped.iter().zip(reasons) {
            assert!(skipped.contains(reason), "{skipped}: no {reason}");
        }
    }

    #[test]
    fn a_directory_or_a_target_that_others_write_to_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let (hooks, open) = (dir.path().join("hooks"), dir.path().join("open"));
        for path in [&hooks, &open] {
            fs::create_dir(path).unwrap();
        }
        file(&hooks.join("own"), 0o700);
        file(&open.join("target"), 0o700);
        symlink(open.join("target"), hooks.join("linked")).unwrap();
        assert_eq!(find(&hooks).programs.len(), 2, "a link to a file of root's");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let found = find(&hooks);
        assert_eq!(found.programs, ["own"]);
        assert!(found.skipped[0].contains("the directory that it is in"), "{:?}", found.skipped);
        fs::set_permissions(&hooks, fs::Permissions::from_mode(0o777)).unwrap();
        let found = find(&hooks);
        assert_eq!((found.programs.len(), found.skipped.len()), (0, 1));
        assert_eq!(find(&dir.path().join("none")).skipped, [""; 0]);
    }
}
