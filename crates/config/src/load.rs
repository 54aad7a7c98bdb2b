//! From a directory of YAML files to a checked [`Config`], or every problem that they have.

use std::path::Path;

use crate::{
    check,
    config::Config,
    files::{self, Source},
    merge::{Merged, merge},
    problem::LoadError,
};

impl Config {
    /// Reads all `*.yaml` in `dir` in name order, merges and checks them.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, line and path; also where `dir` cannot be read.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let mut merged = checked(&files::read_dir(dir)?);
        if !merged.problems.is_empty() {
            return Err(LoadError { problems: merged.problems });
        }
        merged.unread = files::unread(dir);
        Ok(Self::of(merged))
    }
}

/// What these files say, each judged by itself and all of them together.
pub(crate) fn checked(sources: &[Source]) -> Merged {
    let mut merged = merge(sources);
    check::cross(&mut merged);
    merged
}

/// What one file with this text comes to.
#[cfg(test)]
pub(crate) fn merged(text: &str) -> Merged {
    checked(&[Source { file: "f.yaml".into(), text: text.to_owned() }])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::keys;

    #[test]
    fn a_directory_is_read_in_name_order_and_reports_everything() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.yaml"), "vsm: {vsm_agent_port: 2}\n").unwrap();
        fs::write(dir.path().join("a.yaml"), "vsm: {vsm_agent_port: 1}\n").unwrap();
        for unread in ["c.yml.bak", "c.yaml.dpkg-old", ".c.yml", "d.yml", "e.YAML", "README"] {
            fs::write(dir.path().join(unread), "nonsense: 1\n").unwrap();
        }
        let config = Config::load(dir.path()).unwrap();
        assert_eq!(config.get(&keys::vsm::VSM_AGENT_PORT), 2);
        let wins =
            |note: &String| note.contains("b.yaml:1 wins over ") && note.contains("a.yaml:1");
        assert!(config.notes().iter().any(wins), "{:?}", config.notes());

        let unread: Vec<&str> = config
            .unread()
            .iter()
            .map(|line| line.rsplit_once('/').unwrap().1.split_once(": is not read").unwrap().0)
            .collect();
        assert_eq!(unread, ["d.yml", "e.YAML"]);

        fs::write(dir.path().join("c.yaml"), "vsm:\n  nonsense: 1\n  vsm_agent_port: x\n").unwrap();
        fs::write(dir.path().join("d.yaml"), [0xff, 0xfe]).unwrap();
        assert!(
            Config::load(dir.path()).unwrap_err().to_string().contains("d.yaml: cannot be read")
        );
        fs::remove_file(dir.path().join("d.yaml")).unwrap();
        let error = Config::load(dir.path()).unwrap_err();
        assert_eq!(error.problems.len(), 2);
        assert_eq!(error.to_string().lines().count(), 2);

        let missing = dir.path().join("missing");
        assert!(
            Config::load(&missing).unwrap_err().to_string().starts_with(missing.to_str().unwrap())
        );
    }
}
