//! What is shipped: which packages there are, which crates they are made of, and what a commit says of them. `dist`
//! packs it, `sbom` tells what is in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{command, run};

/// The packages, in an order in which each depends on those before it alone.
pub(crate) const PACKAGES: [&str; 5] =
    ["vsm-common", "vsm-server", "vsm-agent", "vsm-client", "vsm-web"];
/// The crates that have the programs, and the one that makes manual pages from them; they are built together.
pub(crate) const CRATES: [&str; 6] =
    ["vsm-broker", "vsm-root", "vsm-agent", "vsm-cli", "vsm-web", "vsm-manual"];

const FILE: u32 = 0o644;
const RUNNABLE: u32 = 0o755;

/// One line of a package's list, `deploy/packages/NAME/install`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A program with what is made from its command line.
    Program(String),
    /// A script of `deploy/tools` with its manual page.
    Tool(String),
    /// A file of the workspace, or below `made/`; the last part may have one `*`.
    File { source: String, target: String, mode: u32 },
    /// A package of npm's registry, as `npm` pins it, unpacked into a folder.
    Npm { name: String, target: String },
}

/// What the packages of one commit say of themselves.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) version: String,
    /// As dpkg names it: `amd64`.
    pub(crate) architecture: String,
    /// The commit in full; none = there is no git.
    pub(crate) commit: Option<String>,
    /// Time of the commit, in seconds since 1970: what is packed is no newer, so that the same commit gives the same
    /// bytes.
    pub(crate) epoch: i64,
}

impl About {
    /// Asks git and dpkg.
    ///
    /// # Errors
    /// When `SOURCE_DATE_EPOCH` is no time, or there is no dpkg.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let architecture = run(&mut command(&["dpkg", "--print-architecture"]))?.stdout;
        // From an archive without git, who unpacks it says of when it is.
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(given) => given.parse().with_context(|| format!("SOURCE_DATE_EPOCH={given}"))?,
            Err(_) => git(root, &["log", "-1", "--format=%ct"])
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: String::from_utf8(architecture)?.trim().to_owned(),
            commit: git(root, &["rev-parse", "HEAD"]),
            epoch,
        })
    }

    /// The commit as a word.
    pub(crate) fn commit(&self) -> &str {
        self.commit.as_deref().unwrap_or("unknown")
    }

    /// How the document beside a package is called.
    pub(crate) fn sbom(&self, package: &str) -> String {
        format!("{package}_{}_{}.cdx.json", self.version, self.architecture)
    }
}

/// The list of a package; each entry with its place, for errors.
///
/// # Errors
/// When it cannot be read, or a line cannot be understood.
pub(crate) fn list(root: &Path, package: &str) -> Result<Vec<(String, Entry)>> {
    let list = root.join("deploy/packages").join(package).join("install");
    let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{}:{number}", list.display());
        if let Some(entry) = parse(line).with_context(|| place.clone())? {
            entries.push((place, entry));
        }
    }
    Ok(entries)
}

fn parse(line: &str) -> Result<Option<Entry>> {
    let line = line.trim();
    let words: Vec<&str> = line.split_whitespace().collect();
    let file = |source: &str, target: &str, mode| Entry::File {
        source: source.to_owned(),
        target: target.to_owned(),
        mode,
    };
    Ok(match words[..] {
        _ if line.is_empty() || line.starts_with('#') => None,
        ["program", name] => Some(Entry::Program(name.to_owned())),
        ["tool", name] => Some(Entry::Tool(name.to_owned())),
        ["file", source, target] => Some(file(source, target, FILE)),
        ["script", source, target] => Some(file(source, target, RUNNABLE)),
        ["npm", name, target] => {
            Some(Entry::Npm { name: name.to_owned(), target: target.to_owned() })
        }
        _ => bail!(
            "neither `program` or `tool NAME` nor `file`, `script` or `npm SOURCE TARGET`: {line:?}"
        ),
    })
}

/// What git says of a work tree; none = nothing, or there is no git.
pub(crate) fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = command(&["git"]);
    let output = run(git.args(arguments).current_dir(root)).ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_programs_files_and_remarks() {
        assert_eq!(parse("# remark").unwrap(), None);
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("program  vsm").unwrap(), Some(Entry::Program("vsm".to_owned())));
        let wanted = Entry::File { source: "a".to_owned(), target: "b/".to_owned(), mode: 0o755 };
        assert_eq!(parse("script a b/").unwrap(), Some(wanted));
        let wanted = Entry::Npm { name: "@a/b".to_owned(), target: "c/".to_owned() };
        assert_eq!(parse("npm @a/b c/").unwrap(), Some(wanted));
        assert!(parse("file a").is_err());
        assert!(parse("folder a b").is_err());
    }
}
