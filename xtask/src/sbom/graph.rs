//! What cargo says of the crates: which are linked into which, which only help to build, and where each comes from.
//!
//! `cargo tree` resolves as `cargo build` does: features for the packages that are built together, and apart for what
//! runs on the building host. `cargo metadata` does not (it unites the features of the whole workspace with those of
//! its tests), so it is only asked what a crate is. The checksums are those of `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::command::run;
use crate::compile::{Compiler, cargo_in};
use crate::shipped::CRATES;

/// Name and version: there is one registry, so they are a crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) name: String,
    pub(super) version: String,
}

/// One crate.
#[derive(Debug)]
pub(super) struct Crate {
    /// An SPDX expression; none = its manifest has none.
    pub(super) licence: Option<String>,
    pub(super) description: Option<String>,
    /// SHA-256 of the file from the registry; none = it is of this workspace.
    pub(super) checksum: Option<String>,
    /// Where its sources are on this machine.
    pub(super) folder: PathBuf,
    /// Names of the programs that it has.
    programs: Vec<String>,
}

/// All crates and what each of them uses.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) crates: BTreeMap<Id, Crate>,
    /// What is linked into the programs.
    pub(super) linked: BTreeMap<Id, BTreeSet<Id>>,
    /// The same, with what runs only while they are built: build scripts and macros, and what these use.
    pub(super) all: BTreeMap<Id, BTreeSet<Id>>,
    pub(super) compiler: Compiler,
}

impl Graph {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let compiler = Compiler::of(root)?;
        let checksums = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
        let checksums = lock(&checksums)?;
        let mut ask = cargo_in(root);
        ask.args(["metadata", "--locked", "--format-version", "1", "--filter-platform"]);
        let crates = crates(&run(ask.arg(&compiler.host))?.stdout, &checksums)?;
        let linked = tree(root, "normal,no-proc-macro")?;
        let all = tree(root, "normal,build")?;
        for id in all.keys() {
            ensure!(crates.contains_key(id), "cargo tree names {} {}", id.name, id.version);
        }
        Ok(Self { crates, linked, all, compiler })
    }

    /// The crate that a program is of.
    pub(super) fn crate_of(&self, program: &str) -> Option<Id> {
        let has = |of: &&Crate| of.programs.iter().any(|name| name == program);
        self.crates.iter().find(|(_, of)| has(of)).map(|(id, _)| id.clone())
    }
}

/// The crates that are reached from some of them, with these.
pub(super) fn reached<'a>(
    edges: &'a BTreeMap<Id, BTreeSet<Id>>,
    from: impl IntoIterator<Item = &'a Id>,
) -> BTreeSet<&'a Id> {
    let mut found: BTreeSet<&Id> = from.into_iter().collect();
    let mut open: Vec<&Id> = found.iter().copied().collect();
    while let Some(id) = open.pop() {
        for next in edges.get(id).into_iter().flatten() {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

fn tree(root: &Path, edges: &str) -> Result<BTreeMap<Id, BTreeSet<Id>>> {
    let mut ask = cargo_in(root);
    ask.args(["tree", "--locked", "--charset", "ascii", "--prefix", "depth", "--format", " {p}"]);
    ask.args(["--edges", edges]);
    for package in CRATES {
        ask.args(["--package", package]);
    }
    edges_of(&String::from_utf8(run(&mut ask)?.stdout)?)
}

/// From lines such as `2 tokio v1.54.0 (*)`, where the number is the depth; what is below a crate is printed once.
fn edges_of(text: &str) -> Result<BTreeMap<Id, BTreeSet<Id>>> {
    let mut edges: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let depth = words.next().and_then(|word| word.parse::<usize>().ok());
        let (name, version) = (words.next(), words.next().and_then(|word| word.strip_prefix('v')));
        let (Some(depth), Some(name), Some(version)) = (depth, name, version) else {
            bail!("cargo tree prints {line:?}");
        };
        let id = Id { name: name.to_owned(), version: version.to_owned() };
        ensure!(depth <= above.len(), "cargo tree skips a depth at {line:?}");
        above.truncate(depth);
        edges.entry(id.clone()).or_default();
        if let Some(parent) = above.last() {
            edges.entry(parent.clone()).or_default().insert(id.clone());
        }
        above.push(id);
    }
    ensure!(!edges.is_empty(), "cargo tree prints nothing");
    Ok(edges)
}

/// The checksums of a `Cargo.lock`, of which cargo promises that it writes one value a line.
fn lock(text: &str) -> Result<BTreeMap<Id, String>> {
    let mut found = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let (Some(name), Some(version)) = (value("name"), value("version")) else {
            bail!("Cargo.lock has a package without name or version");
        };
        if let Some(checksum) = value("checksum") {
            found.insert(Id { name, version }, checksum);
        }
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn crates(metadata: &[u8], checksums: &BTreeMap<Id, String>) -> Result<BTreeMap<Id, Crate>> {
    let metadata: Metadata = serde_json::from_slice(metadata).context("cargo metadata")?;
    let mut crates = BTreeMap::new();
    for package in metadata.packages {
        let id = Id { name: package.name, version: package.version };
        let checksum = checksums.get(&id).cloned();
        ensure!(
            checksum.is_some() == package.source.is_some(),
            "{} {}: a crate from elsewhere has a checksum in Cargo.lock, and no other has",
            id.name,
            id.version
        );
        let programs =
            package.targets.into_iter().filter(|of| of.kind.iter().any(|it| it == "bin"));
        let crate_ = Crate {
            // The old way to say `or`, of before SPDX.
            licence: package.license.map(|text| text.replace(" / ", "/").replace('/', " OR ")),
            // Some are broken into lines as their manifest is.
            description: package
                .description
                .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
            checksum,
            folder: package.manifest_path.parent().map(Path::to_path_buf).unwrap_or_default(),
            programs: programs.map(|of| of.name).collect(),
        };
        let name = format!("{} {}", id.name, id.version);
        ensure!(crates.insert(id, crate_).is_none(), "{name} is there twice");
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id { name: name.to_owned(), version: "1.0.0".to_owned() }
    }

    #[test]
    fn what_cargo_prints_is_who_uses_whom() {
        let text = "0 a v1.0.0 (/some/where)\n1 b v1.0.0\n2 c v1.0.0\n1 d v1.0.0 (proc-macro)\n\n\
                    0 e v1.0.0 (/some/where)\n1 b v1.0.0 (*)\n";
        let edges = edges_of(text).unwrap();
        assert_eq!(edges[&id("a")], BTreeSet::from([id("b"), id("d")]));
        assert_eq!(edges[&id("e")], BTreeSet::from([id("b")]));
        assert!(edges[&id("c")].is_empty());
        assert_eq!(reached(&edges, [&id("e")]), BTreeSet::from([&id("b"), &id("c"), &id("e")]));
        assert!(edges_of("").is_err());
        assert!(edges_of("0 a v1.0.0\n2 b v1.0.0\n").is_err());
        assert!(edges_of("warning: something\n").is_err());
    }

    #[test]
    fn a_crate_of_the_registry_has_a_checksum() {
        let text = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n\
                    dependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        assert_eq!(lock(text).unwrap(), BTreeMap::from([(id("a"), "ab".to_owned())]));
        assert!(lock("[[package]]\nname = \"a\"\n").is_err());
        let without =
            br#"{"packages":[{"name":"a","version":"2.0.0","license":"MIT/Zlib","description":null,
            "source":"registry","manifest_path":"/a/Cargo.toml","targets":[]}]}"#;
        assert!(crates(without, &BTreeMap::new()).is_err());
    }
}
