//! C libraries that lie in crates as source and are linked with them: a vulnerability is told of SQLite, and not of the
//! crate that has it.

use std::fs;

use anyhow::{Context, Result};

use super::graph::{Crate, Id};

/// One such library.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) licence: &'static str,
    /// How vulnerability databases name it, up to the version; none = they do not.
    pub(super) cpe: Option<&'static str>,
}

/// The library in a crate, if there is one that has a version of its own. (What ring has of `BoringSSL` has none: it
/// is ring.)
pub(super) fn library(id: &Id, of: &Crate) -> Result<Option<Library>> {
    Ok(match id.name.as_str() {
        "libsqlite3-sys" => {
            let header = of.folder.join("sqlite3/sqlite3.h");
            let text = fs::read_to_string(&header).with_context(|| header.display().to_string())?;
            let version = sqlite(&text).with_context(|| header.display().to_string())?;
            let cpe = Some("cpe:2.3:a:sqlite:sqlite");
            Some(Library { name: "sqlite", version, licence: "blessing", cpe })
        }
        "tikv-jemalloc-sys" => {
            let version = jemalloc(&id.version).context("a version of tikv-jemalloc-sys")?;
            Some(Library { name: "jemalloc", version, licence: "BSD-2-Clause", cpe: None })
        }
        _ => None,
    })
}

/// `#define SQLITE_VERSION "3.54.1"`.
fn sqlite(header: &str) -> Option<String> {
    let line = header.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "))?;
    Some(line.trim().trim_matches('"').to_owned())
}

/// `0.6.1+5.3.0-1-ge13ca99…` is 5.3.0 and one commit.
fn jemalloc(version: &str) -> Option<String> {
    Some(version.split_once('+')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_librarys() {
        let header = "/* x */\n#define SQLITE_VERSION        \"3.54.1\"\n#define SQLITE_VERSION_NUMBER 3054001\n";
        assert_eq!(sqlite(header).unwrap(), "3.54.1");
        assert_eq!(jemalloc("0.6.1+5.3.0-1-ge13").unwrap(), "5.3.0-1-ge13");
        assert_eq!(jemalloc("0.6.1"), None);
    }
}
