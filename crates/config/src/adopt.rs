//! Taking over the parameters of another node: files are edited in place, as `vsm-config` would, and only if what they
//! then mean as a whole is accepted.

use std::{collections::BTreeMap, path::Path};

use crate::{
    config::Config,
    error::ToolError,
    load::checked,
    problem::LoadError,
    set::{Assignment, Edits},
};

/// Sets and drops parameters in the files of `dir`, all or none; the configuration as it is from then on.
///
/// # Errors
/// If a path or a value is bad, `accept` does not like the outcome, or a file cannot be written or safely edited.
/// Nothing was changed then.
pub fn adopt(
    dir: &Path,
    set: &BTreeMap<String, String>,
    drop: &[String],
    accept: impl FnOnce(&Config) -> Result<(), String>,
) -> Result<Config, ToolError> {
    let edits = Edits::begin(dir)?;
    let (edits, config) = edited(edits, set, drop)?;
    accept(&config).map_err(ToolError::Bad)?;
    edits.commit()?;
    Ok(config)
}

/// What the configuration in `dir` would be with these parameters set and dropped. Nothing is written, and nobody is
/// kept from writing.
///
/// # Errors
/// If a path or a value is bad, or a file cannot be read or safely edited.
pub fn proposed(
    dir: &Path,
    set: &BTreeMap<String, String>,
    drop: &[String],
) -> Result<Config, ToolError> {
    edited(Edits::look(dir)?, set, drop).map(|(_, config)| config)
}

fn edited(
    edits: Edits,
    set: &BTreeMap<String, String>,
    drop: &[String],
) -> Result<(Edits, Config), ToolError> {
    let assignments: Vec<Assignment> =
        set.iter().map(|(path, value)| Assignment::of(path, value)).collect::<Result<_, _>>()?;
    let edits = edits.set(&assignments)?.drop(drop)?;
    let merged = checked(edits.sources());
    if !merged.problems.is_empty() {
        return Err(ToolError::from(LoadError { problems: merged.problems }));
    }
    Ok((edits, Config::of(merged)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn files_come_to_say_what_another_node_means_and_keep_their_comments() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(
            there.path().join("all.yaml"),
            "vsmserver:\n  allowed_groups: [domain users, staff]\n  start_timeout: 1m\n  subclusters:\n    lab: {agents: [a1, a2], users: ann}\n",
        )
        .unwrap();
        fs::write(
            here.path().join("vsmserver.yaml"),
            "vsmserver:\n  # mine\n  login_timeout: 5\n  subclusters:\n    old:\n      agents: a9 # gone\n",
        )
        .unwrap();
        fs::write(here.path().join("z.yaml"), "vsmserver:\n  login_timeout: 7\n").unwrap();
        let (own, other) =
            (Config::load(here.path()).unwrap(), Config::load(there.path()).unwrap());
        let drop: Vec<String> = own
            .effective()
            .into_keys()
            .filter(|path| !other.effective().contains_key(path))
            .collect();
        adopt(here.path(), &other.effective_as_written(), &drop, |_| Ok(())).unwrap();
        let now = Config::load(here.path()).unwrap();
        assert_eq!(now.effective(), other.effective());
        assert_eq!(now.diff(&other), []);
        let text = fs::read_to_string(here.path().join("vsmserver.yaml")).unwrap();
        assert!(text.contains("# mine"), "{text}");
    }

    #[test]
    fn nothing_changes_where_one_thing_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let text = "vsmserver:\n  start_timeout: 5\n";
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        let good = ("/vsmserver/start_timeout", "9");
        let refused = |set: &[(&str, &str)], accept: Result<(), String>| {
            let error = adopt(dir.path(), &map(set), &[], |_| accept).unwrap_err();
            assert_eq!(proposed(dir.path(), &map(set), &[]).is_ok(), set == [good]);
            assert_eq!(fs::read_to_string(dir.path().join("a.yaml")).unwrap(), text);
            error.to_string()
        };
        assert!(refused(&[good, ("/vsmserver/nonsense", "1")], Ok(())).contains("nonsense"));
        assert!(refused(&[good, ("/vsmserver/login_timeout", "-1")], Ok(())).contains("login"));
        assert_eq!(refused(&[good], Err("not like this".to_owned())), "not like this");
    }
}
